"""How alike two identity vectors are, and whether that is one person: similarity and verdict, from numbers alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

UNCERTAIN_MARGIN = 0.05  # similarities this near to the threshold decide nothing


@dataclass(frozen=True)
class Verdict:
    """similarity in [-1, 1]; verdict is same, different or uncertain; text says it in words."""

    similarity: float
    threshold: float
    verdict: str
    text: str

    @property
    def same(self) -> bool:
        return self.verdict == "same"


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two identity vectors [D], in [-1, 1]. ValueError for other shapes, zero or not finite vectors."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"similarity: two vectors of one length are needed, got shapes {a.shape} and {b.shape}")
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not (math.isfinite(norm) and norm > 0):
        raise ValueError("similarity: a vector is zero or not finite")
    return float(np.clip(a @ b / norm, -1.0, 1.0))


def verdict_for(
    similarity: float, threshold: float, margin: float = UNCERTAIN_MARGIN, below: float | None = None
) -> Verdict:
    """same at or above threshold + margin, different below threshold - below (margin by default), else uncertain."""
    below = margin if below is None else below
    if not math.isfinite(similarity):
        raise ValueError(f"verdict_for: similarity is {similarity}")
    relation = f"similarity {similarity:.2f}, threshold {threshold:.2f}"
    if similarity >= threshold + margin:
        name, words = "same", "the same person"
    elif similarity < threshold - below:
        name, words = "different", "different persons"
    else:
        name, words = "uncertain", "too close to call"
    return Verdict(float(similarity), float(threshold), name, f"{words} ({relation})")
