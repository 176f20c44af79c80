"""Pixels and landmarks into tensors and back; the one place of the [-1, 1] convention."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from idinpaint.types import InputError


@lru_cache(maxsize=256)
def constant(values: tuple[Any, ...], device: torch.device | str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A tensor of nested tuples, made once a device: copying it there anew makes the host wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


def to_tensor(photos: np.ndarray) -> torch.Tensor:
    """[B, H, W, 3] uint8 -> [B, 3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(photos)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """[B, 3, H, W] in [-1, 1] -> [B, H, W, 3] uint8. InputError for NaN or infinity, which would come out as black."""
    if not bool(images.isfinite().all()):
        raise InputError("the network painted values that are no numbers; try --dtype fp32, or restore its weights")
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def draw_heatmaps(landmarks: np.ndarray, size: int, sigma_px: float = 6.0, crop_size: int = 256) -> np.ndarray:
    """Gaussians of `sigma_px` crop px round landmarks [..., K, 2] in crop px -> [..., K, size, size] in [0, 1]."""
    step = crop_size / size
    centres = np.arange(size) * step + (step - 1) / 2
    points = np.asarray(landmarks, np.float32)
    gx = np.exp(-((centres - points[..., 0:1]) ** 2) / (2 * sigma_px**2))
    gy = np.exp(-((centres - points[..., 1:2]) ** 2) / (2 * sigma_px**2))
    return (gy[..., :, None] * gx[..., None, :]).astype(np.float32)


def heatmap_tensor(points: torch.Tensor, size: int, sigma_px: float = 6.0, crop_size: int = 256) -> torch.Tensor:
    """`draw_heatmaps` on the points' device: [B, K, 2] crop px -> [B, K, size, size] in [0, 1]."""
    step = crop_size / size
    centres = torch.arange(size, device=points.device) * step + (step - 1) / 2
    gx = torch.exp(-((centres - points[..., 0:1]) ** 2) / (2 * sigma_px**2))
    gy = torch.exp(-((centres - points[..., 1:2]) ** 2) / (2 * sigma_px**2))
    return gy[..., :, None] * gx[..., None, :]
