"""Pictures to look at: the comparison of input and result, the overlay of the analysis. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from idinpaint.imaging.containers import encoding
from idinpaint.imaging.encoders import write_atomic
from idinpaint.imaging.formats import output_format
from idinpaint.types import Candidate, Decision, FaceAnalysis

MAX_WIDTH = 2400  # px
GAP = 8  # px between panels
LABEL = 28  # px, height of a line of text
HOLE_COLOUR = (235, 40, 120)
SEEN_COLOUR, HIDDEN_COLOUR = (60, 220, 90), (255, 210, 0)


def save_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes uint8 RGB [h, w, 3] in the format of the extension, all or nothing. InputError when it fails."""
    with encoding(path):
        write_atomic(path, lambda file: Image.fromarray(picture).save(file, output_format(path).name))


def shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """Area-averaged to at most `width` px; smaller pictures stay as they are."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def paint_hole(rgb: np.ndarray, mask: np.ndarray, width: int, opacity: float = 1.0) -> np.ndarray:
    """The photo at most `width` px wide with the hole in colour: uint8 [h, w, 3]. mask: bool [H, W]."""
    weight = shrink(mask.astype(np.float32), width)[..., None] * opacity
    painted = shrink(rgb, width) * (1 - weight) + np.array(HOLE_COLOUR, np.float32) * weight
    return np.rint(painted).astype(np.uint8)


def comparison(
    rgb: np.ndarray,
    mask: np.ndarray,
    restored: np.ndarray,
    candidates: Sequence[Sequence[Candidate]] = (),
    picked: int = 1,
    done: str = "restored",
) -> np.ndarray:
    """Input with the hole marked | restored, and below, a row for each face with several candidates, the delivered one
    first, by the numbers that --candidate takes.

    rgb, restored: uint8 [H, W, 3]; mask: bool [H, W]; picked: the number of the delivered one; done: what the result is
    called.
    Returns uint8 [h, w, 3], at most MAX_WIDTH px wide.
    """
    width = min(rgb.shape[1], (MAX_WIDTH - GAP) // 2)
    panels = [paint_hole(rgb, mask, width), shrink(restored, width)]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    total = 2 * width + GAP
    rows = [_label(["input, hole marked", done], [0, width + GAP], total), np.hstack([panels[0], gap, panels[1]])]
    for face in candidates:
        if len(face) > 1:
            rows += _candidate_row(face, total, picked if picked <= len(face) else 1)
    return np.vstack(rows)


def _candidate_row(face: Sequence[Candidate], total: int, picked: int) -> list[np.ndarray]:
    """A line of labels and a line of crops, the delivered one first, both `total` px wide."""
    numbers = [picked, *(n for n in range(1, len(face) + 1) if n != picked)]
    side = max(8, min(face[0].image.shape[1], (total + GAP) // len(face) - GAP))
    face = face[: max(1, (total + GAP) // (side + GAP))]
    row = np.full((side, total, 3), 255, np.uint8)
    texts, places = [], []
    for index, candidate in enumerate(face):
        x = index * (side + GAP)
        tile = cv2.resize(candidate.image, (side, side), interpolation=cv2.INTER_AREA)
        row[:, x : x + side] = tile[:, : total - x]
        similarity = candidate.identity_similarity
        text = f"{numbers[index]}" + ("" if similarity is None else f": {similarity:.2f}")
        texts.append(f"candidate {text}, delivered" if index == 0 else text)
        places.append(x)
    return [_label(texts, places, total), row]


def _label(texts: Sequence[str], places: Sequence[int], width: int) -> np.ndarray:
    """White strip [LABEL, width, 3] with texts at x places, each cut where the next begins."""
    strip = np.full((LABEL, width, 3), 255, np.uint8)
    for text, left, right in zip(texts, places, [*places[1:], width]):
        part = np.ascontiguousarray(strip[:, left:right])
        cv2.putText(part, text, (2, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA)
        strip[:, left:right] = part
    return strip


def overlay(rgb: np.ndarray, mask: np.ndarray, faces: Sequence[FaceAnalysis], decision: Decision) -> np.ndarray:
    """What the analysis saw: hole tinted, landmarks (hidden ones in another colour), crop frames, coverage.

    rgb: uint8 [H, W, 3]; mask: bool [H, W]. Returns uint8 [h, w, 3], at most MAX_WIDTH px wide.
    """
    picture = np.ascontiguousarray(paint_hole(rgb, mask, MAX_WIDTH))
    scale = picture.shape[1] / rgb.shape[1]
    line = max(1, round(max(picture.shape[:2]) / 800))
    for number, face in enumerate(faces, 1):
        side = face.crop.shape[0] - 1
        frame = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float64)
        corners = _to_photo(frame, face.crop_to_photo) * scale
        cv2.polylines(picture, [np.rint(corners).astype(np.int32)], True, (255, 255, 255), line, cv2.LINE_AA)
        points = _to_photo(face.landmarks, face.crop_to_photo)
        for x, y in points:
            inside = 0 <= round(y) < mask.shape[0] and 0 <= round(x) < mask.shape[1]
            colour = HIDDEN_COLOUR if inside and mask[round(y), round(x)] else SEEN_COLOUR
            centre = (round(float(x) * scale), round(float(y) * scale))
            cv2.circle(picture, centre, 2 * line, colour, -1, cv2.LINE_AA)
        text = f"{number}: {100 * face.face_coverage:.0f} %"
        place = tuple(int(v) for v in np.maximum(corners.min(axis=0) + (4, 20 * line), 0))
        for colour, width in (((0, 0, 0), 3 * line), ((255, 255, 255), line)):  # an outline, to be read on pale photos
            cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * line, colour, width, cv2.LINE_AA)
    words = f"{decision.strategy} ({decision.rule}), {100 * decision.hole_ratio:.1f} % of the photo is hole"
    return np.vstack([_label([words], [0], picture.shape[1]), picture])


def _to_photo(points: np.ndarray, crop_to_photo: np.ndarray) -> np.ndarray:
    """[N, 2] crop px -> photo px."""
    return points @ crop_to_photo[:, :2].T + crop_to_photo[:, 2]
