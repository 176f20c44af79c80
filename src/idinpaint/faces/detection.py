"""Face detection: YuNet of the weight store, else Haar cascades. The only file where BGR exists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import Any

import cv2
import numpy as np

from idinpaint.faces.alignment import transform_points
from idinpaint.imaging.compositing import scale_of

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
SEARCH_SIDE = 640  # px, longest side of the copy that is searched
TURNED_SIDE = 320  # px, the same for the many turned copies
SMALLEST_FACE = 24  # px in that copy
SMALLEST_SIDE = 160  # px, smaller photos are enlarged to this
BORDER = 0.2  # replicated border, share of the longest side: tight crops have faces that touch the edge
ROTATIONS = (30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180)  # degrees, clockwise in the picture

# Cascade, smallest accepted last-stage weight, (dx, dy, scale) that turn its box into the box of the first cascade.
_CASCADES = (
    ("haarcascade_frontalface_alt2.xml", 0.0, (0.0, 0.0, 1.0)),
    ("haarcascade_frontalface_default.xml", 1.5, (0.0, 0.0, 0.97)),
)
_PROFILE = ("haarcascade_profileface.xml", 0.5, (-0.16, 0.03, 0.88))


@dataclass(frozen=True)
class Detection:
    """One face. box: (x, y, w, h) in photo px, before rotation by angle_deg (clockwise) about its centre.

    score: larger is surer, comparable within one call only. points5 [5, 2] photo px (eyes, nose tip, mouth corners;
    the picture's left first when upright) or None.
    """

    box: tuple[float, float, float, float]
    angle_deg: float
    score: float
    points5: np.ndarray | None = None

    @property
    def centre(self) -> np.ndarray:
        """[2] photo px."""
        x, y, w, h = self.box
        return np.array([x + w / 2, y + h / 2])


def detect_faces(
    rgb: np.ndarray, store: Any = None, angles: tuple[int, ...] | None = None, search_side: int = SEARCH_SIDE
) -> list[Detection]:
    """Faces in a photo [H, W, 3] uint8 RGB, best first.

    store: a weight store with .find(name) -> Path | None, or None for Haar only. angles: rotations to try, in
    degrees; by default upright first and the others only when that finds nothing. search_side: px, longest side
    of the copy that is searched; faces under about search_side / 25 px are missed.
    """
    yunet = store.find(YUNET_FILE) if store is not None else None
    rounds = ((0,), ROTATIONS) if angles is None else (tuple(angles),)
    for some_angles in rounds:
        small, to_photo = _search_copy(rgb, search_side if 0 in some_angles else min(search_side, TURNED_SIDE))
        found: list[Detection] = []
        for angle in some_angles:
            found += _detect_rotated(small, angle, to_photo, yunet)
        if found:
            return suppress(found)
    return []


def detect_everywhere(
    pictures: Sequence[np.ndarray], store: Any, angles: Sequence[int] = (0,), sides: Sequence[int] = (SEARCH_SIDE,)
) -> list[Detection]:
    """Faces by YuNet in every one of the pictures (the same photo, filled in several ways), at every scale and turn.

    pictures: [H, W, 3] uint8 RGB; sides: px, longest sides of the copies that are searched. Best first, each face
    once. Haar's scores do not compare over pictures, so without YuNet only the first picture and side is searched.
    """
    yunet = store.find(YUNET_FILE) if store is not None else None
    if yunet is None:
        return detect_faces(pictures[0], store, tuple(angles), max(sides))
    found: list[Detection] = []
    for picture in pictures:
        for side in sorted({min(side, max(picture.shape[:2])) for side in sides}):
            small, to_photo = _search_copy(picture, side)
            for angle in angles:
                found += _detect_rotated(small, angle, to_photo, yunet)
    return suppress(found)


def suppress(found: list[Detection], distance: float = 0.5) -> list[Detection]:
    """Non-maximum suppression: of detections whose centres are nearer than `distance` sides, the best stays."""
    kept: list[Detection] = []
    for one in sorted(found, key=lambda d: -d.score):
        if all(np.hypot(*(one.centre - k.centre)) > distance * max(one.box[2], k.box[2]) for k in kept):
            kept.append(one)
    return kept


def _search_copy(rgb: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A bordered copy of at most `side` px (tiny photos are enlarged) and its [2, 3] map to photo px."""
    height, width = rgb.shape[:2]
    longest = max(height, width)
    scale = side / longest if longest > side else min(max(SMALLEST_SIDE / longest, 1.0), 8.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = rgb if scale == 1 else cv2.resize(rgb, size, interpolation=interpolation)
    border = round(BORDER * max(size))
    small = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
    sx, sy = width / size[0], height / size[1]
    offset = [(0.5 - border) * sx - 0.5, (0.5 - border) * sy - 0.5]
    return small, np.array([[sx, 0, offset[0]], [0, sy, offset[1]]])


def _detect_rotated(small: np.ndarray, angle: int, to_photo: np.ndarray, yunet: Path | None) -> list[Detection]:
    """Turn the copy anticlockwise by `angle`, search it, and map what is found back to photo px."""
    height, width = small.shape[:2]
    turned, back = small, np.array([[1.0, 0, 0], [0, 1.0, 0]])
    if angle:
        radians = np.radians(angle)
        cos, sin = np.cos(radians), np.sin(radians)
        w, h = (int(np.ceil(abs(a * cos) + abs(b * sin))) for a, b in ((width, height), (height, width)))
        linear = np.array([[cos, -sin], [sin, cos]])  # turned px -> copy px, clockwise in image coordinates
        middle, target = np.array([(w - 1) / 2, (h - 1) / 2]), np.array([(width - 1) / 2, (height - 1) / 2])
        back = np.column_stack([linear, target - linear @ middle])
        turned = cv2.warpAffine(small, back, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    faces = _search_yunet(turned, yunet) if yunet is not None else _search_haar(turned, thorough=not angle)
    scale = scale_of(to_photo)
    found = []
    for (x, y, w, h), score, points5 in faces:
        centre = transform_points(to_photo, transform_points(back, np.array([x + w / 2 - 0.5, y + h / 2 - 0.5]))) + 0.5
        if points5 is not None:
            points5 = transform_points(to_photo, transform_points(back, points5))
        box = (centre[0] - w * scale / 2, centre[1] - h * scale / 2, w * scale, h * scale)
        found.append(Detection(tuple(map(float, box)), float(angle), score, points5))
    return found


@lru_cache(maxsize=8)
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)


def _run_cascade(grey: np.ndarray, name: str, least: float, calibration: tuple[float, float, float]) -> list:
    boxes, _, weights = _cascade(name).detectMultiScale3(
        grey, scaleFactor=1.1, minNeighbors=3, minSize=(SMALLEST_FACE, SMALLEST_FACE), outputRejectLevels=True
    )
    dx, dy, scale = calibration
    faces = []
    for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True):
        if weight >= least:
            cx, cy, side = x + w * (0.5 + dx), y + h * (0.5 + dy), w * scale
            faces.append(((cx - side / 2, cy - side / 2, side, side), float(weight - least)))
    return faces


def _search_haar(rgb: np.ndarray, thorough: bool) -> list[tuple[tuple[float, float, float, float], float, None]]:
    """Boxes, scores and no points. thorough: the second frontal cascade too, then profiles, both ways."""
    grey = cv2.equalizeHist(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    faces = []
    # The weights of the cascades are on different scales: the better cascade's boxes come first.
    for rank, (name, least, calibration) in enumerate(_CASCADES[: 2 if thorough else 1]):
        faces += [
            (box, float(np.tanh(s / 100) - rank), None) for box, s in _run_cascade(grey, name, least, calibration)
        ]
    if faces or not thorough:
        return faces
    width = grey.shape[1]
    for box, s in _run_cascade(grey, *_PROFILE):
        faces.append((box, float(np.tanh(s / 100) - 3), None))
    for (x, y, w, h), s in _run_cascade(np.ascontiguousarray(grey[:, ::-1]), *_PROFILE):
        faces.append(((width - x - w, y, w, h), float(np.tanh(s / 100) - 3), None))
    return faces


@lru_cache(maxsize=1)
def _yunet(path: str, _: int) -> Any:
    """The detector of a file, for one thread: it keeps what it works on. One for all copies of a photo: most have the
    size of the one before, so that the memory of its layers is used again; asking for it anew took a quarter of the
    CPU time of a search."""
    return cv2.FaceDetectorYN.create(path, "", (SEARCH_SIDE, SEARCH_SIDE), 0.6, 0.3, 200)


def _search_yunet(rgb: np.ndarray, path: Path) -> list[tuple[tuple[float, float, float, float], float, np.ndarray]]:
    """Boxes, scores and five points [5, 2]."""
    detector = _yunet(str(path), get_ident())
    detector.setInputSize(rgb.shape[1::-1])
    rows = detector.detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
    if rows is None:
        return []
    return [(tuple(map(float, r[:4])), float(r[14]), r[4:14].reshape(5, 2).astype(float)) for r in rows]
