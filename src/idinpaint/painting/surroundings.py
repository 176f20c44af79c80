"""Wide holes beside faces: the background goes on there, and no network's guess is pasted over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from idinpaint.faces.alignment import scale_of, transform_points, warp_share, warp_to_crop
from idinpaint.faces.heads import head
from idinpaint.imaging.telea import coarse_fill
from idinpaint.imaging.texture import continued
from idinpaint.types import FaceAnalysis

WIDE_PX, WIDE_SHARE = 20, 0.04  # px, and of the photo's shorter side: a narrower part is a stroke, filled by waves
APART = 2  # px from a person in which background is not copied: it holds their outline
LOOKED_AT = 1024  # px, longer side of the copy on which the width of the hole is measured
OUTLINE = 1.0  # crop px of a blur: the parser's outline is ragged
EDGE = 0.8  # crop px of a blur, by which a face's fill leads over to the background
BEHIND = 3  # crop px by which the background goes on behind a person for that


@dataclass(frozen=True)
class Backdrop:
    """picture: uint8 [H, W, 3], the photo with its hole filled; part: [H, W] bool, the wide background parts of it."""

    picture: np.ndarray
    part: np.ndarray

    def behind(self, crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
        """A painted crop uint8 [256, 256, 3] with this background in place of the network's."""
        share = warp_share(self.part, face.crop_to_photo)
        if not share.any():
            return crop
        share = cv2.GaussianBlur(share, (0, 0), EDGE) * face.crop_mask
        return _mixed(crop, warp_to_crop(self.picture, None, face.crop_to_photo)[0], share)

    def round(self, photo: np.ndarray, hole: np.ndarray, face: FaceAnalysis) -> np.ndarray:
        """The photo uint8 [H, W, 3] into whose hole the face was pasted, with this background round it again."""
        corners = transform_points(face.crop_to_photo, np.array([[0, 0], [256, 0], [0, 256], [256, 256]], float))
        low, high = (
            np.maximum(np.floor(corners.min(0)), 0).astype(int),
            np.maximum(np.ceil(corners.max(0)), 0).astype(int),
        )
        box = slice(low[1], high[1] + 1), slice(low[0], high[0] + 1)
        part = self.part[box]
        if not part.any():
            return photo
        share = cv2.GaussianBlur(part.astype(np.float32), (0, 0), EDGE * max(1.0, scale_of(face.crop_to_photo)))
        share = np.where(part, np.maximum(share, 0.5), share) * hole[box]
        photo = photo.copy()
        photo[box] = _mixed(photo[box], self.picture[box], share)
        return photo


def _mixed(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3], so much of what is above."""
    mixed, where = below.copy(), share > 0
    one = below[where].astype(np.float32)
    mixed[where] = np.rint(one + share[where][:, None] * (above[where] - one)).clip(0, 255)
    return mixed


def wide_background(hole: np.ndarray, faces: Sequence[FaceAnalysis]) -> tuple[np.ndarray, np.ndarray]:
    """([H, W] bool, the wide parts of the hole that show nobody; [H, W] bool, where the faces' people are)."""
    people = np.zeros(hole.shape, bool)
    for face in faces:
        if face.labels is not None:
            shown = cv2.GaussianBlur(255 * (face.labels > 0).astype(np.uint8), (0, 0), OUTLINE)
            people |= cv2.warpAffine(shown, face.crop_to_photo, hole.shape[::-1]) > 127
        inside = np.rint(np.clip(transform_points(face.crop_to_photo, face.landmarks), -1e5, 1e5)).astype(np.int32)
        hull = cv2.fillConvexPoly(np.zeros(hole.shape, np.uint8), cv2.convexHull(inside), 1)
        people |= hull.astype(bool)  # whatever the parser sees there, say of a drawing
    free = (hole & ~people).astype(np.uint8)
    scale = min(1.0, LOOKED_AT / max(hole.shape))
    size = tuple(max(1, round(side * scale)) for side in hole.shape[::-1])
    small = cv2.resize(free, size, interpolation=cv2.INTER_NEAREST)
    wide = max(WIDE_PX, WIDE_SHARE * min(hole.shape)) * scale / 2
    reach = int(np.ceil(wide)) + 1
    padded = np.pad(small, reach, mode="edge")  # a torn corner goes on beyond the photo
    core = cv2.distanceTransform(padded, cv2.DIST_L2, 5) >= wide
    # with the rounded corners of what is open to a disc, and a little of the strokes that lead there
    near = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 5) <= 2 * wide if core.any() else core
    near = near[reach:-reach, reach:-reach].astype(np.uint8)
    return free.astype(bool) & (cv2.resize(near, hole.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0), people


def continue_background(
    known: np.ndarray, hole: np.ndarray, faces: Sequence[FaceAnalysis], analyzer: Any, seed: int,
    everyone: Sequence[Any] | None = None,
) -> Backdrop:  # fmt: skip
    """The photo with its hole filled coarsely, the wide background parts by texture that goes on.

    known: uint8 [H, W, 3], the hole [H, W] bool zeroed; faces: those under the hole; analyzer: the FaceAnalyzer that
    finds the others, since no head is copied; None leaves all of it coarse. everyone: what it found already.
    """
    picture, nothing = coarse_fill(known, hole), np.zeros_like(hole)
    if analyzer is None:
        return Backdrop(picture, nothing)
    part, people = wide_background(hole, faces)
    if not part.any():
        return Backdrop(picture, nothing)
    for face in analyzer.everyone(known, hole, list(faces)) if everyone is None else everyone:
        people |= head(face.landmarks, face.crop_to_photo, hole.shape)
    near = cv2.dilate(people.astype(np.uint8), np.ones((2 * APART + 1, 2 * APART + 1), np.uint8)).astype(bool)
    reach = round(BEHIND * max([1.0, *(scale_of(face.crop_to_photo) for face in faces)]))
    behind = cv2.dilate(part.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).astype(bool) & hole
    return Backdrop(continued(picture, behind, ~hole & ~near, seed), part)
