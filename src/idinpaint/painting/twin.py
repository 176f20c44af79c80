"""A painted eye takes the colour of its visible twin: skin, make-up and irises of one face are alike on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from idinpaint.imaging.compositing import harmonize
from idinpaint.types import FaceAnalysis

RINGS = {"left_eye": ((37, 38, 40, 41), (36, 39)), "right_eye": ((43, 44, 46, 47), (42, 45))}  # lids, corners
RADIUS = 0.22  # of the distance between the corners; an iris is two fifths as wide as the lids' opening
REACH = (2.0, 1.5)  # width and height of the eye with lids and shadow, in that distance
BLUR = 4.0  # px: finer chroma is the network's, as the twin's mirror image lies a little elsewhere
HIDDEN, VISIBLE = 0.5, 0.1  # of the iris' disc under the mask: at least to be painted, at most to serve
FEWEST = 20  # px of a disc: a smaller one says nothing of colour


def like_twin(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A painted crop uint8 [256, 256, 3] with the chroma of a painted eye moved to that of the other, known one: round
    the eye smoothly, by the face's mirrored half; of the iris as a whole.

    Only where one is hidden and the other is not, only inside the mask; the brightness stays, since light comes from
    one side.
    """
    for name, painted, known in painted_eyes(face):
        lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
        move, soft = _around(crop, face, name)
        lab[..., 1:] += move * soft[..., None]
        shift = _iris_colour(lab, known * ~face.crop_mask) - _iris_colour(lab, painted * face.crop_mask)
        iris = cv2.GaussianBlur(painted, (0, 0), 1.0) * face.crop_mask
        lab[..., 1:] += shift * iris[..., None]
        moved = cv2.cvtColor(np.clip(np.rint(lab), 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
        crop = np.where((np.maximum(soft, iris) > 0.02)[..., None], moved, crop)
    return crop


def painted_eyes(face: FaceAnalysis) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(the eye that was painted, its iris_disc, that of its visible twin); none where both or neither are hidden."""
    discs = {name: iris_disc(face.landmarks, name) for name in RINGS}
    if min(disc.sum() for disc in discs.values()) < FEWEST:
        return
    shares = {name: float(face.crop_mask[disc > 0.5].mean()) for name, disc in discs.items()}
    for name, other in (("left_eye", "right_eye"), ("right_eye", "left_eye")):
        if shares[name] >= HIDDEN and shares[other] <= VISIBLE:
            yield name, discs[name], discs[other]


def _around(crop: np.ndarray, face: FaceAnalysis, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(chroma to add [256, 256, 2], how much of it [256, 256]) round an eye, from the known half of the face."""
    from idinpaint.models.references import own_mirror  # brings diffusers, which analyze and verify do without

    hull = np.zeros((256, 256), np.uint8)  # beyond it the mirror image shows hair and background
    cv2.fillConvexPoly(hull, cv2.convexHull(np.rint(face.landmarks).astype(np.int32)), 1)
    unknown = torch.from_numpy((face.crop_mask | (hull == 0)).astype(np.float32))[None, None]
    known = torch.from_numpy(face.crop.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None] * (1 - unknown)
    points = torch.from_numpy(np.asarray(face.landmarks, np.float32))[None]
    mirror = own_mirror(known, unknown, points)[0].permute(1, 2, 0).numpy()
    valid = (mirror[..., 3] > 0.5).astype(np.float32)
    rgb = np.where(valid[..., None] > 0, np.clip((mirror[..., :3] + 1) * 127.5, 0, 255), crop)
    twin = harmonize(rgb.astype(np.uint8), face.crop, face.crop_mask)  # under this side's light
    twin_lab, lab = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB).astype(np.float32) for x in (twin, crop))
    apart = (twin_lab - lab)[..., 1:]
    near = cv2.GaussianBlur(valid, (0, 0), BLUR)
    move = cv2.GaussianBlur(apart * valid[..., None], (0, 0), BLUR) / (near + 1e-3)[..., None]
    eye = eye_points(face.landmarks, name)
    wide = float(np.hypot(*(eye[3] - eye[0])))
    region = np.zeros((256, 256), np.float32)
    size = tuple(share * wide for share in REACH)
    cv2.ellipse(region, (tuple(map(float, eye.mean(0))), size, 0.0), 1.0, -1)
    return move, cv2.GaussianBlur(region, (0, 0), max(0.15 * wide, 0.5)) * face.crop_mask * near


def eye_points(landmarks: np.ndarray, name: str) -> np.ndarray:
    """[6, 2] of [68, 2]: the lids and corners of left_eye or right_eye."""
    return landmarks[36:42] if name == "left_eye" else landmarks[42:48]


def iris_disc(landmarks: np.ndarray, name: str) -> np.ndarray:
    """float32 [256, 256] in {0, 1}: where the iris of left_eye or right_eye is, by the landmarks [68, 2]; inside the
    lids."""
    lids, (inner, outer) = RINGS[name]
    disc = np.zeros((256, 256), np.float32)
    centre, wide = landmarks[list(lids)].mean(0), float(np.hypot(*(landmarks[outer] - landmarks[inner])))
    cv2.circle(disc, tuple(np.rint(centre).astype(int).tolist()), max(int(round(RADIUS * wide)), 1), 1.0, -1)
    opening = np.zeros((256, 256), np.uint8)
    cv2.fillConvexPoly(opening, cv2.convexHull(np.rint(eye_points(landmarks, name)).astype(np.int32)), 1)
    return disc * cv2.dilate(opening, np.ones((3, 3), np.uint8))


def _iris_colour(lab: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """[2], the median chroma of the darker half of a disc: the iris, not the white of the eye."""
    inside = lab[disc > 0.5]
    dark = inside[inside[:, 0] <= np.median(inside[:, 0])]
    return np.median(dark[:, 1:], axis=0)
