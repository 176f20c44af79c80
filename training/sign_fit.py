"""The logistic model over the signs of believability, its limits, and how well one sign tells real from painted."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from idinpaint.faces.features import WHOLE
from idinpaint.judging.believability import KINDS


def fit_signs(rows: dict[str, list], real_accepted: float) -> tuple[dict, dict]:
    """(weights, limits) a feature: a logistic model of the signs, and the numbers below which 1 - real_accepted of the
    real ones lie, of those hidden in part and whole; too few rows of a feature are filled up with those of all."""
    everything = [row for some in rows.values() for row in some]
    weights, limits = {}, {}
    for name in KINDS:
        some = rows[name] if len(rows[name]) >= 60 else everything
        x = torch.tensor(np.array([row[0] for row in some]), dtype=torch.float64)
        y = torch.tensor([float(row[1]) for row in some], dtype=torch.float64)
        mean, scale = x.mean(0), x.std(0).clamp(min=1e-3)
        w = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

        def closure(x=x, y=y, mean=mean, scale=scale, w=w, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            logit = w[0] + ((x - mean) / scale) @ w[1:]
            loss = F.binary_cross_entropy_with_logits(logit, y) + 0.01 * (w[1:] ** 2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        plain = (w[1:] / scale).detach()
        whole = [float(w[0].detach() - (plain * mean).sum()), *map(float, plain)]
        numbers = torch.sigmoid(whole[0] + x @ plain)
        weights[name] = [round(v, 5) for v in whole]
        whole = torch.tensor([row[2] >= WHOLE for row in some])
        limits[name] = [
            round(float(torch.quantile(few if len(few) >= 20 else numbers[y > 0], 1 - real_accepted)), 5)
            for few in (numbers[(y > 0) & ~whole], numbers[(y > 0) & whole])
        ]
    for part in ("eye", "brow"):  # the two sides are one kind: the lower of two noisy limits refuses fewer real ones
        lower = [min(pair) for pair in zip(limits[f"left_{part}"], limits[f"right_{part}"], strict=True)]
        limits[f"left_{part}"] = limits[f"right_{part}"] = lower
    return weights, limits


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """Probability that a good one is above a bad one."""
    return float((good[:, None] > bad[None]).mean() + 0.5 * (good[:, None] == bad[None]).mean())
