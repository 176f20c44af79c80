"""THE mask convention: 1 (True, white) = hole. Generation for training; loading lives in mask_io.py."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def hole_ratio(mask: np.ndarray) -> float:
    """Share of the pixels that are to be filled, in [0, 1]. mask: [H, W] bool."""
    return float(np.mean(mask))


def strokes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Free-form brush strokes (Yu et al. 2019, algorithm 1, thinner). Returns [size, size] bool."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 9)):
        point = rng.integers(0, size, 2)
        angle = rng.uniform(0, 2 * np.pi)
        width = int(rng.integers(size // 64, size // 8))
        for _ in range(rng.integers(2, 10)):
            angle += rng.uniform(-0.9, 0.9)
            step = rng.uniform(size / 20, size / 4)
            end = np.clip(point + step * np.array([np.cos(angle), np.sin(angle)]), 0, size - 1).astype(int)
            cv2.line(mask, tuple(map(int, point)), tuple(map(int, end)), 1, max(width, 1))
            point = end
    return mask.astype(bool)


def scratches(rng: np.random.Generator, size: int) -> np.ndarray:
    """Long thin lines, as on an old print. Returns [size, size] bool."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(2, 14)):
        a, b = rng.integers(0, size, (2, 2))
        cv2.line(mask, tuple(map(int, a)), tuple(map(int, b)), 1, int(rng.integers(1, max(2, size // 50))))
    return mask.astype(bool)


def blocks(rng: np.random.Generator, size: int) -> np.ndarray:
    """One to four rectangles or ellipses. Returns [size, size] bool."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 5)):
        w, h = (int(v) for v in rng.integers(size // 12, size // 2.4, 2))
        x, y = (int(v) for v in rng.integers(0, size, 2))
        if rng.random() < 0.5:
            cv2.rectangle(mask, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), 1, -1)
        else:
            cv2.ellipse(mask, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask.astype(bool)


def feature_block(rng: np.random.Generator, size: int) -> np.ndarray:
    """A band or ellipse where an aligned crop has its eyes, nose or mouth; sometimes half of the face."""
    mask = np.zeros((size, size), np.uint8)
    kind = rng.integers(0, 5)
    x, y = {0: (0.38, 0.47), 1: (0.62, 0.47), 2: (0.5, 0.47), 3: (0.5, 0.6), 4: (0.5, 0.72)}[int(kind)]
    w, h = (0.42, 0.16) if kind == 2 else (0.2, 0.16) if kind < 2 else (0.2, 0.2) if kind == 3 else (0.34, 0.2)
    if rng.random() < 0.15:
        x, y, w, h = rng.choice([0.25, 0.75]), 0.5, 0.5, 1.0
    centre = (size * (np.array([x, y]) + rng.normal(0, 0.02, 2))).astype(int)
    half = (size * np.array([w, h]) * rng.uniform(0.35, 0.7, 2)).astype(int) + 1
    if rng.random() < 0.5:
        cv2.rectangle(mask, tuple(map(int, centre - half)), tuple(map(int, centre + half)), 1, -1)
    else:
        cv2.ellipse(mask, tuple(map(int, centre)), tuple(map(int, half)), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def half(rng: np.random.Generator, size: int) -> np.ndarray:
    """The left, right, upper or lower half of the frame, give or take 5 %. Returns [size, size] bool."""
    mask = np.zeros((size, size), bool)
    mask[:, : round(size * rng.uniform(0.45, 0.55))] = True
    return np.rot90(mask, int(rng.integers(4))).copy()


def augment(rng: np.random.Generator, mask: np.ndarray, size: int) -> np.ndarray:
    """Flip, turn by quarters, scale and shift a mask from a file. mask: [h, h] bool -> [size, size] bool."""
    mask = np.rot90(mask, int(rng.integers(4)))
    if rng.random() < 0.5:
        mask = mask[:, ::-1]
    side = mask.shape[0]
    crop = int(side * rng.uniform(0.6, 1.0))
    y, x = rng.integers(0, side - crop + 1, 2)
    window = np.ascontiguousarray(mask[y : y + crop, x : x + crop]).astype(np.uint8)
    return cv2.resize(window, (size, size), interpolation=cv2.INTER_NEAREST).astype(bool)


def random_mask(
    rng: np.random.Generator, size: int, files: Sequence[np.ndarray] = (), max_ratio: float = 0.6
) -> np.ndarray:
    """Draw a training mask: half from `files` when there are any, else a generator; 0.5 % < hole ratio < max_ratio.

    files: masks [h, h] bool, 1 = hole. Returns [size, size] bool.
    """
    makers = (strokes, scratches, blocks, feature_block)
    while True:
        if len(files) and rng.random() < 0.5:
            mask = augment(rng, files[int(rng.integers(len(files)))], size)
        else:
            mask = makers[int(rng.integers(len(makers)))](rng, size)
        if 0.005 < mask.mean() < max_ratio:
            return mask
