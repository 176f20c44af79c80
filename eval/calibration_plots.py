"""Pictures and a table of a calibration: similarity and acceptance against coverage, reliability."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from calibration_fit import expected, rows_of
from command import write_text
from estimates import Estimate
from tables import column, markdown_table, pyplot, save_figure, spread


def write_plots(values: Mapping[str, Any], rows: pd.DataFrame, output: Path) -> None:
    """similarity.png, acceptance.png, reliability.png and calibration.md in OUTPUT."""
    plt, threshold = pyplot(), values["encoders"]["sface"]["threshold"]
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for method in dict.fromkeys(r["method"] for r in values["curve"]):
        own = [r for r in values["curve"] if r["method"] == method]
        x = np.array([(r["from"] + r["to"]) / 2 for r in own])
        mean, low, high = ([r[name] for r in own] for name in ("mean", "low", "high"))
        axes.errorbar(x, mean, yerr=spread(mean, low, high), marker="o", capsize=2, label=method)
    axes.axhline(threshold, color="k", linestyle=":", label=f"threshold {threshold:.2f}")
    axes.set(xlabel="hidden share of the facial features", ylabel="SFace similarity to other photos")
    save_figure(figure, axes, output / "similarity.png")

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for strategy, sides in values["acceptance"].items():
        for side, curve in sides.items():
            (line,) = axes.plot(curve["coverage"], curve["probability"], label=f"{strategy}, {side.replace('_', ' ')}")
            axes.fill_between(curve["coverage"], curve["low"], curve["high"], alpha=0.15, color=line.get_color())
    axes.set(xlabel="hidden share of the facial features", ylabel="accepted as the same person", ylim=(0, 1.02))
    save_figure(figure, axes, output / "acceptance.png")

    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for strategy, sides in values["acceptance"].items():
        for side, curve in sides.items():
            own = rows_of(rows, strategy, side)
            if own.empty:
                continue
            stated = expected(own, curve)
            accepted = column(own, "independent") >= threshold
            parts = np.array_split(np.argsort(stated), min(5, len(own)))
            points = [(stated[p].mean(), accepted[p].mean()) for p in parts if p.size]
            axes.plot(*np.array(points).T, marker="o", label=f"{strategy}, {side.replace('_', ' ')}")
    axes.set(xlabel="expected acceptance", ylabel="accepted")
    save_figure(figure, axes, output / "reliability.png")
    write_text(output / "calibration.md", markdown(values))


def markdown(values: Mapping[str, Any]) -> str:
    """The curve as a table, with where it comes from."""
    made, lines = values["made"], []
    for r in values["curve"]:
        hidden = f"{100 * r['from']:.0f}-{100 * r['to']:.0f} %"
        value = Estimate(r["mean"], r["low"], r["high"])
        shares = (f"{r['percentile_10']:.3f}", f"{100 * r['accepted']:.0f} %", f"{r['untouched_mean']:.3f}")
        lines.append([r["method"], hidden, r["images"], f"{value:.3f}", *shares])
    head = ("method", "hidden", "images", "similarity [95 %]", "10th percentile", "accepted", "untouched")
    said = f"Calibration of {made['date']}, commit {made['commit'][:10]}: {made['data']}; {made['restorations']} rows."
    return "\n".join([said, "", *markdown_table(head, lines)]) + "\n"
