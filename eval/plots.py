"""The report's figures as PNG bytes: Okabe-Ito colours, and a marker that no other method of the colour has."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from estimates import estimate
from metrics import better_word, heading
from slices import COVERAGE_EDGES
from tables import column, pyplot, spread

# Okabe and Ito (2008): told apart with any colour blindness; black first, the yellow left out (faint on paper).
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")  # 11 and 7 colours: 77 methods told apart
DASHES = ("-", "--", "-.", ":")
Groups = Mapping[str, pd.DataFrame]  # method -> rows
LEAST_IMAGES = 3  # a point of a curve


def style(index: int) -> dict[str, Any]:
    """Line style of the index-th method."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.8}


def curve(rows: pd.DataFrame, x_name: str, metric: str, edges: Sequence[float], draws: int) -> np.ndarray:
    """[K, 4] (mean x, mean, low, high) of the metric in each bin of x that holds enough rows."""
    x, y, points = column(rows, x_name), column(rows, metric), []
    for low, high in zip(edges, edges[1:]):
        inside = (x >= low) & (x < high) & np.isfinite(y)
        if inside.sum() >= LEAST_IMAGES:
            points.append((x[inside].mean(), *estimate(y[inside], rows["person"][inside], draws)))
    return np.array(points).reshape(-1, 4)


def curves_figure(groups: Groups, metrics: Sequence[str], draws: int) -> bytes:
    """A panel a metric against feature coverage (hole ratio where coverage is unknown), a line a method."""
    first = next(iter(groups.values()))
    by_coverage = bool(np.isfinite(column(first, "coverage")).any())
    x_name, edges = ("coverage", COVERAGE_EDGES) if by_coverage else ("hole_ratio", np.arange(0, 0.71, 0.1))
    figure, panels = _panels(metrics)
    for axes, metric in zip(panels, metrics):
        for index, (method, rows) in enumerate(groups.items()):
            points = curve(rows, x_name, metric, edges, draws)
            if len(points):
                x, mean, low, high = points.T
                beside = 0.35 * (index - (len(groups) - 1) / 2)  # per cent: overlapping bars stay apart
                bars = spread(mean, low, high)
                axes.errorbar(100 * x + beside, mean, yerr=bars, capsize=2, label=method, **style(index))
        axes.set_xlabel("hidden share of the facial features, %" if by_coverage else "hole, % of the picture")
        axes.grid(alpha=0.3)
        if metric == "identity_other":
            ceiling = float(np.nanmean(column(first, "identity_other_ceiling")))
            axes.axhline(ceiling, color="grey", linestyle=":", linewidth=1)
    return _png(figure, panels[0])


def frontier_figure(groups: Groups, metrics: Sequence[str], draws: int) -> bytes | None:
    """Metric against seconds an image (log), a point a method; None when no method has seconds."""
    seconds = {m: float(np.nanmean(s)) for m, r in groups.items() if np.isfinite(s := column(r, "seconds")).any()}
    if not seconds:
        return None
    figure, panels = _panels(metrics)
    for axes, metric in zip(panels, metrics):
        for index, (method, rows) in enumerate(groups.items()):
            if method in seconds:
                value = estimate(column(rows, metric), rows["person"], draws)
                bars = spread(*np.array(value)[:, None])
                look = style(index) | {"linestyle": "none", "markersize": 8, "capsize": 2, "label": method}
                axes.errorbar([seconds[method]], [value.value], yerr=bars, **look)
        axes.set(xscale="log", xlabel="seconds an image")
        axes.grid(alpha=0.3, which="both")
    return _png(figure, panels[0])


def _panels(metrics: Sequence[str]) -> tuple[Any, Sequence[Any]]:
    """(figure, its panels in a row), each with its metric's name and which way is better."""
    figure, panels = pyplot().subplots(1, len(metrics), figsize=(4.6 * len(metrics), 3.8), squeeze=False)
    for axes, metric in zip(panels[0], metrics):
        axes.set_ylabel(f"{heading(metric)[0]} ({better_word(metric)} is better)")
    return figure, panels[0]


def _png(figure: Any, panel: Any) -> bytes:
    """The figure with the panel's legend below, where it hides no point."""
    figure.tight_layout()
    handles, labels = panel.get_legend_handles_labels()
    columns = min(6, len(labels))
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=columns, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    pyplot().close(figure)
    return file.getvalue()
