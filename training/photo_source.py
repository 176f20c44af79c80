"""Training photos under random holes: what the recipes that fill holes draw their samples from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from loop_config import LoopConfig

from idinpaint.data.photos import load_photos, load_training_masks, training_photos, validation_photos
from idinpaint.imaging.masks import feature_block, random_mask


def jitter(rng: np.random.Generator, photo: np.ndarray, max_crop: float = 0.12) -> np.ndarray:
    """Flip and crop slightly (resized back), as detection at inference will be off by as much."""
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    side = photo.shape[0]
    crop = int(side * (1 - rng.uniform(0, max_crop)))
    y, x = rng.integers(0, side - crop + 1, 2)
    return cv2.resize(
        np.ascontiguousarray(photo[y : y + crop, x : x + crop]), (side, side), interpolation=cv2.INTER_AREA
    )


class PhotoSource:
    """Photos [N, side, side, 3] uint8 and the data set's masks. max_ratio: of a hole in the picture; feature_share: of
    the holes hide a whole feature, of which only the identity can tell."""

    def __init__(self, config: LoopConfig, side: int = 256, max_ratio: float = 0.6, feature_share: float = 0.0) -> None:
        self.data, self.side, self.max_ratio, self.feature_share = config, side, max_ratio, feature_share
        self.entries = training_photos(config.train_data_dir, config.splits_dir)
        self.photos = load_photos(self.entries, side)
        self.masks = load_training_masks(config.train_data_dir, config.splits_dir)

    def hole(self, rng: np.random.Generator) -> np.ndarray:
        """bool [side, side], True = hole."""
        if self.feature_share and rng.random() < self.feature_share:
            return feature_block(rng, self.side)
        return random_mask(rng, self.side, self.masks, self.max_ratio)

    def draw(self, generators: Sequence[np.random.Generator]) -> tuple[list[int], np.ndarray, np.ndarray]:
        """(places of the photos, photos as augmented [B, side, side, 3] uint8, holes [B, side, side] bool), a sample a
        generator."""
        index = [int(rng.integers(len(self.photos))) for rng in generators]
        photos = np.stack([jitter(rng, self.photos[i]) for rng, i in zip(generators, index, strict=True)])
        return index, photos, np.stack([self.hole(rng) for rng in generators])

    def held(self, every: int = 3, count: int = 32) -> np.ndarray:
        """Some photos of the validation people."""
        entries = validation_photos(self.data.train_data_dir, self.data.splits_dir)
        return load_photos(entries[::every][:count], self.side)

    def held_holes(self, count: int, max_ratio: float = 0.35) -> np.ndarray:
        """Holes for those, always the same: bool [count, side, side]."""
        rng = np.random.default_rng(1)
        return np.stack([random_mask(rng, self.side, self.masks, max_ratio) for _ in range(count)])
