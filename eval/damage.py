"""Masks that hide a wished share of the facial features: irregular strokes, whole features, halves, blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from cases import SPLITS, read_mask

from idinpaint.data.photos import read_split
from idinpaint.faces.features import FEATURE_WEIGHTS, coverage, face_coverage, feature_regions
from idinpaint.imaging.masks import blocks, half
from idinpaint.types import CROP_SIZE

KINDS = ("irregular", "features", "half", "block")
PARTS = ("left_eye", "right_eye", "left_brow", "right_brow", "nose", "mouth")
TRIES = 300
BINS = ("00-10", "10-20", "20-30", "30-40", "40-50")  # per cent of the frame, of the irregular masks


class Damage:
    """Draws masks. irregular: bool [256, 256] each, of files that no training saw."""

    def __init__(self, irregular: Sequence[np.ndarray]) -> None:
        self.irregular = list(irregular)

    @classmethod
    def held_out(cls, data: Path) -> Damage:
        """With the held-out NVIDIA masks below 50 % hole."""
        names = [n for n in read_split(SPLITS / "nvidia_masks_test.txt") if n.split("/")[0] in BINS]
        return cls([read_mask(data / "nvidia_irregular_masks" / name) for name in names])

    def draw(
        self, rng: np.random.Generator, landmarks: np.ndarray, low: float, high: float, kinds: Sequence[str] = KINDS
    ) -> tuple[np.ndarray, str, float]:
        """(mask bool [256, 256], its kind, its coverage) with coverage in [low, high) as far as TRIES drawings go.

        landmarks: [68, 2] px of the untouched photo: they choose the mask, and no method sees them.
        """
        regions = feature_regions(landmarks)
        best: tuple[float, np.ndarray, str, float] | None = None
        for attempt in range(TRIES):
            kind = kinds[(int(rng.integers(len(kinds))) + attempt) % len(kinds)]
            mask = self._one(rng, kind, regions)
            share = face_coverage(coverage(regions, mask), FEATURE_WEIGHTS)
            miss = max(low - share, share - high, 0.0)
            if mask.any() and (best is None or miss < best[0]):
                best = (miss, mask, kind, share)
            if best is not None and best[0] == 0.0 and low <= best[3] < high:
                break
        return best[1:]

    def _one(self, rng: np.random.Generator, kind: str, regions: dict[str, np.ndarray]) -> np.ndarray:
        if kind == "features":
            return whole_features(rng, regions)
        if kind == "half":
            return half(rng, CROP_SIZE)
        if kind == "block":
            return blocks(rng, CROP_SIZE)
        mask = self.irregular[int(rng.integers(len(self.irregular)))]
        mask = np.rot90(mask, int(rng.integers(4)))
        return np.ascontiguousarray(mask[:, ::-1] if rng.random() < 0.5 else mask)


def whole_features(rng: np.random.Generator, regions: dict[str, np.ndarray]) -> np.ndarray:
    """One to five features hidden fully, with a margin, each alone or all under one box. Returns [256, 256] bool."""
    names = rng.choice(PARTS, int(rng.integers(1, 6)), replace=False)
    mask = np.any([regions[name] for name in names], axis=0).astype(np.uint8)
    if mask.any() and rng.random() < 0.3:
        x, y, w, h = cv2.boundingRect(mask)
        mask[y : y + h, x : x + w] = 1
    grown = 2 * int(rng.integers(2, 12)) + 1
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grown, grown))).astype(bool)
