"""The print's own look inside the hole: one tint where the photo has only one, and its grain. Known pixels stay."""

from __future__ import annotations

import cv2
import numpy as np

ONE_TINT = 4.0  # levels: 98 % of the known pixels lie so close to one colour per brightness
NEAR = 48  # px round the hole whose grain is taken
BLOCK = 8  # px, side of the blocks that grain is measured in
FLATTEST = 0.25  # share of the blocks, those without edges
GRAINY = 2.5  # levels of high-pass deviation in flat blocks; below, a photo counts as free of grain
HIGH_PASS = 1.5  # px


def print_look(filled: np.ndarray, hole: np.ndarray, painted: np.ndarray, seed: int = 0) -> np.ndarray:
    """`filled` with the known pixels' tint and grain where `painted`. A new uint8 [H, W, 3].

    filled: uint8 [H, W, 3], the photo outside of hole; hole, painted: bool [H, W], painted a part of the hole.
    """
    if not painted.any() or hole.all():
        return filled.copy()
    result = _with_grain(filled, hole, painted, np.random.default_rng(seed))
    return _with_one_tint(result, hole, painted)


def _with_one_tint(rgb: np.ndarray, hole: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """Colours by brightness, as the known pixels have them; unchanged where those have several."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    levels, known = grey[~hole], rgb[~hole].astype(np.float32)
    counts = np.bincount(levels, minlength=256)
    seen = np.flatnonzero(counts)
    table = np.empty((256, 3), np.float32)
    for channel in range(3):
        means = np.bincount(levels, known[:, channel], 256)[seen] / counts[seen]
        table[:, channel] = np.interp(np.arange(256), seen, means)  # and its own black and white
    if np.percentile(np.abs(known - table[levels]).max(-1), 98) > ONE_TINT:
        return rgb
    rgb[painted] = np.clip(np.rint(table[grey[painted]]), 0, 255).astype(np.uint8)
    return rgb


def _with_grain(filled: np.ndarray, hole: np.ndarray, painted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds what the painted part lacks of the grain of the flat known blocks near the hole."""
    near = cv2.dilate(painted.astype(np.uint8), np.ones((2 * NEAR + 1, 2 * NEAR + 1), np.uint8)) > 0
    high = filled.astype(np.float32) - cv2.GaussianBlur(filled.astype(np.float32), (0, 0), HIGH_PASS)
    edge = cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    clipped = (filled.min(-1) <= 1) | (filled.max(-1) >= 254)  # grain that black and white cut off
    target = _grain(high, near & ~edge & (cv2.blur(clipped.astype(np.float32), (BLOCK, BLOCK)) < 0.02))
    result = filled.copy()
    if target is None or np.sqrt(np.trace(target) / 3) < GRAINY:
        return result
    inner = cv2.erode(painted.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    present = _grain(high, inner)
    lacking = target - (present if present is not None else np.zeros((3, 3)))
    values, vectors = np.linalg.eigh(lacking)
    if values.max() <= 0:
        return result
    noise = rng.standard_normal((*hole.shape, 3)).astype(np.float32)
    passed = (noise - cv2.GaussianBlur(noise, (0, 0), HIGH_PASS)).std()  # share of white noise that is high-pass
    noise = noise @ (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32) / passed
    result[painted] = np.clip(np.rint(filled[painted] + noise[painted]), 0, 255).astype(np.uint8)
    return result


def _grain(high: np.ndarray, area: np.ndarray) -> np.ndarray | None:
    """Covariance [3, 3] of the high-pass [H, W, 3] in the flattest blocks wholly within the area; None: no block."""
    height, width = (side // BLOCK * BLOCK for side in area.shape)
    if not height or not width:
        return None
    whole = area[:height, :width].reshape(height // BLOCK, BLOCK, -1, BLOCK).all((1, 3))
    blocks = high[:height, :width].reshape(height // BLOCK, BLOCK, -1, BLOCK, 3).transpose(0, 2, 1, 3, 4)[whole]
    if not len(blocks):
        return None
    strength = blocks.reshape(len(blocks), -1).std(1)
    flat = blocks[np.argsort(strength)[: max(1, round(FLATTEST * len(blocks)))]].reshape(-1, 3)
    return flat.T.astype(np.float64) @ flat / len(flat)
