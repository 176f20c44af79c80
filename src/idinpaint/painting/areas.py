"""What of the photo belongs to the faces' crops, and what they say of it."""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.faces.alignment import transform_points
from idinpaint.imaging.compositing import paste_crop
from idinpaint.judging.ranking import disagreement, disagreement_picture
from idinpaint.types import CROP_SIZE, Candidate, Decision, FaceAnalysis


def outside_faces(
    hole: np.ndarray, faces: list[FaceAnalysis], decisions: list[Decision]
) -> tuple[np.ndarray, np.ndarray]:
    """([H, W] bool, the hole outside the faces' crops; [H, W] bool, the hole in crops where no face was painted)."""
    background, unpainted = hole.copy(), np.zeros_like(hole)
    for face, decision in zip(faces, decisions, strict=True):
        area = crop_area(face, hole.shape)
        background &= ~area
        if decision.paints_no_face:
            unpainted |= hole & area
    return background, unpainted


def crop_area(face: FaceAnalysis, shape: tuple[int, int]) -> np.ndarray:
    """[H, W] bool, the photo's pixels inside the face's crop."""
    corners = np.array([[0, 0], [CROP_SIZE, 0], [CROP_SIZE, CROP_SIZE], [0, CROP_SIZE]], np.float64) - 0.5
    area = np.zeros(shape, np.uint8)
    cv2.fillPoly(area, [np.rint(transform_points(face.crop_to_photo, corners)).astype(np.int32)], 1)
    return area.astype(bool)


def add_disagreement(
    picture: np.ndarray | None, hole: np.ndarray, face: FaceAnalysis, made: list[Candidate]
) -> np.ndarray | None:
    """The map of what was invented, [H, W] uint8, with this face's part added."""
    spread = disagreement(made, face.crop_mask)
    if spread is None:
        return picture
    so_far = np.zeros((*hole.shape, 3), np.uint8) if picture is None else np.repeat(picture[..., None], 3, 2)
    return paste_crop(so_far, hole, disagreement_picture(spread), face.crop_to_photo)[..., 0]
