"""Rows as pandas tables, Markdown tables, and what all figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from estimates import Estimate
from run_store import read_rows

# Columns of rows that are words; person numbers such as 0042 are too.
TEXT = ("method", "bin", "person", "photo", "mask", "hidden", "decision", "others", "arm", "case", "kind", "component")
TEXT += ("window", "real", "chosen", "weights", "split", "damage", "strategy", "verdict", "taken_from", "stranger")


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows (of a CSV, all text) with numbers in the columns that are not TEXT; NaN where a number is missing."""
    table = pd.DataFrame(list(rows))
    for name in table.columns.difference(TEXT):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def read_frame(path: Path) -> pd.DataFrame:
    """frame of a rows.csv, which may end in the middle of a line; empty when it is not there."""
    return frame(read_rows(path))


def column(rows: pd.DataFrame, name: str) -> np.ndarray:
    """[N] float64; NaN where rows of an older run lack the column."""
    return rows[name].to_numpy(np.float64) if name in rows else np.full(len(rows), np.nan)


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> list[str]:
    """Its lines."""
    rows = ["|" + "".join(f" {value} |" if value != "" else " |" for value in line) for line in (head, *lines)]
    return [rows[0], "|---" * len(head) + "|", *rows[1:]]


def cell(value: Estimate | None, decimals: int, sign: str = "") -> str:
    """`value [low, high]`, or - for none."""
    return "-" if value is None or not np.isfinite(value[0]) else f"{value:{sign}.{decimals}f}"


def percent(value: Sequence[float] | None) -> str:
    """`value % [low, high]` of shares, or - for none."""
    return "-" if value is None else f"{100 * value[0]:.1f} % [{100 * value[1]:.1f}, {100 * value[2]:.1f}]"


def spread(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[2, ...] lengths of error bars, 0 where an end is unknown."""
    return np.clip(np.nan_to_num([np.subtract(value, low), np.subtract(high, value)]), 0, None)


def pyplot() -> Any:
    """matplotlib.pyplot, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save_figure(figure: Any, axes: Any, path: Path) -> None:
    """As a PNG, with a legend where lines have names."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot().close(figure)
