"""The other half of a face that looks ahead: what its mirrored visible part says of the hidden one."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from idinpaint.faces.parsing import PARSING_CLASSES
from idinpaint.models.points import affine_between, mirrored_points
from idinpaint.types import CROP_SIZE

SKIN = PARSING_CLASSES.index("skin")
HAIR = PARSING_CLASSES.index("hair")
CLOTH = PARSING_CLASSES.index("neck_cloth_other")
ROUND_FACE = (0, HAIR, CLOTH)  # what mirrors well enough: not skin and features
AHEAD = 0.05  # of half the distance between the outer eye corners: a nose tip further off its middle is a turned head
AGREE = 0.65  # of what the mirror image or the parser takes for hidden hair, both do: else the halves differ
CHIN = 8  # landmark: hidden cloth above it may be hair that the parser took for a hat


def looks_ahead(landmarks: np.ndarray) -> bool:
    """Whether the nose tip of [68, 2] lies near the middle between the outer eye corners."""
    left, right, nose = landmarks[36], landmarks[45], landmarks[30]
    axis = right - left
    return abs(2 * float((nose - left) @ axis) / max(float(axis @ axis), 1e-6) - 1) < AHEAD


def mirrored(
    crop: np.ndarray, mask: np.ndarray, landmarks: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(crop uint8 [256, 256, 3], labels uint8 [256, 256], bool [256, 256] where they are known) of the known part of a
    crop with its hole [256, 256] bool, mirrored so that its landmarks [68, 2] fall on each other."""
    points = torch.from_numpy(np.asarray(landmarks, np.float32))[None]
    matrix = affine_between(mirrored_points(points, CROP_SIZE), points)[0].double().numpy()
    size = (CROP_SIZE, CROP_SIZE)

    def turned(picture: np.ndarray, how: int) -> np.ndarray:
        flipped = np.ascontiguousarray(picture[:, ::-1])
        return cv2.warpAffine(flipped, matrix, size, flags=how | cv2.WARP_INVERSE_MAP)

    known = cv2.erode((~mask).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return (
        turned(crop, cv2.INTER_LINEAR),
        turned(labels.astype(np.uint8), cv2.INTER_NEAREST),
        turned(known, cv2.INTER_NEAREST) > 0,
    )


def other_half(
    crop: np.ndarray, mask: np.ndarray, landmarks: np.ndarray, labels: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`mirrored` of a face that looks ahead and whose halves are alike, by what the parser expects under the mask;
    None for another one, or without a parser."""
    if labels is None or not mask.any() or not looks_ahead(landmarks):
        return None
    picture, mirror, known = mirrored(crop, mask, landmarks, labels)
    above = np.arange(CROP_SIZE)[:, None] < landmarks[CHIN, 1]
    hidden = mask & known
    expected = (labels == HAIR) | ((labels == CLOTH) & above & (mirror == HAIR))
    either = hidden & ((mirror == HAIR) | expected)
    both = hidden & (mirror == HAIR) & expected
    return (picture, mirror, known) if both.sum() >= AGREE * max(1, either.sum()) else None


def labels_by_half(
    crop: np.ndarray, mask: np.ndarray, landmarks: np.ndarray, labels: np.ndarray | None
) -> np.ndarray | None:
    """Parsing labels [256, 256]: hidden hair is and ends where the visible half's does, if the two are alike; as they
    are otherwise, None without a parser."""
    half = other_half(crop, mask, landmarks, labels)
    if half is None:
        return labels
    _, mirror, known = half
    head = np.isin(labels, ROUND_FACE) & np.isin(mirror, (*ROUND_FACE, SKIN))
    return np.where(mask & known & head, mirror, labels)
