"""Parts of the hole that may hide a face which no detector found: they are left marked, never filled as background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from idinpaint.faces.alignment import scale_of, warp_to_crop
from idinpaint.faces.heads import head, loose_hole
from idinpaint.types import CROP_SIZE, Decision, FaceAnalysis

# A loose part through which no circle of this width fits is a scratch, or the fringe of a face's own hole, and hides no
# eye of a face that could be restored: px, and share of the photo's shorter side.
LEAST_PX, LEAST_SHARE = 6, 0.012
SOME_PERSON = 0.12  # share of skin and hair round a part under which no window over it can reach SHARE
PERSON = (1, 2, 3, 4, 5, 6, 7, 8)  # parsing classes: skin, the features and hair
WITH_CLOTHES = (*PERSON, 9)
FACE_WINDOWS = (1.0, 1.6, 2.5)  # sides of the windows, in widths of the loose part
SCORE = 0.5  # mean confidence of the visible landmarks in a window from which it shows a face
SHARE = 0.35  # of the known pixels round the part in such a window that are skin or hair
WINDOWS = 48  # at most, for a part
LEAST_FACE = 32  # px, width of a face that can be restored
WHOLE = 0.8  # of the narrowest face found: a part as wide can hide another one whole
# Of the known pixels round such a part that are skin, hair or clothes. The parser tells a covered head from a hole in
# a wall badly: on 80 pasted groups 24 had a background hole left marked (eval/groups.py).
ROUND_IT = 0.2


@dataclass(frozen=True)
class Possible:
    """marked: [H, W] bool, the parts that may hide a face; wide: (x, y) photo px of parts that are wide enough to hide
    one though nothing round them speaks for it; everyone: FaceAnalyzer.everyone, None where nobody had to be looked
    for."""

    marked: np.ndarray
    wide: list[tuple[float, float]]
    everyone: list[Any] | None = None


def possible_faces(
    known: np.ndarray, hole: np.ndarray, faces: Sequence[FaceAnalysis], landmarker: Any, parser: Any
) -> Possible:
    """The parts of the hole that touch skin or hair which belongs to none of the faces.

    known: uint8 [H, W, 3] with the hole [H, W] zeroed; faces: all that were found, touched by the hole or not.
    """
    marked, taken, wide = np.zeros_like(hole), np.zeros_like(hole), []
    for face in faces:
        taken |= head(face.landmarks, face.crop_to_photo, hole.shape)
    widths = [float(np.ptp(face.landmarks[:, 0])) * scale_of(face.crop_to_photo) for face in faces]
    least = max(LEAST_FACE, WHOLE * min(widths, default=0.0))
    for part in loose_parts(hole, faces):
        score, share = 0.0, 0.0
        if _share_round(known, hole, part, taken, parser, PERSON) >= SOME_PERSON:  # one pass spares up to WINDOWS
            score, share = evidence(known, hole, part, taken, faces, landmarker, parser)
        if score >= SCORE and share >= SHARE:
            marked |= part
        elif _width(part) >= least:
            if not _at_edge(part) and _share_round(known, hole, part, taken, parser, WITH_CLOTHES) >= ROUND_IT:
                marked |= part
            else:
                ys, xs = np.nonzero(part)
                wide.append((float(xs.mean()), float(ys.mean())))
    return Possible(marked, wide, list(faces))


def _width(part: np.ndarray) -> float:
    """px, diameter of the largest circle within."""
    return 2 * float(cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 3).max())


def _at_edge(part: np.ndarray) -> bool:
    """Whether it is torn from the photo's edge."""
    return bool(part[0].any() or part[-1].any() or part[:, 0].any() or part[:, -1].any())


def _share_round(
    known: np.ndarray, hole: np.ndarray, part: np.ndarray, taken: np.ndarray, parser: Any, classes: Sequence[int]
) -> float:
    """Share of the known pixels round the part, beside other heads, that are of these parsing classes."""
    ys, xs = np.nonzero(part)
    middle, side = np.array([xs.mean(), ys.mean()]), 2.2 * (max(np.ptp(xs), np.ptp(ys)) + 1)
    scale = side / CROP_SIZE
    matrix = np.column_stack([scale * np.eye(2), middle - side / 2 + scale / 2 - 0.5])
    crop, crop_mask, _ = warp_to_crop(known, hole, matrix)
    ring = cv2.dilate(_warp(part, matrix).astype(np.uint8), np.ones((69, 69), np.uint8)).astype(bool) & ~crop_mask
    ring &= ~_warp(taken, matrix)
    return float(np.isin(parser.predict(crop, crop_mask)[ring], classes).mean()) if ring.sum() >= 30 else 0.0


