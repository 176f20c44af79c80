"""What the colour corrections of painted faces share: CIELAB in floats, and where the face is."""

from __future__ import annotations

import cv2
import numpy as np


def to_lab(crop: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] RGB -> float32 [H, W, 3], L in [0, 100], a and b in CIELAB's own units."""
    return cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """The other way, clipped to uint8."""
    return np.clip(np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255), 0, 255).astype(np.uint8)


def inside_face(landmarks: np.ndarray) -> np.ndarray:
    """bool [256, 256]: the convex hull of landmarks [68, 2]."""
    hull = np.zeros((256, 256), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.rint(landmarks).astype(np.int32)), 1)
    return hull > 0
