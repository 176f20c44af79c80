"""A smooth tonal continuation of the surroundings, for holes in which a face can no longer be known.

The fill is close to a membrane: the known pixels spread inwards by pull-push (Gortler et al. 1996), then it is
smoothed inside the hole only. It draws no edge and no feature, so it claims nothing about the person.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.imaging.compositing import known_ring, pull_push
from idinpaint.painting.base import FillRequest, Parts

RING = 6  # crop px of known surroundings whose tone is continued
SMOOTH = 12.0  # crop px, sigma of the smoothing inside the hole
ROUNDS = 4


def tonal_fill(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] and bool [H, W], True = hole -> uint8 [H, W, 3], equal to rgb outside the hole.

    Every value lies within the range of the known pixels near the hole (mid grey when there is none).
    """
    known = known_ring(mask, RING) if mask.any() else ~mask
    if not known.any():
        known = ~mask
    if not known.any():
        return np.full_like(rgb, 128)
    samples = np.zeros((*mask.shape, 4), np.float32)
    samples[known, :3], samples[known, 3] = rgb[known], 1.0
    # The ring's own detail (an eyelash, a strand of hair) is averaged away before it spreads.
    smooth = pull_push(cv2.GaussianBlur(samples, (0, 0), RING / 2, borderType=cv2.BORDER_CONSTANT))
    for _ in range(ROUNDS):
        smooth[mask] = cv2.GaussianBlur(smooth, (0, 0), SMOOTH)[mask]
    result = rgb.copy()
    result[mask] = np.clip(np.rint(smooth[mask]), 0, 255).astype(np.uint8)
    return result


class ColorizeInpainter:
    """Deterministic: every sample is the same, so one is returned."""

    name = "colorize"

    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """See Inpainter."""
        return [tonal_fill(request.face.crop, request.face.crop_mask)]


def load(parts: Parts) -> ColorizeInpainter:
    """See strategies.py; it has no network."""
    return ColorizeInpainter()
