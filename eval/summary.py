"""From the benchmark's rows and features to means, bootstrap intervals over people and tables beside Telea."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cases import BenchmarkConfig, same_person
from command import write_text
from estimates import Estimate, compare, estimate
from metrics import COMPARED, GROUPS, SCORED, TABLE, PictureSet, heading, score_set
from run_store import ORIGINALS, Features, RunFolder
from tables import cell, column, frame, markdown_table

from idinpaint.types import InputError

ANCHOR = "telea"
ALL_BINS = "all"  # the bin of all bins together
Record = dict[str, Any]
NUMBERS = ("mean", "low", "high", "against_value", "against_low", "against_high")


def hole_title(bin_name: str, other: str = "") -> str:
    """`10-20 %` of a bin of irregular masks, else its name (after `other`)."""
    return f"{bin_name} %" if bin_name[0].isdigit() and "@" not in bin_name else f"{other}{bin_name}"


def group_rows(rows: pd.DataFrame, config: BenchmarkConfig) -> dict[tuple[str, str], pd.DataFrame]:
    """(bin, method) -> rows in index order, of what the config asks for; for several bins also one of ALL_BINS a
    method, of the methods that every bin has."""
    if rows.empty:
        return {}
    rows = rows[rows["index"] < config.max_images].sort_values("index", kind="stable")
    found = {key: own for key, own in rows.groupby(["bin", "method"])}
    groups = {key: found[key] for key in itertools.product(config.bins, config.methods) if key in found}
    bins = list(dict.fromkeys(key[0] for key in groups))
    for method in dict.fromkeys(key[1] for key in groups) if len(bins) > 1 else ():
        if all((name, method) in groups for name in bins):
            groups[ALL_BINS, method] = pd.concat([groups[name, method] for name in bins])
    return groups


def case_of(row: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Names of a row's features: of the filled picture, of its original, of the person's other photos."""
    shift = row["bin"].partition("@")[2]
    original = f"{row['person']}/{row['photo']}" + (f"@{shift}" if shift else "")
    others = [f"{row['person']}/{name}" for name in row["others"].split("|") if name]
    return f"{row['bin']}_{int(row['index']):04d}", original, others


def set_records(
    rows: pd.DataFrame, features: Features, originals: Features, draws: int, same: Mapping[str, str] | None = None
) -> dict[str, Estimate]:
    """The set metrics of one method's rows; those whose features are there. same: person -> name to count under."""
    scores: dict[str, Estimate] = {}
    for kind in ("inception", "sface"):
        own = []
        for row in rows.to_dict("records"):
            case, original, others = case_of(row)
            if kind in features.get(case, {}) and kind in originals.get(original, {}):
                vectors = [originals[o][kind] for o in others if kind in originals.get(o, {})]
                vectors = [v for v in vectors if np.any(v)] if kind == "sface" else []
                own.append((originals[original][kind], features[case][kind], row["person"], vectors))
        if len(own) < 3:
            continue
        real, fake = (np.stack([case[i] for case in own]).astype(np.float64) for i in (0, 1))
        people = [(same or {}).get(case[2], case[2]) for case in own]
        others = [np.array(case[3], np.float64).reshape(-1, real.shape[1]) for case in own]
        scores |= score_set(PictureSet(real, fake, people, others, draws), kind)
    return scores


def summarise(run: RunFolder, config: BenchmarkConfig) -> list[Record]:
    """One record per bin, method and metric: mean, interval, and the comparison with the anchor where it was run."""
    groups, records = group_rows(frame(run.rows.values()), config), []
    same = same_person() if config.photos is None else {}
    for (bin_name, method), own in groups.items():
        people, anchor = own["person"].tolist(), groups.get((bin_name, ANCHOR))
        keys = ["bin", "index"]
        paired = method != ANCHOR and anchor is not None and np.array_equal(anchor[keys], own[keys])
        sets = set_records(own, run.of(method), run.of(ORIGINALS), config.bootstrap, same)
        for metric in (name for name in TABLE if name in SCORED or name in sets):
            record: Record = {"bin": bin_name, "method": method, "metric": metric, "images": len(own)}
            record |= {"people": len(set(people)), "kind": "", "against": None}
            values = None if metric in sets else column(own, metric)
            record["mean"] = sets[metric] if values is None else estimate(values, people, config.bootstrap)
            if values is not None and paired and TABLE[metric].against:
                record["kind"] = TABLE[metric].against
                other = column(anchor, metric)
                record["against"] = compare(values, other, people, config.bootstrap, record["kind"])
            records.append(record)
    return records


def write_csv(path: Path, records: Sequence[Record]) -> None:
    """summary.csv: long form, one line per bin, method and metric."""
    keys = ["bin", "method", "metric", "images", "people"]
    table = pd.DataFrame(records, columns=[*keys, "kind", "mean", "against"])
    lines = table[keys].assign(against_telea=table["kind"])
    for name, source, place in zip(NUMBERS, ["mean"] * 3 + ["against"] * 3, (0, 1, 2) * 2):
        lines[name] = [f"{value[place]:.6f}" if value is not None else "" for value in table[source]]
    order = [*keys, *NUMBERS[:3], "against_telea", *NUMBERS[3:]]
    write_text(path, lines[order].to_csv(index=False, lineterminator="\n"))


