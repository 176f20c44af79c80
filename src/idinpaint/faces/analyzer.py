"""What is known of every face that the mask touches, from known pixels only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from idinpaint.faces.alignment import transform_points, warp_share
from idinpaint.faces.features import (
    FEATURE_WEIGHTS,
    coverage,
    coverage_interval,
    face_coverage,
    feature_regions,
    identity_visible,
)
from idinpaint.faces.identity import arcface_crop
from idinpaint.faces.landmarks import LandmarkPredictor
from idinpaint.faces.mirror import labels_by_half
from idinpaint.faces.search import MAX_FACES, AlignedFace, FaceSearch, same
from idinpaint.types import FaceAnalysis

Box = tuple[float, float, float, float]
FaceBoxes = Box | Sequence[Box] | None


class FaceAnalyzer:
    """Finds, aligns and describes faces. The networks are given; parser, identity and store may be None."""

    def __init__(
        self, landmarker: LandmarkPredictor, parser: Any = None, identity: Any = None, store: Any = None
    ) -> None:
        self.search = FaceSearch(landmarker, store)
        self.landmarker, self.parser, self.identity = landmarker, parser, identity
        self.weights = FEATURE_WEIGHTS  # of the features in the coverage of a face

    def analyze(
        self,
        photo_rgb: np.ndarray,
        mask: np.ndarray | None,
        face_box: FaceBoxes = None,
    ) -> list[FaceAnalysis]:
        """Every face whose crop the mask touches, largest first; every face when mask is None.

        photo_rgb [H, W, 3] uint8; mask [H, W] bool, True = hole. Pixels under the mask are never read.
        face_box: (x, y, w, h) photo px of a face, or several of them, beside those that are detected; it wins over a
        detection at its place. Raises InputError for one that is empty or outside of the photo.
        """
        hole = np.zeros(photo_rgb.shape[:2], bool) if mask is None else np.asarray(mask, bool)
        photo = photo_rgb.copy()
        photo[hole] = 0  # first of all: nothing under the mask can leak
        given = [self.search.in_box(photo, hole, box) for box in face_boxes(face_box)]
        found = self.search.find(photo, hole, only_touched=mask is not None)
        faces = given + [face for face in found if not any(same(face, g) for g in given)]
        faces.sort(key=lambda f: -f.side)
        return [self._describe(photo, hole, face) for face in faces]

    def everyone(
        self, known: np.ndarray, hole: np.ndarray, touched: list[FaceAnalysis]
    ) -> list[FaceAnalysis | AlignedFace]:
        """The faces under the mask and the sure ones beside it: of skin and hair that belong to none, see possible.py.

        known [H, W, 3] uint8 with the hole [H, W] zeroed; touched: what `analyze` found in it.
        """
        centres = [transform_points(f.crop_to_photo, f.landmarks[27:].mean(0)) for f in touched]
        beside = []
        for face in self.search.locate(known, MAX_FACES):
            apart = (np.hypot(*(face.centre - centre)) > 0.25 * face.side for centre in centres)
            if all(apart):
                beside.append(face)
        return [*touched, *beside]

    def _describe(self, photo: np.ndarray, hole: np.ndarray, face: AlignedFace) -> FaceAnalysis:
        """Regions, coverage and identity of an aligned face."""
        labels = None if self.parser is None else self.parser.predict(face.crop, face.crop_mask)
        labels = labels_by_half(face.crop, face.crop_mask, face.landmarks, labels)
        regions = feature_regions(face.landmarks, labels, ~face.crop_mask)
        share = warp_share(hole, face.crop_to_photo)
        shares = coverage(regions, share, face.outside)
        interval = None
        if hole.any():
            crop_mask, outside = face.crop_mask, face.outside
            interval = coverage_interval(face.landmarks, labels, crop_mask, share, outside, self.weights)
        points = transform_points(face.crop_to_photo, face.landmarks)
        id_embed = self._embed(photo, hole, points) if identity_visible(shares) else None
        low, high = points.min(0), points.max(0)
        return FaceAnalysis(
            box=tuple(float(v) for v in (*low, *(high - low))),
            crop_to_photo=face.crop_to_photo,
            crop=face.crop,
            crop_mask=face.crop_mask,
            landmarks=face.landmarks,
            landmark_confidence=face.confidence,
            regions=regions,
            coverage=shares,
            face_coverage=face_coverage(shares, self.weights),
            id_embed=id_embed,
            coverage_interval=interval,
            labels=labels,
        )

    def _embed(self, photo: np.ndarray, hole: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        """Identity vector [D] of the face with landmarks [68, 2] photo px; None without an encoder."""
        if self.identity is None:
            return None
        try:
            aligned = arcface_crop(photo, hole, points)
        except (ValueError, np.linalg.LinAlgError):
            return None  # the points coincide: there is no face to read
        return np.asarray(self.identity.embed([aligned]))[0]


def face_boxes(given: FaceBoxes) -> list[Box]:
    """No box, one or several, as a list."""
    if given is None:
        return []
    return [tuple(given)] if np.ndim(given) == 1 else [tuple(box) for box in given]
