"""Facial features as regions of the 256 px crop, and how much of each lies under the mask."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from idinpaint.types import CROP_SIZE, FEATURE_WEIGHTS, FEATURES

SKIN_LABEL, HAIR_LABEL = 1, 8  # indices into faces.parsing.PARSING_CLASSES
LEAST_PARSED = 0.2  # of the visible face oval; a parsing with less skin than that has failed and is not used for it
WHOLE = 0.8  # of a feature under the mask: it is hidden as a whole, what is seen of it proves nothing
IDENTITY_FEATURES = ("left_eye", "right_eye", "nose", "mouth")

# Mean error of the bundled landmarks in shares of the outer eye distance: (hidden, visible) points, 20-30 % holes.
LANDMARK_ERROR = (0.035, 0.029)

# Margins as shares of the distance between the eye centres (63 px in an upright crop).
_EYE_MARGIN, _BROW_WIDTH, _NOSE_MARGIN, _MOUTH_MARGIN, _FOREHEAD = 0.10, 0.14, 0.06, 0.04, 0.75


def feature_regions(
    landmarks: np.ndarray, parsing: np.ndarray | None = None, visible: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Where each feature is, hidden parts included.

    landmarks [68, 2] crop px; parsing [256, 256] int class labels or None; visible [256, 256] bool, False in the
    hole (None: everything is visible). Returns FEATURES and "hair" -> [256, 256] bool. Skin is the parsed skin
    where visible and the landmarks' face oval where hidden, less the other features; hair needs the parsing.
    """
    lm = np.asarray(landmarks, np.float64)
    iod = max(float(np.hypot(*(lm[42:48].mean(0) - lm[36:42].mean(0)))), 1.0)
    regions = {
        "left_eye": _hull(lm[36:42], _EYE_MARGIN * iod),
        "right_eye": _hull(lm[42:48], _EYE_MARGIN * iod),
        "left_brow": _line(lm[17:22], _BROW_WIDTH * iod),
        "right_brow": _line(lm[22:27], _BROW_WIDTH * iod),
        "nose": _hull(lm[27:36], _NOSE_MARGIN * iod),
        "mouth": _hull(lm[48:60], _MOUTH_MARGIN * iod),
    }
    skin = _face_oval(lm, iod)
    hair = np.zeros_like(skin)
    if parsing is not None:
        seen = np.ones_like(skin) if visible is None else np.asarray(visible, bool)
        hair, parsed = parsing == HAIR_LABEL, parsing == SKIN_LABEL
        if (parsed & skin & seen).sum() >= LEAST_PARSED * (skin & seen).sum():
            skin = np.where(seen, parsed, skin & ~hair)
    for region in regions.values():
        skin = skin & ~region
    return {**regions, "skin": skin, "hair": hair}


def coverage(regions: dict[str, np.ndarray], hole: np.ndarray, outside: np.ndarray | None = None) -> dict[str, float]:
    """Share of each of FEATURES under the mask, in [0, 1].

    hole [256, 256] bool, or float in [0, 1]: the share of hole in each px. outside [256, 256] bool: px beyond the
    photo's edge, which are left out of the count. A feature without any px in the photo has coverage 0.
    """
    inside = np.ones(hole.shape, bool) if outside is None else ~outside
    shares = {}
    for name in FEATURES:
        region = regions[name] & inside
        shares[name] = float(np.clip(hole[region].mean(), 0, 1)) if region.any() else 0.0
    return shares


def face_coverage(coverage: dict[str, float], weights: dict[str, float] = FEATURE_WEIGHTS) -> float:
    """Weighted mean of the features' coverage, in [0, 1]."""
    return float(sum(weights[name] * coverage[name] for name in weights) / sum(weights.values()))


def whole_coverage(coverage: dict[str, float], weights: dict[str, float] = FEATURE_WEIGHTS) -> float:
    """As face_coverage, of the features hidden as a whole (WHOLE or more) alone."""
    return face_coverage({name: share if share >= WHOLE else 0.0 for name, share in coverage.items()}, weights)


