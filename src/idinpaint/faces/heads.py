"""Which px of a photo belong to a face's head, and what of the hole belongs to none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from idinpaint.faces.alignment import transform_points

HEAD = 1.5  # the landmarks' hull grown by this about its middle: what of the hole belongs to the face


class Face(Protocol):
    """What is known of a face that was found."""

    landmarks: np.ndarray
    crop_to_photo: np.ndarray


def head(landmarks: np.ndarray, crop_to_photo: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """[H, W] bool, a head's px of the photo: the hull of its landmarks [68, 2] crop px grown by HEAD, upwards too."""
    points = transform_points(crop_to_photo, landmarks)
    brow = points[17:27].mean(0)
    crown = points[17:27] + (brow - points[8]) * 0.45
    points = np.concatenate([points, crown])
    middle = points.mean(0)
    hull = cv2.convexHull(np.rint(np.clip(middle + HEAD * (points - middle), -1e5, 1e5)).astype(np.int32))
    area = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(area, hull, 1)
    return area.astype(bool)


def loose_hole(hole: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """[H, W] bool, the hole outside of the faces' heads."""
    rest = hole.copy()
    for face in faces:
        rest &= ~head(face.landmarks, face.crop_to_photo, hole.shape)
    return rest
