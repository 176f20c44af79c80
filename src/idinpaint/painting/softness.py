"""A fill no finer than its photo: what was painted into a soft picture is blurred until it is as soft.

The networks have learned from sharp photos; in a soft one their eyes and teeth stand out as if cut in. How fine a
picture is says the energy of its finest waves, those of 2 px along both axes, over that of its gradient: a blur takes
the first and leaves the second, whatever the contrast. On untouched photos a feature is as fine as what lies round it.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.types import LUMA

FINEST = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 4
FLAT = 1.0  # levels added to the gradient: where there is none, nothing is said
RING = 30  # px round the hole that are looked at
RIM = 2  # px on both sides of its edge that are not
MORE = 1.1  # times its surroundings' fineness is still as fine
SIGMAS = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)  # px
CONTRAST, FORMS = 0.1, 2.5  # share that is given back of what is finer than so many px
FEWEST = 50  # px, else there is nothing to compare


def fineness(luma: np.ndarray, area: np.ndarray) -> float:
    """Of float32 [H, W] over bool [H, W]: mean response to FINEST over the mean gradient, both in levels."""
    finest = np.abs(cv2.filter2D(luma, -1, FINEST))[area].mean()
    gradient = np.hypot(cv2.Sobel(luma, -1, 1, 0), cv2.Sobel(luma, -1, 0, 1))[area].mean() / 8
    return float(finest / (gradient + FLAT))


def areas(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(inside the hole, round it), bool [H, W] each, without its rim."""
    hole, near, wide = mask.astype(np.uint8), np.ones((2 * RIM + 1,) * 2), np.ones((2 * RING + 1,) * 2)
    return cv2.erode(hole, near) > 0, (cv2.dilate(hole, wide) > 0) & (cv2.dilate(hole, near) == 0)


def _blurred(crop: np.ndarray, sigma: float) -> np.ndarray:
    """By a Gaussian, with the contrast of its forms given back: they are a few px wide."""
    blurred = cv2.GaussianBlur(crop.astype(np.float32), (0, 0), sigma)
    blurred += CONTRAST * (blurred - cv2.GaussianBlur(blurred, (0, 0), FORMS))
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)


def as_soft(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """crop uint8 [H, W, 3], its hole (bool [H, W]) painted -> the same, the hole blurred as little as is needed."""
    inner, ring = areas(mask)
    if min(ring.sum(), inner.sum()) < FEWEST:
        return crop
    limit = MORE * fineness(crop.astype(np.float32) @ np.float32(LUMA), ring)
    for sigma in SIGMAS:
        blurred = _blurred(crop, sigma) if sigma else crop
        if fineness(blurred.astype(np.float32) @ np.float32(LUMA), inner) <= limit:
            break
    return np.where(mask[..., None], blurred, crop)
