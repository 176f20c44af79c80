"""A painted eye takes the colour of its visible twin, and two painted ones are a pair: skin, make-up and irises of one
face are alike on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from idinpaint.imaging.compositing import harmonize
from idinpaint.painting.chroma import from_lab, inside_face, to_lab
from idinpaint.types import FaceAnalysis

RINGS = {"left_eye": ((37, 38, 40, 41), (36, 39)), "right_eye": ((43, 44, 46, 47), (42, 45))}  # lids, corners
RADIUS = 0.22  # of the distance between the corners; an iris is two fifths as wide as the lids' opening
REACH = (2.0, 1.5)  # width and height of the eye with lids and shadow, in that distance
BLUR = 4.0  # px: finer chroma is the network's, as the twin's mirror image lies a little elsewhere
HIDDEN, VISIBLE = 0.5, 0.1  # of the iris' disc under the mask: at least to be painted, at most to serve
FEWEST = 20  # px of a disc: a smaller one says nothing of colour
MOST_APART = 4.0  # of a and b (CIELAB) between two painted eyes; true pairs' root mean square is 4.6 each
PAIR_BLUR = 2.5  # px


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


def as_pair(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A painted crop uint8 [256, 256, 3] with two painted eyes' colours drawn together where the mirrored places are
    further than MOST_APART from each other; each goes half of the way, and the brightness stays.

    The network's noise gives each eye a colour of its own: of 160 pairs 32 % were more than 8 apart, a brown eye beside
    a blue one, of true pairs 13 %; after this 3 %, and they are nearer to the true colours (4.34 to 4.24).
    """
    discs = [iris_disc(face.landmarks, name) for name in RINGS]
    if any(disc.sum() < FEWEST or face.crop_mask[disc > 0.5].mean() < HIDDEN for disc in discs):
        return crop
    lab = to_lab(crop)
    colour = cv2.GaussianBlur(lab[..., 1:], (0, 0), PAIR_BLUR)
    painted = (face.crop_mask & inside_face(face.landmarks)).astype(np.float32)
    move = np.zeros_like(colour)
    for name, other in (("left_eye", "right_eye"), ("right_eye", "left_eye")):
        middle, twin = (eye_points(face.landmarks, n).mean(0) for n in (name, other))
        mirror = np.float32([[-1, 0, middle[0] + twin[0]], [0, 1, twin[1] - middle[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        theirs, valid = (cv2.warpAffine(x, mirror, (256, 256), flags=flags) for x in (colour, painted))
        apart = theirs - colour
        share = 0.5 * np.maximum(1 - MOST_APART / np.maximum(np.linalg.norm(apart, axis=-1), 1e-6), 0)
        move += apart * (share * valid * painted * _round_eye(face.landmarks, name))[..., None]
    lab[..., 1:] += cv2.GaussianBlur(move, (0, 0), 1.0)
    return np.where((face.crop_mask & (np.abs(move).max(-1) > 0))[..., None], from_lab(lab), crop)


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

    # Beyond the face the mirror image shows hair and background.
    unknown = torch.from_numpy((face.crop_mask | ~inside_face(face.landmarks)).astype(np.float32))[None, None]
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
    return move, _round_eye(face.landmarks, name) * face.crop_mask * near


def _round_eye(landmarks: np.ndarray, name: str) -> np.ndarray:
    """float32 [256, 256] in [0, 1]: an eye with its lids and shadow, softly."""
    eye = eye_points(landmarks, name)
    wide = float(np.hypot(*(eye[3] - eye[0])))
    region = np.zeros((256, 256), np.float32)
    size = tuple(share * wide for share in REACH)
    cv2.ellipse(region, (tuple(map(float, eye.mean(0))), size, 0.0), 1.0, -1)
    return cv2.GaussianBlur(region, (0, 0), max(0.15 * wide, 0.5))


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
