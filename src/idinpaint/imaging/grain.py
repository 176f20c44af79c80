"""Grain: read from the quiet known patches near a hole, and synthesised with the same strength, spectrum and colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from idinpaint.types import LUMA

PATCH = 32  # px, side of the windows that are looked at
INNER = 8  # px of a window's border that the high-pass has no say about
SIGMA = 2.0  # px, of the low-pass whose rest is "high-pass" wherever this module says so
MOST_PATCHES = 1500
FEWEST_PATCHES = 6
LEAST_SIDE = 6 * PATCH  # px, a photo's shorter side: in a smaller one a patch holds more picture than grain
QUIET = 0.20  # share of the patches of a brightness that are taken for grain without picture
LEAST = 1.4  # levels of high-pass deviation; below it a photo has no grain
FLOOR, ABOVE_FLOOR = 5, 1.08  # per cent of the patches that are quieter than the floor; grain is a little above it
AGREE = 1.5  # quiet patches over the floor: in a grainy photo they hardly differ, in a clean one each has its texture
MOST_ABOVE = 1.25  # a brightness's grain over the photo's
DEAD, MOST_DEAD = 0.05, 0.2  # levels of deviation; share of the patches
MIDTONES, MANY_PATCHES = (40, 215), 60
DARKEST, BRIGHTEST = 10, 245  # mean levels between which a patch is not cut off by black or white
TILE = 512  # px, the synthesised field repeats after that
SWELLS = 3  # waves a window; slower ones are the picture's shading, not grain
LEVELS = 16  # bins of brightness


@dataclass(frozen=True)
class Grain:
    """strength: float32 [256], high-pass deviation of the brightness at each brightness. power: float32 [PATCH, PATCH,
    3], spectrum of each of the colour axes [3, 3] (columns, RGB)."""

    strength: np.ndarray
    power: np.ndarray
    axes: np.ndarray

    @property
    def deviation(self) -> float:
        """Levels, at middle brightness."""
        return float(self.strength[128])

    def field(self, seed: tuple[int, ...]) -> np.ndarray:
        """float32 [TILE, TILE, 3] RGB, periodic; the high-pass deviation of its brightness is 1."""
        rng = np.random.default_rng(seed)
        planes = []
        for index in range(3):
            amplitude = np.sqrt(_resample(self.power[..., index]))
            noise = np.fft.fft2(rng.standard_normal((TILE, TILE)))
            planes.append(np.fft.ifft2(noise * amplitude).real)
        field = np.stack(planes, -1) @ self.axes.T
        luma = field @ np.float32(LUMA)
        high = luma - _blur(luma, cv2.BORDER_WRAP)
        return (field / max(float(high.std()), 1e-9)).astype(np.float32)

    def add(self, rgb: np.ndarray, rows: slice, columns: slice, member: np.ndarray, seed: tuple[int, ...]) -> None:
        """Adds to the pixels `member` (bool, over rows x columns) of rgb, uint8 [H, W, 3], in place, what they lack."""
        pad = 2 * INNER
        box = tuple(slice(max(0, s.start - pad), s.stop + pad) for s in (rows, columns))
        part = rgb[box].astype(np.float32) @ np.float32(LUMA)
        inside = np.zeros(part.shape, bool)
        top, left = rows.start - box[0].start, columns.start - box[1].start
        inside[top : top + member.shape[0], left : left + member.shape[1]] = member
        ys, xs = np.nonzero(inside)
        low = _blur(part)
        wanted = self.strength[np.clip(np.rint(low[ys, xs]), 0, 255).astype(int)]
        has = _present(part - low, inside)[ys, xs]
        lacks = np.sqrt(np.maximum(wanted**2 - has**2, 0.0))
        field = self.field(seed)[(ys + box[0].start) % TILE, (xs + box[1].start) % TILE]
        ys, xs = ys + box[0].start, xs + box[1].start
        rgb[ys, xs] = np.clip(np.rint(rgb[ys, xs] + lacks[:, None] * field), 0, 255).astype(np.uint8)


def _present(high: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """float32 [h, w]: the deviation that the fill has already where it is quiet, by neighbourhoods of PATCH px.

    A tenth of the smoothed energies lies below it, so an edge or a hair does not count as grain.
    """
    weight = inside.astype(np.float32)
    energy = cv2.blur(np.where(inside, high, 0) ** 2, (9, 9), borderType=cv2.BORDER_CONSTANT)
    energy /= np.maximum(cv2.blur(weight, (9, 9), borderType=cv2.BORDER_CONSTANT), 1e-3)
    rows, columns = -(-high.shape[0] // PATCH), -(-high.shape[1] // PATCH)
    grid = np.zeros((rows, columns, 2), np.float32)
    for row in range(rows):
        for column in range(columns):
            cell = np.s_[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            values = energy[cell][inside[cell]]
            if values.size:
                grid[row, column] = float(np.sqrt(np.percentile(values, 10))) * values.size, values.size
    grid = cv2.GaussianBlur(grid, (3, 3), 0, borderType=cv2.BORDER_CONSTANT)
    means = (grid[..., 0] / np.maximum(grid[..., 1], 1e-6)).astype(np.float32)
    return np.repeat(np.repeat(means, PATCH, 0), PATCH, 1)[: high.shape[0], : high.shape[1]]


def read_grain(known: np.ndarray, hole: np.ndarray) -> Grain | None:
    """The grain of a photo, uint8 [H, W, 3], round its hole, bool [H, W]; None where there is none to speak of."""
    windows = _windows(known, hole) if min(hole.shape) >= LEAST_SIDE else None
    if windows is None:
        return None
    luma = windows @ np.float32(LUMA)
    inner = np.s_[:, INNER:-INNER, INNER:-INNER]
    high = np.stack([patch - _blur(patch) for patch in luma])[inner]
    deviation, mean = high.std(axis=(1, 2)), luma[inner].mean(axis=(1, 2))
    fit = (mean > DARKEST) & (mean < BRIGHTEST)
    dead = fit & (deviation < DEAD)  # a painted border says nothing of grain, but where much is flat there is none
    if dead.sum() > MOST_DEAD * fit.sum():
        return None
    fit &= ~dead
    windows, deviation, mean = windows[fit], deviation[fit], mean[fit]
    if len(windows) < FEWEST_PATCHES:
        return None
    strength = _strength(deviation, mean)
    if strength is None:
        return None
    quiet = deviation <= 1.15 * strength[np.clip(np.rint(mean), 0, 255).astype(int)]
    if quiet.sum() < FEWEST_PATCHES:
        quiet = deviation <= np.sort(deviation)[FEWEST_PATCHES - 1]
    rest = _level(windows[quiet])
    _, axes = np.linalg.eigh(np.cov(rest.reshape(-1, 3).T))
    if (windows == windows[..., :1]).all():  # grey to the last bit, and so it stays
        axes = np.zeros((3, 3))
        axes[:, 2] = 1.0
    power = np.stack([_spectrum(rest @ axes[:, index]) for index in range(3)], -1)
    return Grain(strength, power.astype(np.float32), axes.astype(np.float32))


def _windows(known: np.ndarray, hole: np.ndarray) -> np.ndarray | None:
    """float32 [n, PATCH, PATCH, 3]: known windows, those nearest to the hole, at most MOST_PATCHES."""
    height, width = hole.shape
    step = PATCH // 2
    if min(height, width) < PATCH:
        return None
    ys, xs = (a.ravel() for a in np.mgrid[0 : height - PATCH + 1 : step, 0 : width - PATCH + 1 : step])
    count = np.pad(np.cumsum(np.cumsum(hole, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
    free = count[ys + PATCH, xs + PATCH] - count[ys, xs + PATCH] - count[ys + PATCH, xs] + count[ys, xs] == 0
    ys, xs = ys[free], xs[free]
    if len(ys) < FEWEST_PATCHES:
        return None
    distance = cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5)[ys + step, xs + step]
    nearest = np.argsort(distance, kind="stable")[:MOST_PATCHES]
    return np.stack([known[y : y + PATCH, x : x + PATCH] for y, x in zip(ys[nearest], xs[nearest])]).astype(np.float32)


def _strength(deviation: np.ndarray, mean: np.ndarray) -> np.ndarray | None:
    """float32 [256]: the quiet patches' deviation by brightness, level beyond the brightnesses that are there.

    None where there is no grain: too weak, or the patches do not agree about it, as those of a clean photo with
    its texture do not.
    """
    middle = (mean > MIDTONES[0]) & (mean < MIDTONES[1])
    looked = deviation[middle] if middle.sum() >= MANY_PATCHES else deviation
    floor, quiet = np.percentile(looked, (FLOOR, 100 * QUIET))
    base = ABOVE_FLOOR * floor
    if base < LEAST or quiet > AGREE * floor:
        return None
    width = 256 / LEVELS
    centres, values = [], []
    for level in range(LEVELS):
        near = np.abs(mean - (level + 0.5) * width) <= width
        if near.sum() >= FEWEST_PATCHES:
            centres.append((level + 0.5) * width)
            values.append(min(np.percentile(deviation[near], 100 * QUIET), MOST_ABOVE * base))
    if not centres:
        return np.full(256, base, np.float32)
    return np.interp(np.arange(256), centres, values).astype(np.float32)


def _level(windows: np.ndarray) -> np.ndarray:
    """Takes the shading, a polynomial of the second degree, from windows [n, PATCH, PATCH, 3]."""
    axis = np.linspace(-1, 1, PATCH, dtype=np.float32)
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    basis, _ = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1))
    flat = windows.reshape(len(windows), -1, 3)
    shading = np.einsum("pk,qk,nqc->npc", basis, basis, flat, optimize=True)
    return (flat - shading).reshape(windows.shape)


def _spectrum(planes: np.ndarray) -> np.ndarray:
    """The mean power spectrum [PATCH, PATCH] of planes [n, PATCH, PATCH]; the slowest waves are no stronger than the
    next ones."""
    hann = np.hanning(PATCH + 2)[1:-1]
    power = (np.abs(np.fft.fft2(planes * np.outer(hann, hann))) ** 2).mean(axis=0)
    waves = np.fft.fftfreq(PATCH) * PATCH
    radius = np.hypot(waves[:, None], waves)
    slow = radius < SWELLS
    power[slow] = np.minimum(power[slow], power[(radius >= SWELLS) & (radius < SWELLS + 2)].mean())
    return power


def _resample(power: np.ndarray) -> np.ndarray:
    """[PATCH, PATCH] -> [TILE, TILE], frequencies in the order of fft2."""
    shifted = np.fft.fftshift(power)
    shifted = np.pad(shifted, ((0, 1), (0, 1)), mode="wrap")  # the highest frequency on both sides
    place = np.linspace(0, PATCH, TILE, endpoint=False, dtype=np.float32)
    grid = np.meshgrid(place, place)
    fine = cv2.remap(shifted.astype(np.float32), *grid, cv2.INTER_LINEAR)
    return np.fft.ifftshift(np.maximum(fine, 0))


def _blur(plane: np.ndarray, border: int = cv2.BORDER_REFLECT_101) -> np.ndarray:
    """The low-pass. cv2's blurs have no wrapped border, so that one is laid on."""
    if border != cv2.BORDER_WRAP:
        return cv2.GaussianBlur(plane, (0, 0), SIGMA, borderType=border)
    pad = 2 * INNER
    return cv2.GaussianBlur(np.pad(plane, pad, mode="wrap"), (0, 0), SIGMA)[pad:-pad, pad:-pad]
