"""What is known of every face that the mask touches, from known pixels only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from idinpaint.compositing import coarse_fill
from idinpaint.faces.alignment import (
    arcface_matrix,
    crop_from_box,
    crop_from_points5,
    ffhq_crop_matrix,
    scale_of,
    shrink_photo,
    transform_points,
    warp_to_crop,
)
from idinpaint.faces.detection import ROTATIONS, SEARCH_SIDE, Detection, detect_faces
from idinpaint.faces.features import coverage, face_coverage, feature_regions, identity_visible
from idinpaint.types import CROP_SIZE, FaceAnalysis, InputError

FINE_SEARCH_SIDE = 1280  # px, for small faces, when the first search finds none under the mask
MIN_CONFIDENCE = 0.3  # mean landmark confidence of visible points below which a detection is no face
MIN_GUESS_CONFIDENCE = 0.5  # the same for a guess that no detector supports
REALIGNMENTS = 2
MAX_FACES = 16


class Landmarker(Protocol):
    """predict(crop [256, 256, 3] uint8, crop_mask [256, 256] bool) -> points [68, 2] crop px, confidence [68]."""

    def predict(self, crop: np.ndarray, crop_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class AlignedFace:
    """A face after realignment: the crop, its mask (beyond the photo included) and its landmarks in crop px."""

    crop_to_photo: np.ndarray
    crop: np.ndarray
    crop_mask: np.ndarray
    outside: np.ndarray
    landmarks: np.ndarray
    confidence: np.ndarray

    @property
    def touched(self) -> bool:
        """Whether the mask reaches into the crop."""
        return bool((self.crop_mask & ~self.outside).any())

    @property
    def score(self) -> float:
        """Mean landmark confidence of the visible points (of all points when fewer than five are visible)."""
        x, y = np.clip(np.rint(self.landmarks), 0, CROP_SIZE - 1).astype(int).T
        seen = ~self.crop_mask[y, x]
        return float(self.confidence[seen].mean() if seen.sum() >= 5 else self.confidence.mean())

    @property
    def centre(self) -> np.ndarray:
        """[2] photo px, mean of eyes, nose and mouth."""
        return transform_points(self.crop_to_photo, self.landmarks[27:].mean(0))


class FaceAnalyzer:
    """Finds, aligns and describes faces. The networks are given; parser, identity and store may be None."""

    def __init__(self, landmarker: Landmarker, parser: Any = None, identity: Any = None, store: Any = None) -> None:
        self.landmarker, self.parser, self.identity, self.store = landmarker, parser, identity, store

    def analyze(
        self,
        photo_rgb: np.ndarray,
        mask: np.ndarray | None,
        face_box: tuple[float, float, float, float] | None = None,
    ) -> list[FaceAnalysis]:
        """Every face whose crop the mask touches, largest first; every face when mask is None.

        photo_rgb [H, W, 3] uint8; mask [H, W] bool, True = hole. Pixels under the mask are never read.
        face_box: (x, y, w, h) photo px of the one face to take, without detection.
        Raises InputError for a face_box that is empty or outside of the photo.
        """
        hole = np.zeros(photo_rgb.shape[:2], bool) if mask is None else np.asarray(mask, bool)
        photo = photo_rgb.copy()
        photo[hole] = 0  # first of all: nothing under the mask can leak
        if face_box is not None:
            return [self._describe(photo, hole, self._from_face_box(photo, hole, face_box))]
        faces = self._find(photo, hole, only_touched=mask is not None)
        faces.sort(key=lambda f: -scale_of(f.crop_to_photo))
        return [self._describe(photo, hole, face) for face in faces]

    def _find(self, photo: np.ndarray, hole: np.ndarray, only_touched: bool) -> list[AlignedFace]:
        """Detect on a coarse fill: upright, then small faces, then turned ones, at last guesses without a detector."""
        small, small_hole, to_photo = shrink_photo(photo, hole, FINE_SEARCH_SIDE)
        filled = coarse_fill(small, small_hole) if small_hole.any() else small
        searches = [((0,), SEARCH_SIDE), ((0,), FINE_SEARCH_SIDE), (ROTATIONS, SEARCH_SIDE)]
        if max(filled.shape[:2]) <= SEARCH_SIDE:
            del searches[1]
        elsewhere: list[np.ndarray] = []
        for angles, side in searches:
            if len(angles) > 1 and self._accept(photo, hole, elsewhere[:4], MIN_CONFIDENCE):
                return []  # upright faces, none of them under the mask: it lies on the background
            starts = [_start(d, to_photo) for d in detect_faces(filled, self.store, angles, side)]
            near = [m for m in starts if not only_touched or _touches(m, hole)]
            elsewhere = [m for m in starts if only_touched and not _touches(m, hole)]
            faces = [f for f in self._accept(photo, hole, near, MIN_CONFIDENCE) if f.touched or not only_touched]
            if faces:
                return faces
        guesses = self._accept(photo, hole, _guesses(hole.shape), MIN_GUESS_CONFIDENCE)[:1]
        return [f for f in guesses if f.touched or not only_touched]

    def _accept(
        self, photo: np.ndarray, hole: np.ndarray, starts: Iterable[np.ndarray], least: float
    ) -> list[AlignedFace]:
        """Align from each start; keep confident faces, best first, one for each place."""
        aligned = [self._align(photo, hole, start) for start in list(starts)[:MAX_FACES]]
        kept: list[AlignedFace] = []
        for face in sorted((f for f in aligned if f is not None), key=lambda f: -f.score):
            side = scale_of(face.crop_to_photo) * CROP_SIZE
            if face.score >= least and all(np.hypot(*(face.centre - k.centre)) > 0.25 * side for k in kept):
                kept.append(face)
        return kept

    def _align(self, photo: np.ndarray, hole: np.ndarray, start: np.ndarray) -> AlignedFace | None:
        """Crop -> landmarks -> realign, REALIGNMENTS times; None when the crop runs away from the start."""
        matrix = start
        for step in range(REALIGNMENTS + 1):
            crop, crop_mask, outside = warp_to_crop(photo, hole, matrix)
            if outside.all():
                return None
            landmarks, confidence = self.landmarker.predict(crop, crop_mask)
            if step == REALIGNMENTS:
                return AlignedFace(matrix, crop, crop_mask, outside, np.asarray(landmarks), np.asarray(confidence))
            try:
                matrix = ffhq_crop_matrix(transform_points(matrix, landmarks))
            except ValueError:
                return None
            if not 0.3 < scale_of(matrix) / scale_of(start) < 3.0:
                return None
        return None

    def _from_face_box(
        self, photo: np.ndarray, hole: np.ndarray, face_box: tuple[float, float, float, float]
    ) -> AlignedFace:
        """The most confident alignment over the rotations of the box; never rejected."""
        x, y, w, h = face_box
        height, width = hole.shape
        if not (w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0):
            raise InputError(f"face box {x:g},{y:g},{w:g},{h:g} is empty or outside of the {width}x{height} photo")
        aligned = [self._align(photo, hole, crop_from_box(face_box, angle)) for angle in (0, *ROTATIONS)]
        faces = [f for f in aligned if f is not None]
        if faces:
            # The upright reading is preferred unless another is clearly surer.
            return max(faces, key=lambda f: f.score + (0.05 if f is aligned[0] else 0.0))
        matrix = crop_from_box(face_box)
        crop, crop_mask, outside = warp_to_crop(photo, hole, matrix)
        landmarks, confidence = self.landmarker.predict(crop, crop_mask)
        return AlignedFace(matrix, crop, crop_mask, outside, landmarks, confidence)

    def _describe(self, photo: np.ndarray, hole: np.ndarray, face: AlignedFace) -> FaceAnalysis:
        """Regions, coverage and identity of an aligned face."""
        labels = None if self.parser is None else self.parser.predict(face.crop, face.crop_mask)
        regions = feature_regions(face.landmarks, labels, ~face.crop_mask)
        shares = coverage(regions, face.crop_mask, face.outside)
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
            face_coverage=face_coverage(shares),
            id_embed=id_embed,
        )

    def _embed(self, photo: np.ndarray, hole: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        """Identity vector [D] of the face with landmarks [68, 2] photo px; None without an encoder."""
        if self.identity is None:
            return None
        try:
            matrix = arcface_matrix(points)
        except (ValueError, np.linalg.LinAlgError):
            return None  # the points coincide: there is no face to read
        return np.asarray(self.identity.embed([warp_to_crop(photo, hole, matrix, 112)[0]]))[0]


def _start(detection: Detection, to_photo: np.ndarray) -> np.ndarray:
    """First crop of a detection made on a shrunken copy; to_photo [2, 3] maps the copy's px to photo px."""
    if detection.points5 is not None:
        return crop_from_points5(transform_points(to_photo, detection.points5))
    x, y, w, h = detection.box
    factor = scale_of(to_photo)
    corner = transform_points(to_photo, np.array([x - 0.5, y - 0.5])) + 0.5
    return crop_from_box((corner[0], corner[1], w * factor, h * factor), detection.angle_deg)


