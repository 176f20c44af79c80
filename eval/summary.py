"""From the benchmark's rows and features to means, bootstrap intervals over people and tables beside Telea."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cases import BenchmarkConfig, same_person
from estimates import Estimate, compare, estimate
from run_store import ORIGINALS, Features, RunFolder
from set_metrics import score_identity_sets, score_sets

ANCHOR = "telea"
ALL_BINS = "all"  # the bin of all bins together
# column: (heading, decimals, how it is compared with the anchor)
METRICS = {
    "psnr_hole": ("PSNR hole (dB)", 2, "difference"),
    "psnr": ("PSNR (dB)", 2, "difference"),
    "ssim_hole": ("SSIM hole", 3, "difference"),
    "ssim": ("SSIM", 4, "difference"),
    "ms_ssim": ("MS-SSIM", 4, "difference"),
    "ms_ssim_hole": ("MS-SSIM hole", 3, "difference"),
    "lpips_alex": ("LPIPS-alex", 4, "ratio"),
    "lpips_alex_hole": ("LPIPS-alex hole", 3, "ratio"),
    "lpips_vgg": ("LPIPS-vgg", 4, "ratio"),
    "lpips_vgg_hole": ("LPIPS-vgg hole", 3, "ratio"),
    "seam_error": ("seam error (grey levels)", 2, "difference"),
    "identity_original": ("identity to original", 3, "difference"),
    "identity_other": ("identity to other photos", 3, "difference"),
    "landmark_error": ("landmark error in the hole (%)", 2, "difference"),
}
PLAIN = {
    "identity_other_ceiling": ("of the original", 3),
    "detected": ("detected", 3),
    "diversity": ("diversity", 3),
    "seconds": ("s/image", 2),
    "peak_mb": ("peak memory (MB)", 0),
}
SETS = {
    "fid": ("FID", 2),
    "kid": ("KID", 4),
    "id_fid": ("ID-FID", 3),
    "u_ids": ("U-IDS", 3),
    "p_ids": ("P-IDS", 3),
    "tar": ("TAR at FAR 0.1 %", 3),
    "recognised": ("recognised", 3),
}
LOWER_IS_BETTER = {"lpips_alex", "lpips_alex_hole", "lpips_vgg", "lpips_vgg_hole", "seam_error", "landmark_error"}
LOWER_IS_BETTER |= {"fid", "kid", "id_fid", "seconds", "peak_mb"}
TABLES = {
    "Picture": ("psnr", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg"),
    "Hole": ("psnr_hole", "ssim_hole", "ms_ssim_hole", "lpips_alex_hole", "lpips_vgg_hole"),
    "Person": ("identity_original", "identity_other", "tar", "recognised", "landmark_error", "seam_error"),
    "Set and cost": ("fid", "kid", "id_fid", "u_ids", "p_ids", "diversity", "seconds", "peak_mb"),
}
Rows = Sequence[Mapping[str, str]]


def heading(metric: str) -> tuple[str, int]:
    """(heading, decimals) of any metric."""
    return {**METRICS, **PLAIN, **SETS}[metric][:2]


def select_rows(rows: Rows, config: BenchmarkConfig) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """(bin, method) -> rows in index order, of what the config asks for."""
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {(b, m): [] for b in config.bins for m in config.methods}
    for row in sorted(rows, key=lambda r: int(r["index"])):
        key = (row["bin"], row["method"])
        if key in groups and int(row["index"]) < config.max_images:
            groups[key].append(row)
    return {key: value for key, value in groups.items() if value}


def with_all(
    groups: dict[tuple[str, str], list[Mapping[str, str]]],
) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """The groups, and for several bins a further one of ALL_BINS a method, of the methods that every bin has."""
    bins = list(dict.fromkeys(key[0] for key in groups))
    whole = {
        (ALL_BINS, method): [row for name in bins for row in groups[name, method]]
        for method in dict.fromkeys(key[1] for key in groups)
        if all((name, method) in groups for name in bins)
    }
    return groups | (whole if len(bins) > 1 else {})


def column(rows: Rows, name: str) -> np.ndarray:
    """[N] float64; NaN where a row of an older run lacks the column."""
    return np.array([float(row.get(name) or "nan") for row in rows])


def case_of(row: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """Names of a row's features: of the filled picture, of its original, of the person's other photos."""
    shift = row["bin"].partition("@")[2]
    original = f"{row['person']}/{row['photo']}" + (f"@{shift}" if shift else "")
    others = [f"{row['person']}/{name}" for name in row.get("others", "").split("|") if name]
    return f"{row['bin']}_{int(row['index']):04d}", original, others


def set_records(
    rows: Rows, features: Features, originals: Features, draws: int, same: Mapping[str, str] | None = None
) -> dict[str, Estimate]:
    """The set metrics of one method's rows; those whose features are there. same: person -> name to count under."""
    scores: dict[str, Estimate] = {}
    for kind in ("inception", "sface"):
        own = []
        for row in rows:
            case, original, others = case_of(row)
            if kind in features.get(case, {}) and kind in originals.get(original, {}):
                vectors = [originals[o][kind] for o in others if kind in originals.get(o, {})]
                vectors = [v for v in vectors if np.any(v)] if kind == "sface" else []
                own.append((originals[original][kind], features[case][kind], row["person"], vectors))
        if len(own) < 3:
            continue
        real, fake = (np.stack([case[i] for case in own]).astype(np.float64) for i in (0, 1))
        people = [(same or {}).get(case[2], case[2]) for case in own]
        if kind == "inception":
            scores |= score_sets(real, fake, people, draws)
        else:
            others = [np.array(case[3], np.float64).reshape(-1, real.shape[1]) for case in own]
            scores |= score_identity_sets(real, fake, people, others, draws)
    return scores


