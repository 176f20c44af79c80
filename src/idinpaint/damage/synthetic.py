"""Shapes of damage, drawn at random: strokes, folds, cracks, tears, missing corners, blotches, dust, lines of a film.

Each returns how much of every pixel the damage covers, float32 [h, w] in [0, 1]. For training and measuring the network
that finds damage; nothing of it runs when a photo is restored.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Size = tuple[int, int]  # (height, width) px


def smooth_noise(rng: np.random.Generator, size: Size, cell: float) -> np.ndarray:
    """Noise of about unit deviation whose blobs are `cell` px wide, float32 [h, w]."""
    grid = (max(2, round(size[0] / cell) + 2), max(2, round(size[1] / cell) + 2))
    noise = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Between low and high, as often in every octave."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _somewhere(rng: np.random.Generator, size: Size) -> np.ndarray:
    return rng.uniform(-0.05, 1.05, 2) * [size[1], size[0]]


def wander(rng: np.random.Generator, start: np.ndarray, angle: float, length: float, turn: float) -> np.ndarray:
    """Points [n, 2] px of a curve that turns at random by up to about `turn` radians a step."""
    step = max(2.0, length / 60)
    count = max(3, int(length / step))
    drift = rng.normal(0, turn / 4)
    angles = angle + np.cumsum(rng.normal(drift, turn, count))
    moves = step * np.stack([np.cos(angles), np.sin(angles)], 1)
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])


def draw_path(canvas: np.ndarray, points: np.ndarray, width: float, rng: np.random.Generator, ragged: float) -> None:
    """Draws the curve onto the uint8 canvas, its width varying by `ragged` (0: even), thin parts fainter."""
    slow = np.interp(np.arange(len(points)), np.linspace(0, len(points), 8), rng.normal(0, 1, 8))
    widths = width * np.exp(ragged * (0.7 * slow + 0.3 * rng.normal(0, 1, len(points))))
    fixed = np.rint(points * 16).astype(int)
    for index in range(len(points) - 1):
        wide = widths[index]
        value = int(255 * min(1.0, wide))
        pair = (tuple(map(int, fixed[index])), tuple(map(int, fixed[index + 1])))
        cv2.line(canvas, *pair, value, max(1, round(wide)), cv2.LINE_AA, 4)


def _softened(rng: np.random.Generator, canvas: np.ndarray, most: float = 1.6) -> np.ndarray:
    """The canvas as float32 in [0, 1] with a soft rim."""
    return cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), rng.uniform(0.3, most))


def _gaps(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """Parts of it left out, as where a scratch does not reach the paper."""
    noise = smooth_noise(rng, alpha.shape, log_uniform(rng, 3, 40))
    return alpha * np.clip(1.0 + noise * 2 + rng.uniform(-0.3, 1.5), 0, 1)


def strokes(rng: np.random.Generator, size: Size) -> np.ndarray:
    """One to five curved scratches."""
    canvas = np.zeros(size, np.uint8)
    width, even = log_uniform(rng, 0.7, 18), rng.random() < 0.5  # even: straight, as by one pull of a blade or a brush
    for _ in range(int(rng.integers(1, 6))):
        length = log_uniform(rng, 0.1, 1.6) * max(size)
        turn, ragged = (0.01, 0.03) if even else (rng.uniform(0, 0.25), rng.uniform(0, 0.5))
        points = wander(rng, _somewhere(rng, size), rng.uniform(0, 2 * np.pi), length, turn)
        draw_path(canvas, points, width * log_uniform(rng, 0.6, 1.6), rng, ragged)
    alpha = _softened(rng, canvas, max(1.6, 0.3 * width))
    return _gaps(rng, alpha) if rng.random() < 0.4 else alpha


def fold(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A nearly straight crease across the picture, its colour flaked off along it."""
    canvas = np.zeros(size, np.uint8)
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.2)
    middle = rng.uniform(0.1, 0.9, 2) * [size[1], size[0]]
    length = 3.0 * max(size)
    start = middle - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    draw_path(canvas, wander(rng, start, angle, length, 0.01), log_uniform(rng, 0.8, 5), rng, rng.uniform(0.1, 0.6))
    alpha = _softened(rng, canvas, 1.2)
    if rng.random() < 0.6:  # flakes beside it
        near = cv2.GaussianBlur(alpha, (0, 0), log_uniform(rng, 2, 6))
        flakes = np.clip((near / max(1e-6, near.max()) + 0.35 * smooth_noise(rng, size, 4) - 0.8) * 6, 0, 1)
        alpha = np.maximum(alpha, flakes.astype(np.float32))
    return _gaps(rng, alpha) if rng.random() < 0.4 else alpha