def read_summary(run: Path) -> pd.DataFrame:
    """RUN/summary.csv, a row a (bin, method, metric). Raises InputError when there is none."""
    path = run / "summary.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run eval/benchmark.py with that folder as --output first")
    words = {"bin": str, "method": str, "metric": str}
    return pd.read_csv(path, dtype=words).set_index(list(words)).reindex(columns=["images", "people", *NUMBERS])


def summary_cell(summary: pd.DataFrame, key: tuple[str, str, str], least: int = 0) -> str:
    """`mean [low, high]` of a line of the summary with at least so many decimals, - for none."""
    if key not in summary.index:
        return "-"
    return cell(Estimate(*summary.loc[[key], list(NUMBERS[:3])].iloc[0]), max(heading(key[2])[1], least))


def pairs_of(summary: pd.DataFrame) -> list[tuple[str, str]]:
    """(bin, method) in the file's order."""
    return list(dict.fromkeys(key[:2] for key in summary.index))


def markdown(records: Sequence[Record], config: BenchmarkConfig) -> str:
    """Per bin a table of the picture, of the person, of the set and the cost, and each method beside Telea."""
    lines = [
        "Mean [95 % bootstrap interval over people]. LPIPS-vgg was never trained on; a face that YuNet misses "
        "counts as identity 0. FID and U-IDS of so few photos compare methods of this run only.",
        "",
    ]
    for bin_name in (*config.bins, ALL_BINS):
        of_bin = [r for r in records if r["bin"] == bin_name]
        methods = list(dict.fromkeys(r["method"] for r in of_bin))
        if not methods:
            continue
        table = {(r["method"], r["metric"]): r for r in of_bin}
        title = f"All: {', '.join(config.bins)}" if bin_name == ALL_BINS else hole_title(bin_name, "Masks ")
        title = f"Hole {title}" if title == f"{bin_name} %" else title
        lines += [f"### {title}: {of_bin[0]['images']} cases, {of_bin[0]['people']} people", ""]
        for name, metrics in GROUPS.items():
            lines += [*means_table(name, table, methods, metrics), ""]
        lines += [_ceilings(table, methods[0]), "", *_against_table(table, methods)]
    return "\n".join(lines)


def means_table(
    name: str, table: Mapping[tuple[str, str], Record], methods: Sequence[str], metrics: Sequence[str]
) -> list[str]:
    """Markdown lines: a row a method; metrics that nobody has are left out."""

    def mean(method: str, metric: str) -> str:
        return cell(table.get((method, metric), {}).get("mean"), heading(metric)[1])

    shown = [m for m in metrics if any(mean(method, m) != "-" for method in methods)]
    lines = [[method, *(mean(method, m) for m in shown)] for method in methods]
    heads = [name, *(heading(m)[0] for m in shown)]
    if name == "Person":
        heads.append("not detected")
        for line in lines:
            detected = table[line[0], "detected"]
            line.append(str(round(detected["images"] * (1 - detected["mean"].value))))
    return markdown_table(heads, lines)


def _ceilings(table: Mapping[tuple[str, str], Record], method: str) -> str:
    def mean(metric: str, decimals: int = 3) -> str:
        return cell(table[method, metric]["mean"], decimals)

    text = f"The untouched originals score {mean('identity_other_ceiling')} to the same other photos"
    if (method, "tar_ceiling") in table:
        text += f", TAR {mean('tar_ceiling')}, recognised {mean('recognised_ceiling')}"
    if (method, "identity_auc") in table:
        text += f"; real pairs of one person against pairs of two: AUC {mean('identity_auc', 4)}"
    return text + "."


def _against_table(table: Mapping[tuple[str, str], Record], methods: Sequence[str]) -> list[str]:
    lines = []
    for method in methods:
        if table[method, "psnr_hole"]["against"] is not None:
            ways = {m: (2, "") if TABLE[m].against == "ratio" else (TABLE[m].decimals, "+") for m in COMPARED}
            lines.append([method, *(cell(table[method, m]["against"], *way) for m, way in ways.items())])
    heads = [f"{TABLE[m].title} {'x' if TABLE[m].against == 'ratio' else '±'}" for m in COMPARED]
    return [*markdown_table([f"beside {ANCHOR} (x ratio, ± difference)", *heads], lines), ""] if lines else []


def write_summary(run: RunFolder, config: BenchmarkConfig) -> Path:
    """Write summary.csv and table.md into the run's folder; returns the table's path."""
    records = summarise(run, config)
    write_csv(run.folder / "summary.csv", records)
    path = run.folder / "table.md"
    write_text(path, markdown(records, config) + "\n")
    return path
