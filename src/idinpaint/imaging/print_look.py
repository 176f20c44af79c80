"""The print's own look for what was painted: its tint and its grain, read from the known pixels only.

A photo of one tone (neutral, sepia) gets a fill of that tone: each brightness takes the colour that the known pixels
of that brightness have. A grainy photo gets a grainy fill: strength by brightness, spectrum and colour are those of
the quiet known patches near the hole. Where there is neither, the fill stays as it is, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from idinpaint.imaging.compositing import check_pair
from idinpaint.imaging.grain import Grain, read_grain
from idinpaint.imaging.telea import hole_boxes, shrink_known
from idinpaint.types import LUMA

TONE_SIDE = 384  # px, a photo's colours are read from a copy of at most that side, where noise has averaged out
ONE_TONE = 8.0  # levels that a pixel's colour may lie off the colour of its brightness in a print of one tone
MOSTLY = 99.5  # per cent of the known pixels that must keep to it
SOFT_TONE = 6.0  # levels of brightness over which the tone curve is smoothed
NEUTRAL = 2.0  # levels; less colour than that is none
FEWEST = 64  # known pixels of the small copy, else nothing is said of its tone


@dataclass(frozen=True)
class PrintLook:
    """tone: float32 [256, 3], what a brightness's colour lies above it, None for a photo in colour. grain: None where
    the photo has none. seed: of the grain."""

    tone: np.ndarray | None = None
    grain: Grain | None = None
    seed: int = 0

    def said(self) -> dict[str, float | str | None]:
        """For the report: tone (neutral, toned or colour) and the grain's deviation in levels at middle brightness."""
        toned = self.tone is not None and np.abs(self.tone).max() > NEUTRAL
        tone = "colour" if self.tone is None else "toned" if toned else "neutral"
        return {"tone": tone, "grain": None if self.grain is None else self.grain.deviation}

    def tint(self, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """rgb uint8 [H, W, 3] with the print's tone under the mask, bool [H, W]; the same array in a colour photo."""
        check_pair(rgb, mask)
        if self.tone is None or not mask.any():
            return rgb
        luma = rgb[mask].astype(np.float32) @ np.float32(LUMA)
        levels = np.arange(256, dtype=np.float32)
        toned = np.stack([luma + np.interp(luma, levels, self.tone[:, c]) for c in range(3)], axis=-1)
        result = rgb.copy()
        result[mask] = np.clip(np.rint(toned), 0, 255).astype(np.uint8)
        return result

    def finish(self, rgb: np.ndarray, painted: np.ndarray) -> np.ndarray:
        """rgb uint8 [H, W, 3] with tint and grain under `painted`, bool [H, W]; no other pixel changes."""
        check_pair(rgb, painted)
        result = self.tint(rgb, painted)
        if self.grain is not None:
            result = rgb.copy() if result is rgb else result
            for index, (rows, columns, member) in enumerate(hole_boxes(painted)):
                self.grain.add(result, rows, columns, member, (self.seed, index))
        return result


def read_look(known: np.ndarray, hole: np.ndarray, seed: int = 0, grain: str = "auto") -> PrintLook:
    """The look of a photo, uint8 [H, W, 3]; hole: bool [H, W], of which nothing is read. grain: auto or none."""
    check_pair(known, hole)
    if not hole.any() or hole.all():
        return PrintLook()
    found = read_grain(known, hole) if grain == "auto" else None
    return PrintLook(read_tone(known, hole), found, seed)


def read_tone(known: np.ndarray, hole: np.ndarray) -> np.ndarray | None:
    """float32 [256, 3]: the mean of R, G, B less the brightness, for each brightness; None for a photo in colour."""
    height, width = hole.shape
    scale = min(1.0, TONE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small, weight = shrink_known(known, hole, size) if scale < 1.0 else (known, (~hole).astype(np.float32))
    if scale == 1.0:  # noise averages out here too; what is masked weighs nothing
        blurred = cv2.GaussianBlur(np.where(hole[..., None], 0, known).astype(np.float32), (0, 0), 1.0)
        small = blurred / np.maximum(cv2.GaussianBlur(weight, (0, 0), 1.0), 1e-3)[..., None]
    pixels = small[weight > 0.9].astype(np.float32)
    if len(pixels) < FEWEST:
        return None
    luma = pixels @ np.float32(LUMA)
    off = pixels - luma[:, None]
    tone = _curve(luma, off)
    apart = np.abs(off - tone[np.clip(np.rint(luma), 0, 255).astype(int)]).max(axis=1)
    return tone if np.percentile(apart, MOSTLY) <= ONE_TONE else None


def _curve(luma: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Means of `off` [n, 3] by brightness, smoothed over it: float32 [256, 3]; the ends go on level."""
    bins = np.clip(np.rint(luma), 0, 255).astype(int)
    sums = np.stack([np.bincount(bins, off[:, c], 256) for c in range(3)] + [np.bincount(bins, minlength=256)], -1)
    smooth = _smooth(sums)
    there = np.flatnonzero(smooth[:, 3] > 1e-6)
    means = smooth[there, :3] / smooth[there, 3:]
    return np.stack([np.interp(np.arange(256), there, means[:, c]) for c in range(3)], -1).astype(np.float32)


def _smooth(sums: np.ndarray) -> np.ndarray:
    """[256, C] smoothed along the brightness."""
    steps = np.arange(-18, 19)
    kernel = np.exp(-0.5 * (steps / SOFT_TONE) ** 2)
    return np.stack([np.convolve(sums[:, c], kernel / kernel.sum(), "same") for c in range(sums.shape[1])], -1)
