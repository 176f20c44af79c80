"""Wide holes in hair, cloth and background: textures that go on, put together from patches of the known part.

Every patch over the hole shall look like some patch of the known part (Wexler, Shechtman and Irani 2007, Space-Time
Completion of Video, doi:10.1109/TPAMI.2007.60): the nearest ones are found, what they say of a pixel is averaged, and
again, from a reduced picture to the full one. It learns nothing and knows no faces: the caller says what may be copied.
"""

from __future__ import annotations

import cv2
import numpy as np

from idinpaint.imaging.compositing import pull_push

PATCH = 7  # px
REACH = PATCH // 2
LARGEST = 40_000  # px of a hole; a larger one is filled on a reduced photo, whose patches give the detail then
FEWEST_SOURCES = 100  # patches
SOURCES = 4_000  # patches that are compared, drawn at random
ROUNDS = ((1, 2, 3), (2, 4, 1), (4, 6, 1), (8, 6, 1))  # (reduction, rounds, steps between patches in px)
FADE = 1.3  # a pixel counts so much less for each px that it lies further inside (Wexler et al., equation 5)
AT_ONCE = 1024  # patches
GRAIN = 1.5  # px of a blur: what is finer comes from one patch, not from the mean of all
STRIP = 256  # rows that get their detail at once


def continued(picture: np.ndarray, target: np.ndarray, sources: np.ndarray, seed: int = 0) -> np.ndarray:
    """The target filled with what goes on from the sources; a new uint8 [H, W, 3], equal outside of the target.

    picture: uint8 [H, W, 3]; target: bool [H, W], the pixels to change; sources: bool [H, W], the pixels that may be
    copied, none of them of the target. What is neither is not read. The same for the same seed. Comes back as it is
    where there are too few sources.
    """
    ratio = max(1.0, float(np.sqrt(target.sum() / LARGEST)))
    size = tuple(max(1, round(side / ratio)) for side in target.shape[::-1])
    small, hole = _reduced(picture, size).astype(np.float32), _reduced(target, size) > 0
    known = (_reduced(sources, size) == 255) & ~hole
    filled, moved = _completed(small, hole, known, np.random.default_rng(seed))
    result = picture.copy()
    if filled is None:
        return result
    if ratio == 1.0:  # the mean of many patches has lost their grain
        small, filled = (cv2.GaussianBlur(image, (0, 0), GRAIN) for image in (small, filled.astype(np.float32)))
    for rows in (slice(top, top + STRIP) for top in range(0, len(picture), STRIP)):
        inside = target[rows]
        if inside.any():
            strip = _detailed(picture, small, filled, moved, rows)
            result[rows][inside] = strip[inside].clip(0, 255).round()
    return result


