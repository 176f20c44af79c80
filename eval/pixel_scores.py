"""Scores that compare pixels: PSNR, SSIM, MS-SSIM, seam error; whole picture and hole only.

Pictures are uint8 [H, W, 3] RGB, masks bool [H, W], True = hole.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torch import Tensor

PSNR_CAP = 100.0  # dB, given for identical pictures so that means stay finite
MS_SSIM_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, finest scale first


def psnr(image: np.ndarray, original: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB (peak 255), over all pixels or over the hole; at most PSNR_CAP."""
    error = (image.astype(np.float64) - original.astype(np.float64)) ** 2
    mse = float(error.mean() if mask is None else error[mask].mean())
    return PSNR_CAP if mse == 0 else min(PSNR_CAP, float(10 * np.log10(255.0**2 / mse)))


def ssim(image: np.ndarray, original: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """SSIM of the whole picture, and of the map's mean over the hole (NaN without a mask).

    Wang 2004: 11 x 11 Gaussian window of sigma 1.5, population covariance, data range 255, channels averaged.
    """
    whole, full = structural_similarity(
        image,
        original,
        win_size=11,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2,
        full=True,
    )
    return float(whole), float("nan") if mask is None else float(full.mean(axis=2)[mask].mean())


def similarity_maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(SSIM, its contrast and structure part) at every pixel of [C, 1, H, W] in [0, 1] twice; edges are mirrored."""
    offsets = torch.arange(11, dtype=a.dtype) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()

    def blur(x: Tensor) -> Tensor:
        padded = F.pad(x, (5, 5, 5, 5), mode="reflect")
        return F.conv2d(F.conv2d(padded, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))

    mean_a, mean_b = blur(a), blur(b)
    spread = blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2
    contrast = (2 * (blur(a * b) - mean_a * mean_b) + 0.03**2) / (spread + 0.03**2)
    return (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2) * contrast, contrast


def ms_ssim(image: np.ndarray, original: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """MS-SSIM (Wang 2003) of the whole picture, sides above 160 px, and of the hole (NaN without one).

    Five scales, each half of the one before; whole: torchmetrics' value, ten times as fast.
    Hole: every scale's map averaged over the hole, where a coarse pixel counts by the share of it that
    is hole; the known pixels within a window's reach still enter the statistics of the hole's, as in `ssim`.
    """
    a, b = (torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[:, None] / 255 for x in (image, original))
    weight = torch.from_numpy(mask.astype(np.float64))[None, None]
    whole, hole = 1.0, 1.0 if mask.any() else float("nan")
    for scale, power in enumerate(MS_SSIM_POWERS):
        if scale:
            a, b, weight = (F.avg_pool2d(x, 2) for x in (a, b, weight))
        last = scale == len(MS_SSIM_POWERS) - 1
        maps = similarity_maps(a, b)[0 if last else 1].mean(0, keepdim=True)
        # As in torchmetrics: mirrored edges count at the coarsest scale only, and a negative mean counts as 0.
        whole *= max(float((maps if last else maps[..., 5:-5, 5:-5]).mean()), 0.0) ** power
        hole *= max(float((maps * weight).sum() / weight.sum().clamp(min=1e-9)), 0.0) ** power
    return whole, hole


def seam_error(image: np.ndarray, original: np.ndarray, mask: np.ndarray) -> float:
    """How much the step across the hole's edge differs from the original's, in grey levels; NaN without an edge.

    Over all pairs of 4-neighbours of which one is in the hole: the mean of ||step of image| - |step of original||.
    """
    total, count = 0.0, 0
    for axis in (0, 1):
        edge = np.diff(mask.astype(np.int8), axis=axis) != 0
        steps = [np.abs(np.diff(x.astype(np.float64), axis=axis))[edge] for x in (image, original)]
        total, count = total + float(np.abs(steps[0] - steps[1]).sum()), count + steps[0].size
    return total / count if count else float("nan")
