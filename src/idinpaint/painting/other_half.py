"""Hidden hair is the other half's: where a face looks ahead, its mirrored visible hair goes where hair is torn off."""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.faces.mirror import HAIR, ROUND_FACE, other_half
from idinpaint.imaging.compositing import harmonize
from idinpaint.types import FaceAnalysis

EDGE = 1.2  # px, over which it fades into the network's fill
LEAST_SHARE = 0.01  # of the crop's pixels that are hidden hair; less is a stroke, which the network fills well


def with_other_hair(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A painted crop uint8 [256, 256, 3] with hidden hair from the face's mirrored half, its tone led over to the
    known hair beside it; as it is where the halves are not alike, or little hair is hidden."""
    half = other_half(face.crop, face.crop_mask, face.landmarks, face.labels)
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
