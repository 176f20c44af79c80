"""The hidden part of a face, taken from another photo of the person: turned to fit, toned and blended into a fill.

What exemplar-guided inpainting asks of a network (EXE-GAN, Lu et al. 2022) done in pixels: no network that trains for
minutes learns a person from an embedding, while a photo of the person is at hand. Only pixels under the mask change,
none of them is read but for what a fill put there, and the person's features keep their own proportions: an affine
map turns the reference, landmarks do not bend it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from idinpaint.compositing import harmonize, pull_push
from idinpaint.faces.alignment import transform_points, umeyama
from idinpaint.references import Reference
from idinpaint.types import FaceAnalysis

EXEMPLARS = 2  # candidates made, of the reference photos that fit best
TRIED = 6  # reference photos fitted, the nearest poses first
# Limits and weight by trial on validation people: a misfit beyond, or a stronger turn, mostly cost likeness.
MOST_TURN = 0.22  # pose_distance
MOST_MISFIT = 30.0  # grey levels
TURN_WEIGHT = 60.0  # grey levels of misfit that a pose_distance of 1 counts for
MOST_TWIN_TURN = 0.16  # pose_distance of a face to its own mirror image: 0 seen from the front
MOST_TWIN_MISFIT = 22.0  # grey levels
MOST_TWIN_HIDDEN = 0.1  # share of the visible eye
LEAST_HIDDEN = 0.5  # share of an eye, the nose or the mouth under the mask from which a reference helps
TAKEN = ("left_eye", "right_eye", "nose", "mouth")
NOT_SKIN = ("left_eye", "right_eye", "left_brow", "right_brow", "mouth")
# Of the 68 landmarks (iBUG order), the one on the other side of the face.
TWIN = np.r_[
    16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40, 54:47:-1, 59:54:-1, 64:59:-1, 67:64:-1
]
FOREHEAD = 0.30  # the area reaches so far above the brows, in eye distances
FEATHER = 6.0  # px over which the area's edge fades into the fill
TONE_BAND, TONE_BLUR, TONE_ROBUST = 20, 8.0, 25.0  # px of known face round the hole, px, grey levels
SEAM = 6.0  # px over which the last difference at the hole's edge fades
MISFIT_BAND = 12  # px
FLOW_BAND, FLOW_MOST, FLOW_BLUR = 28, 6.0, 6.0  # px


@dataclass(frozen=True)
class OtherHalf:
    """The face itself, mirrored: crop [256, 256, 3] uint8, crop_mask [256, 256] bool, landmarks [68, 2] crop px."""

    name: str
    crop: np.ndarray
    crop_mask: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Exemplar:
    """A filled crop [256, 256, 3] uint8. name: of the reference photo; share: of the hole that it filled, in [0, 1];
    pose: pose_distance; misfit: mean difference to the known face round the hole, grey levels."""

    image: np.ndarray
    name: str
    share: float
    pose: float
    misfit: float


def pose_distance(target: np.ndarray, source: np.ndarray) -> float:
    """How differently two faces are turned: RMS distance of their inner landmarks [68, 2] after the best shift, turn
    and scale, in eye distances."""
    moved = transform_points(umeyama(source, target), source) - target
    eyes = np.hypot(*(target[42:48].mean(0) - target[36:42].mean(0)))
    return float(np.sqrt((moved[17:] ** 2).sum(1).mean()) / max(float(eyes), 1.0))


def exemplars(
    face: FaceAnalysis, filled: np.ndarray, references: Sequence[Reference], count: int = EXEMPLARS
) -> list[Exemplar]:
    """Fills from at most `count` references, the best fit first; none when no feature is hidden or no photo fits.

    How a photo fits shows where the face is known: round the hole, its turned and toned copy must look the same.
    filled: uint8 [256, 256, 3], the face's crop with its hole filled by something already.
    """
    if max(face.coverage[name] for name in TAKEN) < LEAST_HIDDEN:
        return []
    usable = [(pose_distance(face.landmarks, r.landmarks), r) for r in references if r.landmarks is not None]
    near = sorted((item for item in usable if item[0] <= MOST_TURN), key=lambda item: item[0])[:TRIED]
    made = [transfer(face, filled, reference) for _, reference in near]
    fitting = [e for e in made if e is not None and e.misfit <= MOST_MISFIT]
    return sorted(fitting, key=lambda e: e.misfit + TURN_WEIGHT * e.pose)[:count]


def from_other_half(face: FaceAnalysis, filled: np.ndarray) -> Exemplar | None:
    """A fill from the face's own visible half, when one eye is hidden and its twin is not; None where it cannot be.

    filled as for `exemplars`. No photo of anybody else is needed, and the eye is the person's own.
    """
    hidden, seen = sorted((face.coverage["left_eye"], face.coverage["right_eye"]), reverse=True)
    if hidden < LEAST_HIDDEN or seen > MOST_TWIN_HIDDEN:
        return None
    half = mirrored(face)
    if pose_distance(face.landmarks, half.landmarks) > MOST_TWIN_TURN:
        return None
    made = transfer(face, filled, half)
    return made if made is not None and made.misfit <= MOST_TWIN_MISFIT else None


def mirrored(face: FaceAnalysis) -> OtherHalf:
    """The face's crop, hole and landmarks seen in a mirror."""
    points = face.landmarks[TWIN] * [-1, 1] + [255, 0]
    mask = np.ascontiguousarray(face.crop_mask[:, ::-1])
    return OtherHalf("the face's other half", np.ascontiguousarray(face.crop[:, ::-1]), _band(mask, 2), points)


