"""Means and their 95 % bootstrap intervals over people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


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
