"""From the benchmark's rows to means, bootstrap intervals over people and tables beside Telea."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import BenchmarkConfig

ANCHOR = "telea"
# column: (heading, decimals, how it is compared with the anchor)
METRICS = {
    "psnr_hole": ("PSNR hole (dB)", 2, "difference"),
    "psnr": ("PSNR (dB)", 2, "difference"),
    "ssim_hole": ("SSIM hole", 3, "difference"),
    "ssim": ("SSIM", 4, "difference"),
    "lpips_alex": ("LPIPS-alex", 4, "ratio"),
    "lpips_alex_hole": ("LPIPS-alex hole", 3, "ratio"),
    "lpips_vgg": ("LPIPS-vgg", 4, "ratio"),
    "identity_original": ("identity to original", 3, "difference"),
    "identity_other": ("identity to other photos", 3, "difference"),
}
PLAIN = {"identity_other_ceiling": ("of the original", 3), "detected": ("detected", 3), "seconds": ("s/image", 2)}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def read_rows(path: Path) -> list[dict[str, str]]:
    """Whole rows of a CSV that may end in the middle of a line (the run was interrupted)."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    return [row for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()) if None not in row.values()]


def resample_weights(people: list[str], count: int, seed: int = 0) -> np.ndarray:
    """[count, N] how often each row counts when people (not photos) are drawn with replacement."""
    names, inverse = np.unique(people, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return draws[:, inverse].astype(np.float64)


def _weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[N] values, NaN left out, under [R, N] weights -> [R] means."""
    valid = np.isfinite(values)
    total = weights[:, valid].sum(axis=1)
    return (weights[:, valid] @ values[valid]) / np.where(total > 0, total, np.nan)


def _interval(samples: np.ndarray, value: float) -> Estimate:
    if not np.isfinite(samples).any():
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def estimate(values: np.ndarray, people: list[str], count: int) -> Estimate:
    """Mean of [N] values over images, its interval over people."""
    ones = np.ones((1, len(values)))
    mean = float(_weighted_means(values, ones)[0])
    return _interval(_weighted_means(values, resample_weights(people, count)), mean)


def compare(values: np.ndarray, anchor: np.ndarray, people: list[str], count: int, kind: str) -> Estimate:
    """Difference or ratio of two means over the same images, paired: both see the same resampled people."""
    weights = np.concatenate([np.ones((1, len(values))), resample_weights(people, count)])
    a, b = _weighted_means(values, weights), _weighted_means(anchor, weights)
    both = a - b if kind == "difference" else a / np.where(b > 0, b, np.nan)
    return _interval(both[1:], float(both[0]))


def select_rows(rows: list[dict[str, str]], config: BenchmarkConfig) -> dict[tuple[str, str], list[dict[str, str]]]:
    """(bin, method) -> rows in index order, of what the config asks for."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {(b, m): [] for b in config.bins for m in config.methods}
    for row in sorted(rows, key=lambda r: int(r["index"])):
        key = (row["bin"], row["method"])
        if key in groups and int(row["index"]) < config.max_images:
            groups[key].append(row)
    return {key: value for key, value in groups.items() if value}


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def summarise(rows: list[dict[str, str]], config: BenchmarkConfig) -> list[dict[str, object]]:
    """One record per bin, method and metric: mean, interval, and the comparison with the anchor where it was run."""
    groups, records = select_rows(rows, config), []
    for (bin_name, method), own in groups.items():
        people = [row["person"] for row in own]
        anchor = groups.get((bin_name, ANCHOR), []) if method != ANCHOR else []
        paired = [row["index"] for row in anchor] == [row["index"] for row in own]
        for metric in (*METRICS, *PLAIN):
            values = _column(own, metric)
            record: dict[str, object] = {"bin": bin_name, "method": method, "metric": metric}
            record |= {"images": len(own), "people": len(set(people))}
            record["mean"] = estimate(values, people, config.bootstrap)
            record["kind"], record["against"] = "", None
            if paired and metric in METRICS:
                record["kind"] = METRICS[metric][2]
                other = _column(anchor, metric)
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


def _cell(value: Estimate | None, decimals: int, sign: str = "") -> str:
    if value is None or not np.isfinite(value.value):
        return "-"
    return f"{value.value:{sign}.{decimals}f} [{value.low:{sign}.{decimals}f}, {value.high:{sign}.{decimals}f}]"


def markdown(records: list[dict[str, object]], config: BenchmarkConfig) -> str:
    """Two tables a bin: the means, and each method beside Telea."""
    lines = [
        "Mean [95 % bootstrap interval over people]. LPIPS-vgg was never trained on; a face that YuNet misses "
        "counts as identity 0.",
        "",
    ]
    for bin_name in config.bins:
        of_bin = [r for r in records if r["bin"] == bin_name]
        methods = list(dict.fromkeys(r["method"] for r in of_bin))
        if not methods:
            continue
        table = {(r["method"], r["metric"]): r for r in of_bin}
        first = of_bin[0]
        lines += [f"### Hole {bin_name} %: {first['images']} photos, {first['people']} people", ""]
        heads = [METRICS[m][0] for m in METRICS] + ["not detected", "s/image"]
        lines += [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for method in methods:
            cells = [_cell(table[method, m]["mean"], METRICS[m][1]) for m in METRICS]
            detected = table[method, "detected"]
            cells.append(str(round(detected["images"] * (1 - detected["mean"].value))))
            cells.append(f"{table[method, 'seconds']['mean'].value:.2f}")
            lines.append(f"| {method} | {' | '.join(cells)} |")
        ceiling = _cell(table[methods[0], "identity_other_ceiling"]["mean"], 3)
        lines += ["", f"The untouched originals score {ceiling} to the same other photos.", ""]
        lines += _against_table(table, methods)
    return "\n".join(lines)


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
            cells.append(_cell(table[method, metric]["against"], 2 if ratio else decimals, "" if ratio else "+"))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return [*lines, ""]


def write_summary(output: Path, config: BenchmarkConfig) -> Path:
    """Write summary.csv and table.md from OUTPUT/rows.csv; returns the table's path."""
    records = summarise(read_rows(output / "rows.csv"), config)
    write_csv(output / "summary.csv", records)
    path = output / "table.md"
    path.write_text(markdown(records, config) + "\n", encoding="utf-8")
    return path
