"""A painted iris takes the colour of its visible twin: two eyes of one face are of one colour."""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.types import FaceAnalysis

RINGS = {"left_eye": ((37, 38, 40, 41), (36, 39)), "right_eye": ((43, 44, 46, 47), (42, 45))}  # lids, corners
RADIUS = 0.22  # of the distance between the corners; an iris is two fifths as wide as the lids' opening
HIDDEN, VISIBLE = 0.5, 0.1  # of the iris' disc under the mask: at least to be painted, at most to serve
FEWEST = 20  # px of a disc: a smaller one says nothing of colour


def like_twin(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A painted crop uint8 [256, 256, 3] with the chroma of a painted iris moved to that of the other, known one.

    Only where one is hidden and the other is not, only inside the mask; the brightness stays.
    """
    discs = {name: iris_disc(face.landmarks, name) for name in RINGS}
    shares = {name: float(face.crop_mask[disc > 0.5].mean()) if (disc > 0.5).sum() >= FEWEST else None
              for name, disc in discs.items()}  # fmt: skip
    for name, other in (("left_eye", "right_eye"), ("right_eye", "left_eye")):
        if None in shares.values() or shares[name] < HIDDEN or shares[other] > VISIBLE:
            continue
        lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        known = discs[other] * ~face.crop_mask
        move = _iris_colour(lab, known) - _iris_colour(lab, discs[name] * face.crop_mask)
        soft = cv2.GaussianBlur(discs[name], (0, 0), 1.0) * face.crop_mask
        lab[..., 1:] += move * soft[..., None]
        moved = cv2.cvtColor(np.clip(np.rint(lab), 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
        return np.where((soft > 0.02)[..., None], moved, crop)
    return crop


def iris_disc(landmarks: np.ndarray, name: str) -> np.ndarray:
    """float32 [256, 256] in {0, 1}: where the iris of left_eye or right_eye is, by the landmarks [68, 2]; inside the
    lids."""
    lids, (inner, outer) = RINGS[name]
    disc = np.zeros((256, 256), np.float32)
    centre, wide = landmarks[list(lids)].mean(0), float(np.hypot(*(landmarks[outer] - landmarks[inner])))
    cv2.circle(disc, tuple(np.rint(centre).astype(int).tolist()), max(int(round(RADIUS * wide)), 1), 1.0, -1)
    opening = np.zeros((256, 256), np.uint8)
    first = 36 if name == "left_eye" else 42
    cv2.fillConvexPoly(opening, cv2.convexHull(np.rint(landmarks[first : first + 6]).astype(np.int32)), 1)
    return disc * cv2.dilate(opening, np.ones((3, 3), np.uint8))


def _iris_colour(lab: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """[2], the median chroma of the darker half of a disc: the iris, not the white of the eye."""
    inside = lab[disc > 0.5]
    dark = inside[inside[:, 0] <= np.median(inside[:, 0])]
    return np.median(dark[:, 1:], axis=0)
