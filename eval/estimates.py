"""Means and their 95 % bootstrap intervals over people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A value with its 95 % bootstrap interval; `f"{estimate:.2f}"` is `value [low, high]`."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        value, low, high = (format(v, spec) for v in self)
        return f"{value} [{low}, {high}]"

    def rounded(self, decimals: int = 4) -> list[float]:
        """For JSON."""
        return [round(float(v), decimals) for v in self]


UNKNOWN = Estimate(*[float("nan")] * 3)


def resample_weights(people: Sequence[str], count: int, seed: int = 0) -> np.ndarray:
    """[count, N] how often each row counts when people (not photos) are drawn with replacement."""
    names, inverse = np.unique(np.asarray(people, dtype=str), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return draws[:, inverse].astype(np.float64)


def _weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[N] values, NaN left out, under [R, N] weights -> [R] means."""
    valid = np.isfinite(values)
    total = weights[:, valid].sum(axis=1)
    return (weights[:, valid] @ values[valid]) / np.where(total > 0, total, np.nan)


def interval(samples: np.ndarray, value: float) -> Estimate:
    """A value with the 95 % range of its bootstrap samples, NaN left out."""
    if not np.isfinite(samples).any():
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def estimate(values: np.ndarray, people: Sequence[str], count: int) -> Estimate:
    """Mean of [N] values over images, its interval over people."""
    values = np.asarray(values, np.float64)
    mean = float(_weighted_means(values, np.ones((1, len(values))))[0])
    return interval(_weighted_means(values, resample_weights(people, count)), mean)


def compare(values: np.ndarray, anchor: np.ndarray, people: Sequence[str], count: int, kind: str) -> Estimate:
    """Difference or ratio of two means over the same images, paired: both see the same resampled people."""
    weights = np.concatenate([np.ones((1, len(values))), resample_weights(people, count)])
    a, b = (_weighted_means(np.asarray(side, np.float64), weights) for side in (values, anchor))
    both = a - b if kind == "difference" else a / np.where(b > 0, b, np.nan)
    return interval(both[1:], float(both[0]))