def cracks(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A branching net of thin lines."""
    canvas = np.zeros(size, np.uint8)
    width = log_uniform(rng, 0.7, 3.5)
    queue = [(_somewhere(rng, size), rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.9) * max(size), width)]
    for _ in range(int(rng.integers(4, 18))):
        if not queue:
            break
        start, angle, length, wide = queue.pop(0)
        points = wander(rng, start, angle, length, rng.uniform(0.1, 0.4))
        draw_path(canvas, points, wide, rng, 0.3)
        for _ in range(int(rng.integers(0, 4))):
            side = angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.4)
            queue.append((points[rng.integers(len(points))], side, length * rng.uniform(0.3, 0.7), wide * 0.8))
    return _softened(rng, canvas, 0.9)


def _jagged(rng: np.random.Generator, corners: np.ndarray, rough: float) -> np.ndarray:
    """The polygon's outline [n, 2] with ragged sides."""
    sides = []
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        t = np.linspace(0, 1, max(3, int(np.linalg.norm(b - a) / 4)))[:-1, None]
        walk = np.cumsum(rng.normal(0, rough, (len(t), 2)), 0)
        sides.append(a + t * (b - a) + walk - t * walk[-1])
    return np.concatenate(sides)


def _filled(rng: np.random.Generator, size: Size, corners: np.ndarray, rough: float) -> np.ndarray:
    canvas = np.zeros(size, np.uint8)
    cv2.fillPoly(canvas, [np.rint(_jagged(rng, corners, rough) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return _softened(rng, canvas, 1.0)


def tear(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A wedge torn in from the edge."""
    height, width = size
    along = rng.uniform(0, 1)
    edge = [(along * width, -4), (along * width, height + 4), (-4, along * height), (width + 4, along * height)]
    start = np.array(edge[rng.integers(4)])
    inward = np.array([width / 2, height / 2]) - start
    angle = np.arctan2(inward[1], inward[0]) + rng.normal(0, 0.4)
    points = wander(rng, start, angle, rng.uniform(0.15, 0.8) * max(size), 0.12)
    half = log_uniform(rng, 1.5, 14) * np.linspace(1, 0.05, len(points))[:, None]
    normal = np.gradient(points, axis=0)[:, ::-1] * [-1, 1]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    return _filled(rng, size, np.concatenate([points + normal * half, (points - normal * half)[::-1]]), 0.3)


def corner(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A missing corner."""
    height, width = size
    a, b = rng.uniform(0.06, 0.36, 2) * [width, height]
    bulge = np.array([a, b]) * rng.uniform(0.3, 0.7)
    shape = np.array([(-8, -8), (a, -8), tuple(bulge), (-8, b)])
    if rng.random() < 0.5:
        shape = np.array([width, 0]) + shape * [-1, 1]
    if rng.random() < 0.5:
        shape = np.array([0, height]) + shape * [1, -1]
    return _filled(rng, size, shape, rng.uniform(0.2, 1.0))


def blotch(rng: np.random.Generator, size: Size) -> np.ndarray:
    """One to four spots with uneven outlines, some as rings."""
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    alpha = np.zeros(size, np.float32)
    for _ in range(int(rng.integers(1, 5))):
        (x, y), radius = _somewhere(rng, size), log_uniform(rng, 3, 0.2 * max(size))
        stretch, angle = log_uniform(rng, 0.6, 1.7), rng.uniform(0, np.pi)
        u = (np.cos(angle) * (xs - x) + np.sin(angle) * (ys - y)) * stretch
        v = (-np.sin(angle) * (xs - x) + np.cos(angle) * (ys - y)) / stretch
        away = np.sqrt(u * u + v * v) / radius
        away += 0.15 * smooth_noise(rng, size, max(3.0, radius * 0.6)) + 0.05 * smooth_noise(rng, size, 4)
        soft = rng.uniform(0.04, 0.25)
        spot = np.clip((1 - away) / soft + 0.5, 0, 1)
        if rng.random() < 0.25:
            spot *= np.clip(0.35 + 0.65 * np.exp(-(((away - 0.9) / 0.12) ** 2)), 0, 1)
        alpha = np.maximum(alpha, spot.astype(np.float32))
    return alpha


def dust(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Specks and short hairs."""
    canvas = np.zeros(size, np.uint8)
    biggest = log_uniform(rng, 0.7, 4)
    for _ in range(int(log_uniform(rng, 4, 120) * size[0] * size[1] / 65536) + 1):
        x, y = (int(v * 16) for v in _somewhere(rng, size))
        radius = biggest * rng.uniform(0.3, 1) ** 2
        cv2.circle(canvas, (x, y), max(4, int(radius * 16)), int(255 * rng.uniform(0.5, 1)), -1, cv2.LINE_AA, 4)
    for _ in range(int(rng.integers(0, 6))):
        points = wander(rng, _somewhere(rng, size), rng.uniform(0, 7), log_uniform(rng, 10, 70), 0.15)
        draw_path(canvas, points, rng.uniform(0.6, 1.6), rng, 0.1)
    return _softened(rng, canvas, 0.8)


def film_lines(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Parallel, nearly upright lines."""
    canvas = np.zeros(size, np.uint8)
    lean, width = np.pi / 2 + rng.normal(0, 0.03), log_uniform(rng, 0.6, 2.5)
    for _ in range(int(rng.integers(1, 9))):
        start = np.array([rng.uniform(0, size[1]), rng.uniform(-1, 0.6) * size[0]])
        draw_path(canvas, wander(rng, start, lean, rng.uniform(0.4, 2) * size[0], 0.003), width, rng, 0.3)
    alpha = _softened(rng, canvas, 0.8)
    return _gaps(rng, alpha) if rng.random() < 0.5 else alpha


SHAPES: dict[str, Callable[[np.random.Generator, Size], np.ndarray]] = {
    "strokes": strokes, "fold": fold, "cracks": cracks, "tear": tear, "corner": corner, "blotch": blotch,
    "dust": dust, "film_lines": film_lines,
}  # fmt: skip
SHARES = (0.28, 0.14, 0.12, 0.08, 0.08, 0.12, 0.12, 0.06)  # how often each is drawn
