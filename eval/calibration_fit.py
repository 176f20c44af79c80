"""The fits behind calibration.json: threshold at a false-accept rate, acceptance against coverage, reliability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from estimates import estimate, interval, resample_weights
from tables import column

from idinpaint.judging.calibration import effective_coverage

GRID = np.round(np.arange(0.0, 0.8001, 0.05), 2)  # coverages at which curves are stored
BIN = 0.05
PARTLY = np.round(np.arange(1.0, -0.01, -0.05), 2)  # tried in this order: of equals the most careful
RIDGE = 1e-2  # keeps the logistic fit finite when all cases of a sample go one way


def rows_of(rows: pd.DataFrame, strategy: str, side: str) -> pd.DataFrame:
    """Those of a strategy, without_references or with_references."""
    return rows[(rows["method"].str.partition("+")[0] == strategy) & (rows["method"].map(side_of) == side)]


def threshold_at(genuine: np.ndarray, impostor: np.ndarray, far: float) -> dict[str, Any]:
    """The lowest cosine at which at most `far` of the impostor pairs pass, and what passes of the genuine ones."""
    threshold = float(np.nextafter(np.quantile(impostor, 1 - far, method="higher"), 2.0))
    return {
        "threshold": round(threshold, 4),
        "false_accept_rate": far,
        "genuine_accept_rate": round(float((genuine >= threshold).mean()), 4),
        "genuine_pairs": int(genuine.size),
        "impostor_pairs": int(impostor.size),
    }


def newton(design: np.ndarray, y: np.ndarray, ridge: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """[K] coefficients of a logistic regression with a penalty: design [N, K], y [N] 0 or 1, ridge [K]."""
    beta, penalty = np.zeros(design.shape[1]), np.diag(ridge)
    for _ in range(60):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        hessian = design.T @ (design * (weights * np.maximum(p * (1 - p), 1e-9))[:, None]) + penalty
        step = np.linalg.solve(hessian, design.T @ (weights * (y - p)) - penalty @ beta)
        beta = beta + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-8:
            break
    return beta


def fit_logistic(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(intercept, slope) of P(y = 1) = 1 / (1 + exp(-(a + b x))), b <= 0: Newton's method with a ridge on b.

    x: [N] coverages; y: [N] 0 or 1; weights: [N] how often each case counts.
    """
    w = np.ones_like(x) if weights is None else weights
    beta = newton(np.column_stack([np.ones_like(x), x]), y, np.array([RIDGE, RIDGE]), w)
    if beta[1] > 0:  # more damage cannot help: the best fit that does not say so is a constant
        rate = np.clip((w @ y) / max(w.sum(), 1e-9), 1e-3, 1 - 1e-3)
        beta = np.array([np.log(rate / (1 - rate)), 0.0])
    return beta