def coverage_interval(
    landmarks: np.ndarray,
    parsing: np.ndarray | None,
    crop_mask: np.ndarray,
    hole: np.ndarray,
    outside: np.ndarray,
    weights: dict[str, float] = FEATURE_WEIGHTS,
    draws: int = 16,
) -> tuple[float, float]:
    """5th and 95th percentile of face_coverage when the landmarks [68, 2] move by their own error.

    crop_mask, outside: bool [256, 256]; hole: share of hole in each px. Each point moves by a normal offset whose
    mean length is LANDMARK_ERROR of the outer eye distance; the draws are the same on every call.
    """
    lm = np.asarray(landmarks, np.float64)
    eyes = max(float(np.hypot(*(lm[45] - lm[36]))), 1.0)
    x, y = np.clip(np.rint(lm), 0, CROP_SIZE - 1).astype(int).T
    mean_length = np.where(crop_mask[y, x], *LANDMARK_ERROR) * eyes
    sigma = mean_length / np.sqrt(np.pi / 2)  # the mean length of a normal offset in the plane is sigma sqrt(pi / 2)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        moved = lm + rng.normal(size=lm.shape) * sigma[:, None]
        shares = coverage(feature_regions(moved, parsing, ~crop_mask), hole, outside)
        values.append(face_coverage(shares, weights))
    low, high = np.percentile(values, [5, 95])
    own = face_coverage(coverage(feature_regions(lm, parsing, ~crop_mask), hole, outside), weights)
    return float(min(low, own)), float(max(high, own))


def identity_visible(coverage: dict[str, float], limit: float = 0.85) -> bool:
    """Whether enough of eyes, nose and mouth is visible to say who it is: their mean coverage is at most `limit`."""
    return float(np.mean([coverage[name] for name in IDENTITY_FEATURES])) <= limit


def _hull(points: np.ndarray, margin: float) -> np.ndarray:
    """Filled convex hull of points [N, 2], grown by margin px."""
    canvas = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
    hull = cv2.convexHull(_to_int(points))
    cv2.fillConvexPoly(canvas, hull, 1)
    if margin >= 0.5:
        cv2.polylines(canvas, [hull], True, 1, thickness=max(round(2 * margin), 1))
    return canvas > 0


def _line(points: np.ndarray, width: float) -> np.ndarray:
    """A polyline through points [N, 2] of the given width in px."""
    canvas = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
    cv2.polylines(canvas, [_to_int(points)[:, None]], False, 1, thickness=max(round(width), 1))
    return canvas > 0


def _face_oval(lm: np.ndarray, iod: float) -> np.ndarray:
    """Jaw and brows, with the brows lifted by the height of a forehead."""
    up = lm[27] - lm[8]
    up = up / max(float(np.hypot(*up)), 1e-6) * iod
    across = np.linspace(-1, 1, 10)[:, None]
    forehead = lm[17:27] + up * _FOREHEAD * np.sqrt(1 - 0.6 * across**2)
    return _hull(np.concatenate([lm[:17], lm[17:27], forehead]), 0)


def _to_int(points: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(points, -2000, 2000)).astype(np.int32)


def ellipses_over(landmarks: np.ndarray, parts: Iterable[Iterable[int]]) -> np.ndarray:
    """bool [256, 256]: an ellipse over each part, given by the numbers of its landmarks [68, 2], well beyond it: what
    hides a feature whole."""
    hole = np.zeros((256, 256), np.uint8)
    for part in parts:
        low, high = landmarks[list(part)].min(0), landmarks[list(part)].max(0)
        axes = tuple(int(v) for v in (high - low) / 2 * 1.35 + 8)
        cv2.ellipse(hole, tuple(int(v) for v in (low + high) / 2), axes, 0, 0, 360, 1, -1)
    return hole.astype(bool)
