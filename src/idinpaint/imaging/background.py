"""What lies outside the faces: frequency selective reconstruction in the place of Telea's streaks.

Extrapolates waves from the known surroundings (Seiler and Kaup 2010, doi:10.1109/LSP.2010.2040601; Genser et al. 2018),
so that edges and patterns go on; it learns nothing and invents nothing. OpenCV has it among its contrib modules.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.imaging.compositing import check_pair
from idinpaint.imaging.telea import hole_boxes

MOST = 30_000  # hole px, at a tenth of a millisecond each on a free core; above it Telea's fill stays
DEEPEST = 48.0  # px to the nearest known pixel; deeper there are no waves left to go on
SURROUNDINGS = 48  # px round a hole that are read


def available() -> bool:
    """Whether this build of OpenCV has the method: opencv-contrib-python(-headless) does."""
    return hasattr(cv2, "xphoto") and hasattr(cv2.xphoto, "INPAINT_FSR_FAST")


def refine_background(filled: np.ndarray, hole: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """The hole filled anew from what is known and painted round it; a new uint8 [H, W, 3].

    filled: uint8 [H, W, 3], already filled somehow; hole: bool [H, W], the pixels to change; unknown: bool [H, W],
    further pixels that nobody painted. Comes back as it is where the method is missing or a hole too large for it.
    Only pixels of `hole` change, and no pixel of `hole` or `unknown` is read.
    """
    check_pair(filled, hole)
    result = filled.copy()
    if not available() or not 0 < hole.sum() <= MOST:
        return result
    missing = hole | unknown
    for rows, columns, member in hole_boxes(hole):
        box = tuple(slice(max(0, s.start - SURROUNDINGS), s.stop + SURROUNDINGS) for s in (rows, columns))
        lost = missing[box].astype(np.uint8)
        if lost.all() or cv2.distanceTransform(lost, cv2.DIST_L2, 5).max() > DEEPEST:
            continue
        patch = np.where(missing[box][..., None], 0, filled[box]).astype(np.uint8)
        waves = np.zeros_like(patch)
        # It works on brightness and colour apart, and takes the channels for blue, green, red.
        cv2.xphoto.inpaint(np.ascontiguousarray(patch[..., ::-1]), (1 - lost) * 255, waves, cv2.xphoto.INPAINT_FSR_FAST)
        waves = waves[..., ::-1]
        top, left = rows.start - box[0].start, columns.start - box[1].start
        inner = waves[top : top + member.shape[0], left : left + member.shape[1]]
        result[rows, columns][member] = inner[member]
    return result
