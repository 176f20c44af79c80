"""Where the faces of a photo are: detectors on the filled and on the masked picture, then landmarks and realignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from idinpaint.faces.alignment import (
    compose,
    crop_from_box,
    crop_from_points5,
    ffhq_crop_matrix,
    scale_of,
    shrink_photo,
    snap_to_pixels,
    transform_points,
    warp_to_crop,
)
from idinpaint.faces.detection import ROTATIONS, SEARCH_SIDE, YUNET_FILE, Detection, detect_everywhere, detect_faces
from idinpaint.faces.heads import loose_hole
from idinpaint.faces.landmarks import LandmarkPredictor
from idinpaint.imaging.telea import coarse_fill
from idinpaint.types import CROP_SIZE, InputError

FINE_SEARCH_SIDE = 1280  # px, for small faces, when the first search finds none under the mask
SCALES = (
    SEARCH_SIDE // 2,
    SEARCH_SIDE,
    FINE_SEARCH_SIDE,
)  # px: YuNet misses faces that fill the picture, and tiny ones
# Mean landmark confidence of the visible points. On held-out faces: at least 0.76 without a hole, 0.53 with a
# hole of 30-40 % of the frame (medians 0.90 and 0.86); on crops of background: at most 0.39.
MIN_CONFIDENCE = 0.5  # below: no face
SURE_CONFIDENCE = 0.7  # above: no other reading is tried
TURNS = (45, -45, 90, -90, 135, -135, 180)  # degrees; YuNet finds faces turned by up to 30 as they are
REALIGNMENTS = 2
MAX_FACES = 32


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
    def side(self) -> float:
        """Photo px, side of the crop."""
        return scale_of(self.crop_to_photo) * CROP_SIZE

    @property
    def centre(self) -> np.ndarray:
        """[2] photo px, mean of eyes, nose and mouth."""
        return transform_points(self.crop_to_photo, self.landmarks[27:].mean(0))


class FaceSearch:
    """Finds and aligns faces. store: of the detectors' weights; without YuNet's, or without a store, Haar cascades."""

    def __init__(self, landmarker: LandmarkPredictor, store: Any = None) -> None:
        self.landmarker, self.store = landmarker, store

    def locate(self, photo_rgb: np.ndarray, max_faces: int = 4) -> list[AlignedFace]:
        """Upright faces that are sure, largest first: the quick search, for data sets of many photos.

        photo_rgb [H, W, 3] uint8, without a hole.
        """
        hole = np.zeros(photo_rgb.shape[:2], bool)
        small, _, to_photo = shrink_photo(photo_rgb, hole, FINE_SEARCH_SIDE)
        starts = [_start(d, to_photo) for d in detect_everywhere([small], self.store, (0,), SCALES)[:max_faces]]
        aligned = [self._align(photo_rgb, hole, start) for start in starts]
        faces = _distinct([face for face in aligned if face is not None and face.score >= SURE_CONFIDENCE])
        return sorted(faces, key=lambda f: -f.side)

    def find(self, photo: np.ndarray, hole: np.ndarray, only_touched: bool) -> list[AlignedFace]:
        """By YuNet on the filled and on the masked picture, at several scales; turned, and at last by windows, as long
        as a part of the hole belongs to no face."""
        if not self._has_yunet():
            return self._find_by_haar(photo, hole, only_touched)
        small, small_hole, to_photo = shrink_photo(photo, hole, FINE_SEARCH_SIDE)
        pictures = [coarse_fill(small, small_hole), small] if small_hole.any() else [small]
        found: list[AlignedFace] = []
        for angles, sides, least in ((0,), SCALES, MIN_CONFIDENCE), (TURNS, SCALES[:2], SURE_CONFIDENCE):
            starts = [_start(d, to_photo) for d in detect_everywhere(pictures, self.store, angles, sides)]
            rest = loose_hole(hole, found) if only_touched else hole
            near = [m for m in starts if not only_touched or _touches(m, rest if found else hole)]
            found = _distinct(found + self._align_all(photo, hole, near, least))
            under = [f for f in found if f.touched or not only_touched]
            if only_touched and found and not loose_hole(hole, found).any():
                return under
            if under and not only_touched:
                return under
            if starts and not under and angles == (0,):
                if any(f.score >= SURE_CONFIDENCE for f in self._align_all(photo, hole, starts[:4], MIN_CONFIDENCE)):
                    return []  # upright faces, none of them under the mask; `possible.py` looks at the hole again
        if not any(f.score >= SURE_CONFIDENCE for f in under):
            windows = self._best_windows(photo, hole, only_touched)
            found = _distinct(found + self._align_all(photo, hole, windows, SURE_CONFIDENCE))
        return [f for f in found if f.touched or not only_touched]

    def _find_by_haar(self, photo: np.ndarray, hole: np.ndarray, only_touched: bool) -> list[AlignedFace]:
        """Detect on a coarse fill: upright, then small faces, then turned ones, at last windows round the hole.

        The first search that finds a sure face under the mask ends it; less sure ones wait for a better reading.
        """
        small, small_hole, to_photo = shrink_photo(photo, hole, FINE_SEARCH_SIDE)
        filled = coarse_fill(small, small_hole) if small_hole.any() else small
        searches = [((0,), SEARCH_SIDE), ((0,), FINE_SEARCH_SIDE), (ROTATIONS, SEARCH_SIDE)]
        if max(filled.shape[:2]) <= SEARCH_SIDE:
            del searches[1]
        found: list[AlignedFace] = []
        for angles, side in searches:
            starts = [_start(d, to_photo) for d in detect_faces(filled, self.store, angles, side)]
            near = [m for m in starts if not only_touched or _touches(m, hole)]
            least = MIN_CONFIDENCE if angles == (0,) else SURE_CONFIDENCE
            found = _distinct(found + self._align_all(photo, hole, near, least))
            under = [f for f in found if f.touched or not only_touched]
            if any(f.score >= SURE_CONFIDENCE for f in under):
                return under
            far = [m for m in starts if not any(m is n for n in near)]
            if not under and angles == (0,) and side >= min(max(filled.shape[:2]), FINE_SEARCH_SIDE):
                if any(f.score >= SURE_CONFIDENCE for f in self._align_all(photo, hole, far[:4], MIN_CONFIDENCE)):
                    break  # the photo is upright, but the hole may hide a face from the Haar cascades
        windows = self._best_windows(photo, hole, only_touched)
        found = _distinct(found + self._align_all(photo, hole, windows, SURE_CONFIDENCE))
        return [f for f in found if f.touched or not only_touched]

    def _has_yunet(self) -> bool:
        return self.store is not None and self.store.find(YUNET_FILE) is not None

    def _best_windows(self, photo: np.ndarray, hole: np.ndarray, only_touched: bool) -> list[np.ndarray]:
        """The landmark network as a detector, where the hole defeats the others: its three surest windows."""
        windows = [m for m in _windows(hole.shape) if not only_touched or _touches(m, hole, 0.0)]
        scored = [(face.score, index) for index, m in enumerate(windows) if (face := self._read(photo, hole, m))]
        return [windows[index] for _, index in sorted(scored, reverse=True)[:3]]

    def _align_all(
        self, photo: np.ndarray, hole: np.ndarray, starts: list[np.ndarray], least: float
    ) -> list[AlignedFace]:
        """Align from each start (and its rotations when upright is not sure); the confident ones."""
        faces = []
        for start in starts[:MAX_FACES]:
            face = self._align(photo, hole, start)
            if face is None or face.score < SURE_CONFIDENCE:
                turned = [self._align(photo, hole, _turned(start, angle)) for angle in (60, -60, 120, -120, 180)]
                # Another reading than the detector's must be sure: under large holes any turn may look like a face.
                better = [f for f in turned if f is not None and f.score >= SURE_CONFIDENCE]
                face = max(better, key=lambda f: f.score, default=face)
            if face is not None and face.score >= least:
                faces.append(face)
        return faces

    def _read(self, photo: np.ndarray, hole: np.ndarray, matrix: np.ndarray) -> AlignedFace | None:
        """Crop and its landmarks; None when the crop lies outside of the photo."""
        crop, crop_mask, outside = warp_to_crop(photo, hole, matrix)
        if outside.all():
            return None
        landmarks, confidence = self.landmarker.predict(crop, crop_mask)
        return AlignedFace(matrix, crop, crop_mask, outside, np.asarray(landmarks), np.asarray(confidence))

    def _align(self, photo: np.ndarray, hole: np.ndarray, start: np.ndarray) -> AlignedFace | None:
        """Crop -> landmarks -> realign, REALIGNMENTS times; None when the crop runs away from the start."""
        face = self._read(photo, hole, start)
        for turn in range(REALIGNMENTS):
            if face is None:
                return None
            try:
                matrix = ffhq_crop_matrix(transform_points(face.crop_to_photo, face.landmarks))
            except ValueError:
                return None
            if not 0.4 < scale_of(matrix) / scale_of(start) < 2.5:
                return None
            if turn == REALIGNMENTS - 1:
                matrix = snap_to_pixels(matrix, hole.shape)
            face = self._read(photo, hole, matrix)
        return face

    def in_box(self, photo: np.ndarray, hole: np.ndarray, face_box: tuple[float, float, float, float]) -> AlignedFace:
        """The most confident alignment over the rotations of the box; never rejected. A turned one must be sure: under
        a large hole any turn may look like a face."""
        x, y, w, h = face_box
        height, width = hole.shape
        if not (w > 0 and h > 0 and x < width and y < height and x + w > 0 and y + h > 0):
            raise InputError(f"face box {x:g},{y:g},{w:g},{h:g} is empty or outside of the {width}x{height} photo")
        start = crop_from_box(face_box)
        upright = self._align(photo, hole, start) or self._read(photo, hole, start)
        if upright is None:
            raise InputError(f"face box {x:g},{y:g},{w:g},{h:g}: its face crop lies outside of the photo")
        if upright.score >= SURE_CONFIDENCE:
            return upright
        turned = [self._align(photo, hole, _turned(start, angle)) for angle in ROTATIONS]
        least = max(upright.score + 0.1, SURE_CONFIDENCE)
        better = [f for f in turned if f is not None and f.score > least]
        return max(better, key=lambda f: f.score, default=upright)


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


def _turned(start: np.ndarray, angle_deg: float) -> np.ndarray:
    """The crop turned clockwise about its centre."""
    angle, middle = np.radians(angle_deg), (CROP_SIZE - 1) / 2
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return compose(start, np.column_stack([linear, middle - linear @ [middle, middle]]))


def _distinct(faces: list[AlignedFace]) -> list[AlignedFace]:
    """The surest face of each place."""
    kept: list[AlignedFace] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if not any(same(face, k) for k in kept):
            kept.append(face)
    return kept


def same(a: AlignedFace, b: AlignedFace) -> bool:
    """Whether two readings are of one face: faces beside each other are further apart."""
    return bool(np.hypot(*(a.centre - b.centre)) <= 0.25 * max(a.side, b.side))


def _windows(shape: tuple[int, int]) -> list[np.ndarray]:
    """Square crops over the photo, from the whole shorter side down to 0.45 of it, in steps of 0.4 of their side."""
    height, width = shape
    matrices = []
    for share in (1.0, 0.7, 0.45):
        side = share * min(height, width)
        columns = int(np.ceil((width - side) / (0.4 * side))) + 1
        rows = int(np.ceil((height - side) / (0.4 * side))) + 1
        scale = side / CROP_SIZE
        for y in np.linspace(0, height - side, rows):
            for x in np.linspace(0, width - side, columns):
                matrices.append(np.column_stack([scale * np.eye(2), [x + scale / 2 - 0.5, y + scale / 2 - 0.5]]))
    return matrices