def probability(beta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """P(accepted) at coverages x."""
    return 1 / (1 + np.exp(-np.clip(beta[0] + beta[1] * np.asarray(x), -30, 30)))


def _surprise(x: np.ndarray, y: np.ndarray) -> float:
    """Negative log likelihood of the best logistic curve."""
    p = np.clip(probability(fit_logistic(x, y), x), 1e-9, 1 - 1e-9)
    return -float((y * np.log(p) + (1 - y) * np.log(1 - p)).sum())


def effective(rows: pd.DataFrame, partly: float) -> np.ndarray:
    """[N] effective_coverage of rows."""
    return effective_coverage(column(rows, "coverage"), column(rows, "whole"), partly)


def expected(rows: pd.DataFrame, curve: Mapping[str, Any]) -> np.ndarray:
    """[N] what a curve says of rows."""
    return np.interp(effective(rows, curve.get("partly", 1.0)), curve["coverage"], curve["probability"])


def acceptance_curve(rows: pd.DataFrame, threshold: float, draws: int) -> dict[str, Any]:
    """Acceptance against coverage on GRID up to the largest coverage seen, 95 % intervals over people. partly: as of
    effective_coverage, whatever of PARTLY makes the rows likeliest."""
    x, y = column(rows, "coverage"), (column(rows, "independent") >= threshold).astype(float)
    grid = GRID[GRID <= max(float(x.max()), BIN) + BIN / 2]
    partly = min(PARTLY, key=lambda share: _surprise(effective(rows, share), y))
    x = effective(rows, partly)
    fits = [probability(fit_logistic(x, y, w), grid) for w in resample_weights(rows["person"], draws)]
    low, high = np.percentile(fits, [2.5, 97.5], axis=0)
    beta = fit_logistic(x, y)
    return {
        "method": "logistic",
        "intercept": round(float(beta[0]), 4),
        "slope": round(float(beta[1]), 4),
        "partly": float(partly),
        "images": len(rows),
        "coverage": grid.tolist(),
        "probability": np.round(probability(beta, grid), 4).tolist(),
        "low": np.round(low, 4).tolist(),
        "high": np.round(high, 4).tolist(),
    }


def bin_rows(rows: pd.DataFrame, threshold: float, draws: int) -> list[dict[str, Any]]:
    """Similarity to other photos in coverage bins of 5 %: mean with interval, 10th percentile, acceptance."""
    place, records = np.floor(rows["coverage"] / BIN).astype(int), []
    for method, own in rows.groupby("method", sort=False):
        for index, group in own.groupby(place):
            values = column(group, "independent")
            mean = estimate(values, group["person"], draws).rounded()
            records.append({
                "method": method, "from": round(index * BIN, 2), "to": round((index + 1) * BIN, 2),
                "images": len(group), **dict(zip(("mean", "low", "high"), mean)),
                "percentile_10": round(float(np.percentile(values, 10)), 4),
                "accepted": round(float((values >= threshold).mean()), 4),
                "untouched_mean": round(float(column(group, "original").mean()), 4),
            })  # fmt: skip
    return records


def calibration_error(expected: np.ndarray, accepted: np.ndarray, bins: int = 5) -> float:
    """Expected calibration error: |mean expectation - share accepted| over bins of equal count, weighted by count."""
    order = np.argsort(expected, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if part.size]
    return float(sum(part.size * abs(expected[part].mean() - accepted[part].mean()) for part in parts) / len(order))


def reliability(rows: pd.DataFrame, curves: Mapping[str, Mapping[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """For each curve: how well its probabilities hold on rows, which may be those of other people than it was fit on.

    ece: of the curve given; ece_unseen_people: the curve refit without the person it is asked about.
    """
    found = []
    for strategy, sides in curves.items():
        for side, curve in sides.items():
            own = rows_of(rows, strategy, side)
            if own.empty:
                continue
            x, stated = effective(own, curve.get("partly", 1.0)), expected(own, curve)
            y = (column(own, "independent") >= threshold).astype(float)
            people = own["person"].to_numpy(str)
            left_out = np.empty_like(x)
            for name in np.unique(people):
                inner = people == name
                left_out[inner] = probability(fit_logistic(x[~inner], y[~inner]), x[inner]) if not inner.all() else 0.5
            found.append({
                "strategy": strategy, "references": side, "images": len(own),
                "ece": round(calibration_error(stated, y), 4),
                "ece_unseen_people": round(calibration_error(left_out, y), 4),
                "expected_mean": round(float(stated.mean()), 4), "accepted_mean": round(float(y.mean()), 4),
            })  # fmt: skip
    return found


def side_of(method: str) -> str:
    """without_references or with_references, by the method's name."""
    return "with_references" if "+" in method else "without_references"


def coverage_error(rows: pd.DataFrame) -> dict[str, Any]:
    """How far the face's coverage moves by landmark error, in shares of the features.

    interval_mean: width of the 90 % range when the predicted points jitter by their own error. From the untouched
    photo's landmarks to those predicted under the mask (NaN where the masks are natural): mean_difference (signed),
    mean_absolute, percentile_95.
    """
    own = rows.drop_duplicates(["person", "photo", "mask"], keep="last")
    found: dict[str, Any] = {"images": len(own), "interval_mean": round(float(own["interval"].mean()), 4)}
    off = column(own, "coverage") - column(own, "drawn")
    off = off[np.isfinite(off)]
    if len(off):
        found |= {"mean_difference": round(float(off.mean()), 4), "mean_absolute": round(float(np.abs(off).mean()), 4),
                  "percentile_95": round(float(np.percentile(np.abs(off), 95)), 4)}  # fmt: skip
    return found


def likeness_limits(rows: pd.DataFrame, kept: float, draws: int) -> dict[str, dict[str, float]]:
    """By method, the coverage up to which a painted face keeps the share `kept` of its likeness to the person's other
    photos, against the untouched photo's own: with low and high, a 95 % interval over people.

    Invention begins where it no longer does. In coverage bins of 5 %, falling (the running minimum), linear between
    their centres; the last centre where it never falls so far.
    """
    found = {}
    for method, own in rows.groupby("method", sort=False):
        place = np.floor(column(own, "coverage") / BIN).astype(int)
        bins = np.unique(place)
        inside = (place[:, None] == bins).astype(float)  # (N, bins)
        after, before = column(own, "independent"), column(own, "original")

        def limit(weights: np.ndarray, after=after, before=before, inside=inside, bins=bins) -> float:
            whole = (weights * before) @ inside
            seen = whole > 0
            share = np.minimum.accumulate(((weights * after) @ inside)[seen] / whole[seen])
            curve = {"coverage": ((bins + 0.5) * BIN)[seen], "share": share}
            return _falls_under(curve, "share", kept)

        samples = [limit(w) for w in resample_weights(own["person"], draws)]
        value = interval(np.array(samples), limit(np.ones(len(own))))
        found[method] = dict(zip(("at", "low", "high"), value.rounded(3)))
    return found


def propose(
    curves: Mapping[str, Mapping[str, Any]], settled: float, likeness: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """Thresholds that follow: where the expected acceptance falls under `settled`, by strategy.

    at_coverage: where the curve falls under it, and where the lower end of its interval does (the careful reading,
    from which colour is taken, with references); measured_to when it never does. likeness: of likeness_limits. Its
    limit for telea, which invents nothing, is `low`; that for the diffusion, from which on it invents, `stop`.
    """
    crossing = {
        f"{strategy} {side}": {
            "expected": _falls_under(curve, "probability", settled),
            "surely": _falls_under(curve, "low", settled),
            "measured_to": curve["coverage"][-1],
        }
        for strategy, sides in curves.items()
        for side, curve in sides.items()
    }
    own = crossing.get("diffusion without_references")
    helped = crossing.get("diffusion with_references", own)
    found: dict[str, Any] = {"acceptance_falls_under": settled, "at_coverage": crossing}
    if own and helped:
        found |= {"stop": own["surely"], "colour": max(own["surely"], helped["surely"])}
    if likeness:
        found["likeness_kept_to"] = dict(likeness)
        if own and {"telea", "diffusion"} <= set(likeness):
            found["stop"] = min(found["stop"], likeness["diffusion"]["at"])
            found["low"] = min(found["stop"], likeness["telea"]["at"])
    return found


def _falls_under(curve: Mapping[str, Any], key: str, settled: float) -> float:
    """The coverage at which a falling curve crosses `settled`, linear between the points of the grid."""
    values, grid = np.array(curve[key]), np.array(curve["coverage"])
    below = np.flatnonzero(values < settled)
    if not below.size:
        return float(grid[-1])
    if below[0] == 0:
        return float(grid[0])
    a, b = below[0] - 1, below[0]
    share = (values[a] - settled) / (values[a] - values[b])
    return round(float(grid[a] + share * (grid[b] - grid[a])), 3)