def _touches(start: np.ndarray, hole: np.ndarray, margin: float = 0.15) -> bool:
    """Whether the mask may reach into the crop once it is realigned: margin is a share of the crop's side."""
    low, high = -margin * CROP_SIZE, (1 + margin) * CROP_SIZE
    corners = transform_points(start, np.array([[low, low], [high, low], [high, high], [low, high]]))
    x0, y0 = np.maximum(np.floor(corners.min(0)), 0).astype(int)
    x1, y1 = np.maximum(np.ceil(corners.max(0)), 0).astype(int)
    return bool(hole[y0:y1, x0:x1].any())


def _guesses(shape: tuple[int, int]) -> list[np.ndarray]:
    """Where the face of a portrait is likely to be: crops of the whole frame, its middle and its upper middle."""
    height, width = shape
    side = min(height, width)
    centres = [(0.5, side, 0.5), (0.5, 0.7 * side, 0.5), (0.5, 0.7 * side, 0.35), (0.5, 0.5 * side, 0.35)]
    matrices = []
    for cx, s, cy in centres:
        scale = s / CROP_SIZE
        corner = np.array([cx * width, cy * height]) - s / 2 + scale / 2 - 0.5
        matrices.append(np.column_stack([scale * np.eye(2), corner]))
    return matrices