def loose_parts(hole: np.ndarray, faces: Sequence[FaceAnalysis]) -> list[np.ndarray]:
    """[H, W] bool each: the connected parts of the hole outside of every face's head, largest first."""
    rest = loose_hole(hole, faces)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(rest.astype(np.uint8), connectivity=8)
    wide = 2 * cv2.distanceTransform(np.pad(rest.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    wide = wide >= max(LEAST_PX, LEAST_SHARE * min(hole.shape))
    kept = set(np.unique(labels[wide])) - {0}
    order = sorted(kept, key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    return [labels == i for i in order[:16]]


def evidence(
    known: np.ndarray, hole: np.ndarray, part: np.ndarray, taken: np.ndarray, faces: Sequence[FaceAnalysis],
    landmarker: Any, parser: Any,
) -> tuple[float, float]:  # fmt: skip
    """Of the window that looks most like a face: (mean confidence of its visible landmarks, share of skin and hair).

    The share is of the known pixels round the part that belong to no face's head; 0 for a confidence below SCORE.
    """
    best, best_crop = 0.0, None
    for matrix in _windows(part, faces)[:WINDOWS]:
        crop, crop_mask, outside = warp_to_crop(known, hole, matrix)
        if (~crop_mask).mean() < 0.1:
            continue
        points, confidence = landmarker.predict(crop, crop_mask)
        x, y = np.clip(np.rint(points), 0, CROP_SIZE - 1).astype(int).T
        seen, others = ~crop_mask[y, x], _warp(taken, matrix)
        mid_y, mid_x = y[27:].mean().astype(int), x[27:].mean().astype(int)
        if seen.sum() < 5 or others[mid_y, mid_x]:
            continue  # nothing to see, or a face that is known
        score = float(np.asarray(confidence)[seen].mean())
        if score <= best:
            continue
        here = _warp(part, matrix)
        ring = cv2.dilate(here.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool) & ~crop_mask & ~others
        if ring.sum() < 50:
            continue
        best, best_crop = score, (crop, crop_mask, ring)
    if best < SCORE:
        return best, 0.0
    crop, crop_mask, ring = best_crop
    return best, float(np.isin(parser.predict(crop, crop_mask)[ring], PERSON).mean())


def _warp(area: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """[256, 256] bool: an area [H, W] of the photo as the crop has it."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(area.astype(np.uint8), matrix, (CROP_SIZE, CROP_SIZE), flags=flags).astype(bool)


def _windows(part: np.ndarray, faces: Sequence[FaceAnalysis]) -> list[np.ndarray]:
    """Crops round a part of the hole, as large as the photo's other faces and as the part itself."""
    ys, xs = np.nonzero(part)
    low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()]) + 1
    width = float(max(high - low))
    short = float(min(part.shape))
    sides = [CROP_SIZE * scale_of(face.crop_to_photo) for face in faces[:4]] + [share * width for share in FACE_WINDOWS]
    kept: list[float] = []
    for side in sorted(min(max(side, 48.0), short) for side in sides):
        if not kept or side > 1.2 * kept[-1]:
            kept.append(side)
    matrices = []
    for side in kept:
        scale = side / CROP_SIZE
        spans = [_places(a, b, side) for a, b in zip(low, high)]
        for y in spans[1]:
            for x in spans[0]:
                matrices.append(np.column_stack([scale * np.eye(2), [x + scale / 2 - 0.5, y + scale / 2 - 0.5]]))
    return matrices


def _places(low: float, high: float, side: float) -> np.ndarray:
    """Where windows of this side begin along one axis, so that each covers a piece of low .. high."""
    if high - low <= side:
        middle = (low + high) / 2 - side / 2
        return middle + side * np.array([0.0, -0.25, 0.25])
    return np.linspace(low - 0.25 * side, high - 0.75 * side, int(np.ceil((high - low) / (0.4 * side))) + 1)


def look_for_faces(known: np.ndarray, hole: np.ndarray, faces: Sequence[FaceAnalysis], analyzer: Any) -> Possible:
    """possible_faces with every face of the photo, those beside the hole too; analyzer: the FaceAnalyzer of `faces`."""
    if analyzer.parser is None or not hole.any() or not loose_parts(hole, faces):
        return Possible(np.zeros_like(hole), [])
    everyone = analyzer.everyone(known, hole, list(faces))
    return possible_faces(known, hole, everyone, analyzer.landmarker, analyzer.parser)


def place(x: float, y: float, shape: tuple[int, int]) -> str:
    """Where a point lies in a photo of this shape, in words: upper left, middle, lower right."""
    row = ("upper ", "", "lower ")[min(int(3 * max(y, 0) / shape[0]), 2)]
    column = ("left", "middle", "right")[min(int(3 * max(x, 0) / shape[1]), 2)]
    return row + column


def places(area: np.ndarray) -> list[dict[str, Any]]:
    """Of each connected part of an area [H, W]: where it is in words, and its box (x, y, w, h) in photo px."""
    count, _, stats, centres = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=8)
    return [{"place": place(*centres[i], area.shape), "box": [int(v) for v in stats[i, :4]]} for i in range(1, count)]


def left_marked(decision: Decision, found: Sequence[dict[str, Any]]) -> Decision:
    """The decision for parts of the hole that may hide a face, as `places` names them."""
    where = "; ".join(f"{p['place']}, near {p['box'][0]},{p['box'][1]},{p['box'][2]},{p['box'][3]}" for p in found[:4])
    reason = (
        f"the hole may hide a face that was not found ({where}): say where it is with --face-box x,y,w,h, or fill the "
        "hole as background with --strategy telea"
    )
    return Decision(
        "abstain", "possible-face", reason, decision.face_coverage, decision.hole_ratio, False, decision.numbers
    )


def wide_notice(possible: Possible, shape: tuple[int, int]) -> list[str]:
    """A line for parts that are filled as background though a face would fit into them."""
    if not possible.wide:
        return []
    where = ", ".join(sorted({place(x, y, shape) for x, y in possible.wide}))
    return [f"the hole ({where}) is filled as background; if it hides a face, say where with --face-box x,y,w,h"]