def _reduced(area: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 at (width, height), the mean over each pixel; of a bool area 255 where all of it is, 0 where none."""
    if area.dtype == bool:
        share = area.astype(np.uint8) * 255
        return share if share.shape[::-1] == size else cv2.resize(share, size, interpolation=cv2.INTER_AREA)
    return area if area.shape[1::-1] == size else cv2.resize(area, size, interpolation=cv2.INTER_AREA)


def _completed(
    image: np.ndarray, hole: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(float32 [h, w, 3], how far away each pixel's patch lies, int [h, w, 2] px); None without enough sources."""
    filled, moved = None, None
    for reduction, rounds, step in ROUNDS[::-1]:
        size = tuple(-(-side // reduction) for side in hole.shape[::-1])
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        gap = _reduced(hole, size) > 0
        seen = (_reduced(known, size) == 255) & ~gap
        places = _places(seen)
        if len(places) < FEWEST_SOURCES:
            continue
        if filled is None:  # smooth to begin with: streaks would be taken for structure
            start = pull_push(np.dstack([small * seen[..., None], seen]).astype(np.float32))
        else:
            start = cv2.resize(filled, size, interpolation=cv2.INTER_CUBIC)
        filled = np.where(seen[..., None], small, start)
        if len(places) > SOURCES:
            places = places[rng.choice(len(places), SOURCES, replace=False)]
        for _ in range(rounds):
            first = rng.integers(0, step, 2)
            filled, moved = _vote(filled, gap, seen, places, first, step)
    return filled, moved


def _places(seen: np.ndarray) -> np.ndarray:
    """(y, x) int [n, 2] of the patches of which every pixel may be copied."""
    whole = cv2.erode(seen.astype(np.uint8), np.ones((PATCH, PATCH), np.uint8), borderValue=0)
    return np.argwhere(whole)


def _vote(
    filled: np.ndarray, gap: np.ndarray, seen: np.ndarray, places: np.ndarray, first: np.ndarray, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """One round: each patch over the gap finds the nearest of `places`; each pixel takes their mean."""
    square = np.ones((PATCH, PATCH), np.uint8)
    grid = np.zeros_like(gap)
    grid[first[0] :: step, first[1] :: step] = True
    centres = np.argwhere(grid & cv2.dilate(gap.astype(np.uint8), square).astype(bool))
    depth = cv2.distanceTransform(np.pad(gap.astype(np.uint8), 1, constant_values=1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    trust = np.where(gap, FADE**-depth, 1.0).astype(np.float32)
    padded = np.pad(filled / 127.5 - 1, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge").astype(np.float32)
    counts = np.pad(gap | seen, REACH).astype(np.float32)
    nearest, distance = _nearest(_patches(padded, places), padded, counts, centres)
    weight = np.exp(-distance / (2 * max(float(np.quantile(distance, 0.75)), 1e-5)))
    weight = (weight * trust[tuple(centres.T)]).astype(np.float32) + 1e-8
    total, share = np.zeros_like(padded), np.zeros(padded.shape[:2], np.float32)
    for dy in range(PATCH):
        for dx in range(PATCH):
            there = places[nearest] + (dy, dx)
            y, x = (centres + (dy, dx)).T  # every pixel at most once: the centres differ
            total[y, x] += weight[:, None] * padded[tuple(there.T)]
            share[y, x] += weight
    inner = slice(REACH, -REACH)
    mean = total[inner, inner] / np.maximum(share[inner, inner], 1e-12)[..., None]
    voted = gap & (share[inner, inner] > 0)
    ahead = np.zeros((*gap.shape, 2), np.int32)
    for dy in range(step):
        for dx in range(step):
            y, x = np.minimum(centres + (dy, dx), np.array(gap.shape) - 1).T
            ahead[y, x] = places[nearest] - centres
    return np.where(voted[..., None], (mean + 1) * 127.5, filled), ahead


def _nearest(
    known: np.ndarray, padded: np.ndarray, counts: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each patch of `padded` at the centres: which of the known ones [n, PATCH^2, 3] is nearest, and its mean
    squared difference over the pixels that count."""
    flat, squares = known.reshape(len(known), -1), (known**2).sum(-1)
    indices, distances = [], []
    for start in range(0, len(centres), AT_ONCE):
        some = centres[start : start + AT_ONCE]
        count = _patches(counts[..., None], some)[..., 0]
        patch = _patches(padded, some) * count[..., None]
        difference = count @ squares.T
        difference += (-2 * patch).reshape(len(some), -1) @ flat.T
        best = difference.argmin(1)
        indices.append(best)
        least = difference[np.arange(len(some)), best] + (patch**2).sum((1, 2))
        distances.append(np.maximum(least, 0) / np.maximum(count.sum(1), 1))
    return np.concatenate(indices), np.concatenate(distances)


def _patches(padded: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[n, PATCH^2, C] round the centres (y, x) [n, 2] of the picture before it was padded by REACH."""
    y, x = np.mgrid[:PATCH, :PATCH].reshape(2, -1)
    return padded[centres[:, :1] + y, centres[:, 1:] + x]


def _detailed(picture: np.ndarray, small: np.ndarray, filled: np.ndarray, moved: np.ndarray, rows: slice) -> np.ndarray:
    """These rows of the fill at the picture's size, float32, with the detail of the places that its patches came from:
    of the picture, less what its reduced or blurred copy `small` has too."""
    height, width = picture.shape[:2]
    tall, wide = height / filled.shape[0], width / filled.shape[1]
    y, x = np.mgrid[rows.start : min(rows.stop, height), :width].astype(np.float32)
    low_y, low_x = (y + 0.5) / tall - 0.5, (x + 0.5) / wide - 0.5
    ahead = moved[(y / tall).astype(int).clip(0, len(moved) - 1), (x / wide).astype(int).clip(0, moved.shape[1] - 1)]
    ahead = ahead.astype(np.float32)

    def at(image: np.ndarray, to_x: np.ndarray, to_y: np.ndarray, how: int) -> np.ndarray:
        return cv2.remap(image, to_x, to_y, how, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)

    copied = at(picture, x + ahead[..., 1] * wide, y + ahead[..., 0] * tall, cv2.INTER_LINEAR)
    without = at(small, low_x + ahead[..., 1], low_y + ahead[..., 0], cv2.INTER_CUBIC)
    return at(filled.astype(np.float32), low_x, low_y, cv2.INTER_CUBIC) + copied - without
