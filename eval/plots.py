"""The report's figures as PNG bytes: Okabe-Ito colours, and a marker that no other method of the colour has."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from estimates import estimate
from slices import COVERAGE_EDGES
from summary import LOWER_IS_BETTER, column, heading

# Okabe and Ito (2008): told apart with any colour blindness; black first, the yellow left out (faint on paper).
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h")  # 11 and 7 colours: 77 methods told apart
DASHES = ("-", "--", "-.", ":")
Rows = Sequence[Mapping[str, str]]
LEAST_IMAGES = 3  # a point of a curve


def style(index: int) -> dict[str, Any]:
    """Line style of the index-th method."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.8}


def curve(
    rows: Rows, x_name: str, metric: str, edges: Sequence[float], draws: int
) -> list[tuple[float, float, float, float]]:
    """(mean x, mean, low, high) of the metric in each bin of x that holds enough rows."""
    x, y = column(rows, x_name), column(rows, metric)
    points = []
    for low, high in zip(edges, edges[1:]):
        inside = (x >= low) & (x < high) & np.isfinite(y)
        if inside.sum() >= LEAST_IMAGES:
            value = estimate(y[inside], [r["person"] for r, i in zip(rows, inside) if i], draws)
            points.append((float(x[inside].mean()), value.value, value.low, value.high))
    return points


def curves_figure(groups: Mapping[str, Rows], metrics: Sequence[str], draws: int) -> bytes:
    """A panel a metric against feature coverage (hole ratio where coverage is unknown), a line a method."""
    plt = _pyplot()
    first = next(iter(groups.values()))
    by_coverage = bool(np.isfinite(column(first, "coverage")).any())
    x_name, edges = ("coverage", COVERAGE_EDGES) if by_coverage else ("hole_ratio", np.arange(0, 0.71, 0.1))
    figure, panels = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 3.8), squeeze=False)
    for axes, metric in zip(panels[0], metrics):
        for index, (method, rows) in enumerate(groups.items()):
            points = np.array(curve(rows, x_name, metric, edges, draws)).reshape(-1, 4)
            if not len(points):
                continue
            x, mean, low, high = points.T
            spread = np.clip(np.nan_to_num([mean - low, high - mean]), 0, None)
            beside = 0.35 * (index - (len(groups) - 1) / 2)  # per cent: overlapping bars stay apart
            axes.errorbar(100 * x + beside, mean, yerr=spread, capsize=2, label=method, **style(index))
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        axes.set_xlabel("hidden share of the facial features, %" if by_coverage else "hole, % of the picture")
        axes.set_ylabel(f"{heading(metric)[0]} ({better} is better)")
        axes.grid(alpha=0.3)
    if "identity_other" in metrics:
        panels[0][list(metrics).index("identity_other")].axhline(
            float(np.nanmean(column(first, "identity_other_ceiling"))), color="grey", linestyle=":", linewidth=1
        )
    return _png(figure, panels[0][0])


def frontier_figure(groups: Mapping[str, Rows], metrics: Sequence[str], draws: int) -> bytes | None:
    """Metric against seconds an image (log), a point a method; None when no method has seconds."""
    seconds = {m: float(np.nanmean(s)) for m, r in groups.items() if np.isfinite(s := column(r, "seconds")).any()}
    if not seconds:
        return None
    plt = _pyplot()
    figure, panels = plt.subplots(1, len(metrics), figsize=(4.6 * len(metrics), 3.8), squeeze=False)
    for axes, metric in zip(panels[0], metrics):
        for index, (method, rows) in enumerate(groups.items()):
            if method not in seconds:
                continue
            value = estimate(column(rows, metric), [r["person"] for r in rows], draws)
            spread = np.clip(np.nan_to_num([[value.value - value.low], [value.high - value.value]]), 0, None)
            look = style(index) | {"linestyle": "none"}
            axes.errorbar([seconds[method]], [value.value], yerr=spread, capsize=2, markersize=8, label=method, **look)
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        axes.set(xscale="log", xlabel="seconds an image", ylabel=f"{heading(metric)[0]} ({better} is better)")
        axes.grid(alpha=0.3, which="both")
    return _png(figure, panels[0][0])


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _png(figure: Any, panel: Any) -> bytes:
    """The figure with the panel's legend below, where it hides no point."""
    figure.tight_layout()
    handles, labels = panel.get_legend_handles_labels()
    columns = min(6, len(labels))
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=columns, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    _pyplot().close(figure)
    return file.getvalue()