def transfer(face: FaceAnalysis, filled: np.ndarray, reference: Reference | OtherHalf) -> Exemplar | None:
    """The face's part of the hole filled from one reference; None where the reference shows nothing of it."""
    hole, oval = face.crop_mask, face_area(face.landmarks)
    source = _affine_grid(face.landmarks, reference.landmarks)
    skin = ~np.any([face.regions[name] for name in NOT_SKIN], axis=0)
    picture, shown = _look_up(reference, source)
    known = oval & shown & ~hole
    picture = match_colours(picture, filled, known & skin)
    flow = _flow(_tone(picture, filled, known, hole), filled, known, hole)
    ys, xs = np.mgrid[0 : hole.shape[0], 0 : hole.shape[1]].astype(np.float32)
    source = cv2.remap(source, xs + flow[..., 0], ys + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    picture, shown = _look_up(reference, source)
    known, taken = oval & shown & ~hole, oval & shown & hole
    if not taken.any():
        return None
    picture = _tone(match_colours(picture, filled, known & skin), filled, known, hole)
    band = known & _band(hole, MISFIT_BAND)
    misfit = float(np.abs(picture - filled).mean(-1)[band].mean()) if band.any() else np.inf
    picture = harmonize(picture, filled, taken, falloff_px=SEAM)
    inside = cv2.distanceTransform(((oval & shown) | ~hole).astype(np.uint8), cv2.DIST_L2, 5)
    alpha = (np.clip(inside / FEATHER, 0, 1) * taken)[..., None]
    image = np.rint(filled * (1 - alpha) + picture * alpha).astype(np.uint8)
    share = float(alpha.sum() / hole.sum())
    return Exemplar(image, reference.name, share, pose_distance(face.landmarks, reference.landmarks), misfit)


def face_area(landmarks: np.ndarray) -> np.ndarray:
    """Jaw to a little above the brows, [256, 256] bool, from landmarks [68, 2] crop px."""
    up = landmarks[27] - landmarks[8]
    eyes = np.hypot(*(landmarks[42:48].mean(0) - landmarks[36:42].mean(0)))
    up = up / max(float(np.hypot(*up)), 1e-6) * eyes * FOREHEAD
    points = np.clip(np.concatenate([landmarks, landmarks[17:27] + up]), -2000, 2000)
    area = np.zeros((256, 256), np.uint8)
    cv2.fillConvexPoly(area, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return area.astype(bool)


def match_colours(picture: np.ndarray, goal: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`picture` with mean and spread of its CIELAB channels over `where` made those of `goal` (Reinhard et al. 2001).

    uint8 [H, W, 3] both; where: bool [H, W]. Returned unchanged where there is too little to compare.
    """
    if where.sum() < 150:
        return picture
    own, wanted = (cv2.cvtColor(p, cv2.COLOR_RGB2LAB).astype(np.float32) for p in (picture, goal))
    scale = np.clip((wanted[where].std(0) + 1) / (own[where].std(0) + 1), 0.75, 1.33)
    lab = (own - own[where].mean(0)) * scale + wanted[where].mean(0)
    return cv2.cvtColor(np.clip(np.rint(lab), 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def _affine_grid(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Where in the source each crop px of the target lies, [256, 256, 2] float32: least squares over the landmarks."""
    ones = np.ones((len(target), 1))
    matrix, *_ = np.linalg.lstsq(np.hstack([target, ones]), source, rcond=None)
    ys, xs = np.mgrid[0:256, 0:256].astype(np.float64)
    return (np.stack([xs, ys, np.ones_like(xs)], -1) @ matrix).astype(np.float32)


def _look_up(reference: Reference | OtherHalf, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reference's crop at `source` [256, 256, 2], uint8, and where it shows anything, bool."""
    picture = cv2.remap(reference.crop, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    hidden = reference.crop_mask.astype(np.float32)
    hidden = cv2.remap(hidden, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=1)
    return picture, hidden < 0.01


def _band(hole: np.ndarray, px: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * px + 1, 2 * px + 1))
    return cv2.dilate(hole.astype(np.uint8), kernel).astype(bool)


def _spread(values: np.ndarray, weight: np.ndarray, blur: float) -> np.ndarray:
    """Smooth interpolation of values [H, W, 3], of which weight [H, W] says where they are known."""
    weighted = np.dstack([values * weight[..., None], weight]).astype(np.float32)
    return pull_push(cv2.GaussianBlur(weighted, (0, 0), blur, borderType=cv2.BORDER_CONSTANT))


def _tone(picture: np.ndarray, filled: np.ndarray, known: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """`picture` in the light of the known face round the hole: their smooth difference added, float32 [256, 256, 3].

    Px that differ from the rest of the band (a feature in another place) count for little.
    """
    near = known & _band(hole, TONE_BAND)
    near = near if near.sum() >= 100 else known
    if near.sum() < 30:
        return picture.astype(np.float32)
    difference = filled.astype(np.float32) - picture
    off = np.abs(difference - np.median(difference[near], axis=0)).mean(-1)
    return np.clip(picture + _spread(difference, near / (1 + (off / TONE_ROBUST) ** 2), TONE_BLUR), 0, 255)


def _flow(picture: np.ndarray, filled: np.ndarray, known: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """How far the picture's lines miss those of the known face round the hole, carried into the hole: px [256, 256, 2].

    DIS optical flow (Kroeger et al. 2016), taken where the face has edges and the flow is short.
    """
    own = cv2.cvtColor(np.rint(picture).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    goal = np.where(hole, own, cv2.cvtColor(filled, cv2.COLOR_RGB2GRAY))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(goal, own, None)
    edges = np.hypot(cv2.Sobel(goal, cv2.CV_32F, 1, 0), cv2.Sobel(goal, cv2.CV_32F, 0, 1))
    sure = known & _band(hole, FLOW_BAND) & ~_band(hole, 4) & (np.hypot(flow[..., 0], flow[..., 1]) < FLOW_MOST)
    weight = sure * np.minimum(edges / 40, 1.0)
    if weight.sum() < 20:
        return np.zeros_like(flow)
    return _spread(np.dstack([flow, np.zeros_like(edges)]), weight, FLOW_BLUR)[..., :2]
