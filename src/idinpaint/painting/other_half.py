"""Hidden hair is the other half's: where a face looks ahead, its mirrored visible hair goes where hair is torn off."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from idinpaint.faces.parsing import PARSING_CLASSES
from idinpaint.imaging.compositing import harmonize
from idinpaint.types import CROP_SIZE, FaceAnalysis

SKIN = PARSING_CLASSES.index("skin")
HAIR = PARSING_CLASSES.index("hair")
ROUND_FACE = (0, HAIR, PARSING_CLASSES.index("neck_cloth_other"))  # what mirrors well enough: not skin and features
AHEAD = 0.05  # of half the distance between the outer eye corners: a nose tip further off its middle is a turned head
AGREE = 0.65  # of what the mirror image or the parser takes for hidden hair, both do: else the halves differ
EDGE = 1.2  # px, over which it fades into the network's fill
LEAST_SHARE = 0.01  # of the crop's pixels that are hidden hair; less is a stroke, which the network fills well


def looks_ahead(landmarks: np.ndarray) -> bool:
    """Whether the nose tip of [68, 2] lies near the middle between the outer eye corners."""
    left, right, nose = landmarks[36], landmarks[45], landmarks[30]
    axis = right - left
    return abs(2 * float((nose - left) @ axis) / max(float(axis @ axis), 1e-6) - 1) < AHEAD


def mirrored(face: FaceAnalysis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint8 [256, 256, 3], parsing labels uint8 [256, 256], bool [256, 256] where that is known) of the face's known
    part, mirrored so that its landmarks fall on each other."""
    from idinpaint.models.references import affine_between, mirrored_points  # brings diffusers

    points = torch.from_numpy(np.asarray(face.landmarks, np.float32))[None]
    matrix = affine_between(mirrored_points(points, CROP_SIZE), points)[0].double().numpy()
    size = (CROP_SIZE, CROP_SIZE)

    def turned(picture: np.ndarray, how: int) -> np.ndarray:
        flipped = np.ascontiguousarray(picture[:, ::-1])
        return cv2.warpAffine(flipped, matrix, size, flags=how | cv2.WARP_INVERSE_MAP)

    known = cv2.erode((~face.crop_mask).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return (
        turned(face.crop, cv2.INTER_LINEAR),
        turned(face.labels.astype(np.uint8), cv2.INTER_NEAREST),
        turned(known, cv2.INTER_NEAREST) > 0,
    )


def other_half(face: FaceAnalysis) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """`mirrored` of a face that looks ahead and whose halves are alike, by what the parser expects under the mask;
    None for another one, or without a parser."""
    if face.labels is None or not looks_ahead(face.landmarks):
        return None
    picture, labels, known = mirrored(face)
    hidden = face.crop_mask & known
    either = hidden & ((labels == HAIR) | (face.labels == HAIR))
    both = hidden & (labels == HAIR) & (face.labels == HAIR)
    return (picture, labels, known) if both.sum() >= AGREE * max(1, either.sum()) else None


def labels_of(face: FaceAnalysis) -> np.ndarray:
    """Parsing labels uint8 [256, 256]: hidden hair ends where the visible half's does, if the two are alike."""
    half = other_half(face)
    if half is None:
        return face.labels
    head = np.isin(face.labels, ROUND_FACE) & np.isin(half[1], (*ROUND_FACE, SKIN))
    return np.where(face.crop_mask & half[2] & head, half[1], face.labels)


def with_other_hair(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A painted crop uint8 [256, 256, 3] with hidden hair from the face's mirrored half, its tone led over to the
    known hair beside it; as it is where the halves are not alike, or little hair is hidden."""
    half = other_half(face)
    if half is None:
        return crop
    picture, labels, known = half
    hair = face.crop_mask & known & (labels == HAIR) & np.isin(face.labels, ROUND_FACE)
    if hair.mean() < LEAST_SHARE:
        return crop
    both = hair | (known & (labels == HAIR) & (face.labels == HAIR))  # beside the hole the two can be compared
    toned = harmonize(np.where(both[..., None], picture, crop), face.crop, face.crop_mask)
    share = cv2.GaussianBlur(hair.astype(np.float32), (0, 0), EDGE) * face.crop_mask
    mixed = crop + share[..., None] * (toned.astype(np.float32) - crop)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
