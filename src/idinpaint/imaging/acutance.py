"""A fill as crisp as its photo: faces are painted at 256 px, and enlarged into a close-up they look out of focus.

How much a face loses on that way is measured on the known pixels round the hole, which go it and are compared with
what they were; the fill's finest forms are then strengthened until its gradient has as much more energy.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.types import LUMA

LEAST = 1.25  # photo px a crop px, from which there is anything to lose
FINER = 2.0  # times the crop's resolution, at which is compared: what is finer still is grain, which is added later
FORMS = 0.8  # crop px: what is finer is strengthened
MOST = 1.0  # of it is added at most; more makes halos
NEAR = 24.0  # crop px round the hole that are measured
FEWEST = 200  # px


def lost(photo: np.ndarray, hole: np.ndarray, scale: float) -> float:
    """Gradient energy of the known pixels round the hole over what the crop's resolution leaves of it; at least 1.

    photo: uint8 [H, W, 3]; hole: bool [H, W]; scale: photo px a crop px, 1 where it is below LEAST.
    """
    if scale < LEAST:
        return 1.0
    fine = min(FINER / scale, 1.0)
    size = tuple(max(8, round(side * fine)) for side in hole.shape[::-1])
    luma = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.float32) @ np.float32(LUMA)
    inside = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    px = scale * fine  # of a crop px, here
    small = cv2.resize(luma, tuple(max(4, round(side / px)) for side in size), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    ring = (away > 2 * px) & (away <= NEAR * px)
    if ring.sum() < FEWEST:
        return 1.0
    before, after = (sum(float(np.square(d[ring]).mean()) for d in _gradient(x)) for x in (luma, coarse))
    return max(1.0, before / max(after, 1e-3))


def _gradient(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return cv2.Sobel(luma, -1, 1, 0), cv2.Sobel(luma, -1, 0, 1)


def crisper(crop: np.ndarray, inside: np.ndarray, wanted: float) -> np.ndarray:
    """crop uint8 [S, S, 3], to be enlarged -> the same with its finest forms strengthened, so that its gradient inside
    the hole (bool [S, S]) has `wanted` times its energy, as far as MOST allows. At the crop's own size it costs little,
    and enlarging is linear."""
    if wanted <= 1.0 or not inside.any():
        return crop
    values = crop.astype(np.float32)
    forms = values - cv2.GaussianBlur(values, (0, 0), FORMS)
    share = _share(values @ np.float32(LUMA), forms @ np.float32(LUMA), inside, wanted)
    return np.clip(np.rint(values + share * forms), 0, 255).astype(np.uint8)


def _share(luma: np.ndarray, forms: np.ndarray, hole: np.ndarray, wanted: float) -> float:
    """How much of the forms gives the luma's gradient inside the hole `wanted` times its energy, 0 to MOST."""
    own, more = ([d[hole] for d in _gradient(x)] for x in (luma, forms))
    a = sum(float(np.square(d).mean()) for d in own)
    b = sum(float((d * e).mean()) for d, e in zip(own, more, strict=True))
    c = sum(float(np.square(e).mean()) for e in more)
    if c < 1e-6:
        return 0.0
    root = (-b + np.sqrt(max(b * b + c * a * (wanted - 1.0), 0.0))) / c
    return float(np.clip(root, 0.0, MOST))