def summarise(run: RunFolder, config: BenchmarkConfig) -> list[dict[str, object]]:
    """One record per bin, method and metric: mean, interval, and the comparison with the anchor where it was run."""
    groups, records = with_all(select_rows(list(run.rows.values()), config)), []
    same = same_person() if config.photos is None else {}
    for (bin_name, method), own in groups.items():
        people = [row["person"] for row in own]
        anchor = groups.get((bin_name, ANCHOR), []) if method != ANCHOR else []
        paired = [(row["bin"], row["index"]) for row in anchor] == [(row["bin"], row["index"]) for row in own]
        sets = set_records(own, run.of(method), run.of(ORIGINALS), config.bootstrap, same)
        for metric in (*METRICS, *PLAIN, *sets):
            record: dict[str, object] = {"bin": bin_name, "method": method, "metric": metric}
            record |= {"images": len(own), "people": len(set(people)), "kind": "", "against": None}
            if metric in sets:
                record["mean"] = sets[metric]
            else:
                values = column(own, metric)
                record["mean"] = estimate(values, people, config.bootstrap)
                if paired and metric in METRICS:
                    record["kind"] = METRICS[metric][2]
                    other = column(anchor, metric)
                    record["against"] = compare(values, other, people, config.bootstrap, METRICS[metric][2])
            records.append(record)
    return records


def write_csv(path: Path, records: list[dict[str, object]]) -> None:
    """summary.csv: long form, one line per bin, method and metric."""
    names = ("bin", "method", "metric", "images", "people", "mean", "low", "high")
    against = ("against_telea", "against_value", "against_low", "against_high")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*names, *against))
        for record in records:
            line = [record[name] for name in names[:5]] + _numbers(record["mean"])
            writer.writerow([*line, record["kind"], *_numbers(record["against"])])


def _numbers(value: Estimate | None) -> list[str]:
    return ["", "", ""] if value is None else [f"{v:.6f}" for v in (value.value, value.low, value.high)]


def cell(value: Estimate | None, decimals: int, sign: str = "") -> str:
    """`value [low, high]`, or - for none."""
    if value is None or not np.isfinite(value.value):
        return "-"
    return f"{value.value:{sign}.{decimals}f} [{value.low:{sign}.{decimals}f}, {value.high:{sign}.{decimals}f}]"


def markdown(records: list[dict[str, object]], config: BenchmarkConfig) -> str:
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
        first = of_bin[0]
        title = f"Hole {bin_name} %" if bin_name[0].isdigit() and "@" not in bin_name else f"Masks {bin_name}"
        title = f"All: {', '.join(config.bins)}" if bin_name == ALL_BINS else title
        lines += [f"### {title}: {first['images']} cases, {first['people']} people", ""]
        for name, metrics in TABLES.items():
            lines += [*means_table(name, table, methods, metrics), ""]
        lines += [_ceilings(table, methods[0]), "", *_against_table(table, methods)]
    return "\n".join(lines)


def means_table(
    name: str, table: Mapping[tuple[str, str], dict[str, object]], methods: Sequence[str], metrics: Sequence[str]
) -> list[str]:
    """Markdown lines: a row a method; metrics that nobody has are left out."""

    def known(method: str, metric: str) -> bool:
        return (method, metric) in table and np.isfinite(table[method, metric]["mean"].value)

    shown = [m for m in metrics if any(known(method, m) for method in methods)]
    heads = [heading(m)[0] for m in shown] + (["not detected"] if name == "Person" else [])
    lines = [f"| {name} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for method in methods:
        cells = [cell(table[method, m]["mean"], heading(m)[1]) if known(method, m) else "-" for m in shown]
        if name == "Person":
            detected = table[method, "detected"]
            cells.append(str(round(detected["images"] * (1 - detected["mean"].value))))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def _ceilings(table: Mapping[tuple[str, str], dict[str, object]], method: str) -> str:
    text = (
        f"The untouched originals score {cell(table[method, 'identity_other_ceiling']['mean'], 3)} to the same other "
    )
    text += "photos"
    if (method, "tar_ceiling") in table:
        text += f", TAR {cell(table[method, 'tar_ceiling']['mean'], 3)}"
        text += f", recognised {cell(table[method, 'recognised_ceiling']['mean'], 3)}"
    if (method, "identity_auc") in table:
        text += f"; real pairs of one person against pairs of two: AUC {cell(table[method, 'identity_auc']['mean'], 4)}"
    return text + "."


def _against_table(table: dict[tuple[str, str], dict[str, object]], methods: list[str]) -> list[str]:
    compared = [m for m in methods if table[m, "psnr_hole"]["against"] is not None]
    if not compared:
        return []
    heads = [f"{head} {'x' if kind == 'ratio' else '±'}" for head, _, kind in METRICS.values()]
    lines = [f"| beside {ANCHOR} (x ratio, ± difference) | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for method in compared:
        cells = []
        for metric, (_, decimals, kind) in METRICS.items():
            ratio = kind == "ratio"
            cells.append(cell(table[method, metric]["against"], 2 if ratio else decimals, "" if ratio else "+"))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return [*lines, ""]


def write_summary(run: RunFolder, config: BenchmarkConfig) -> Path:
    """Write summary.csv and table.md into the run's folder; returns the table's path."""
    records = summarise(run, config)
    write_csv(run.folder / "summary.csv", records)
    path = run.folder / "table.md"
    path.write_text(markdown(records, config) + "\n", encoding="utf-8")
    return path
