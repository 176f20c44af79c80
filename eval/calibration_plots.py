"""Pictures and a table of a calibration: similarity and acceptance against coverage, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from calibration_fit import column, expected, side_of


def write_plots(values: Mapping[str, Any], rows: Sequence[Mapping[str, str]], output: Path) -> None:
    """similarity.png, acceptance.png, reliability.png and calibration.md in OUTPUT."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    threshold = values["encoders"]["sface"]["threshold"]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for method in dict.fromkeys(r["method"] for r in values["curve"]):
        own = [r for r in values["curve"] if r["method"] == method]
        x = np.array([(r["from"] + r["to"]) / 2 for r in own])
        mean = np.array([r["mean"] for r in own])
        spread = [mean - [r["low"] for r in own], np.array([r["high"] for r in own]) - mean]
        axes.errorbar(x, mean, yerr=np.clip(np.nan_to_num(spread), 0, None), marker="o", capsize=2, label=method)
    axes.axhline(threshold, color="k", linestyle=":", label=f"threshold {threshold:.2f}")
    axes.set(xlabel="hidden share of the facial features", ylabel="SFace similarity to other photos")
    _save(figure, axes, output / "similarity.png")

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for strategy, sides in values["acceptance"].items():
        for side, curve in sides.items():
            (line,) = axes.plot(curve["coverage"], curve["probability"], label=f"{strategy}, {side.replace('_', ' ')}")
            axes.fill_between(curve["coverage"], curve["low"], curve["high"], alpha=0.15, color=line.get_color())
    axes.set(xlabel="hidden share of the facial features", ylabel="accepted as the same person", ylim=(0, 1.02))
    _save(figure, axes, output / "acceptance.png")

    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for strategy, sides in values["acceptance"].items():
        for side, curve in sides.items():
            own = [r for r in rows if r["method"].partition("+")[0] == strategy and side_of(r["method"]) == side]
            if not own:
                continue
            stated = expected(own, curve)
            accepted = column(own, "independent") >= threshold
            parts = np.array_split(np.argsort(stated), min(5, len(own)))
            points = [(stated[p].mean(), accepted[p].mean()) for p in parts if p.size]
            axes.plot(*np.array(points).T, marker="o", label=f"{strategy}, {side.replace('_', ' ')}")
    axes.set(xlabel="expected acceptance", ylabel="accepted")
    _save(figure, axes, output / "reliability.png")
    plt.close("all")
    (output / "calibration.md").write_text(markdown(values), encoding="utf-8")


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def markdown(values: Mapping[str, Any]) -> str:
    """The curve as a table, with where it comes from."""
    made = values["made"]
    lines = [
        f"Calibration of {made['date']}, commit {made['commit'][:10]}: {made['data']}; {made['restorations']} rows.",
        "",
    ]
    lines += [
        "| method | hidden | images | similarity [95 %] | 10th percentile | accepted | untouched |",
        "|---" * 7 + "|",
    ]
    for r in values["curve"]:
        lines.append(
            f"| {r['method']} | {100 * r['from']:.0f}-{100 * r['to']:.0f} % | {r['images']} | {r['mean']:.3f} "
            f"[{r['low']:.3f}, {r['high']:.3f}] | {r['percentile_10']:.3f} | {100 * r['accepted']:.0f} % | "
            f"{r['untouched_mean']:.3f} |"
        )
    return "\n".join(lines) + "\n"
