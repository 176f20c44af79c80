"""Landmarks of mirrored faces, and the maps that lay one face's landmarks over another's."""

from __future__ import annotations

import torch

from idinpaint.models.tensors import constant

# iBUG-68 points of a mirrored face: MIRROR_68[i] is the point that lies where point i was.
MIRROR_68 = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
INNER = slice(17, 68)  # brows, eyes, nose, mouth: the jaw moves with the pose


def mirrored_points(points: torch.Tensor, side: int = 256) -> torch.Tensor:
    """Landmarks [B, 68, 2] of the flipped picture, in iBUG order."""
    flipped = points.index_select(1, constant(MIRROR_68, points.device, torch.long))
    return torch.stack([side - 1 - flipped[..., 0], flipped[..., 1]], -1)


def inverse_2x2(matrices: torch.Tensor) -> torch.Tensor:
    """Inverses of [B, 2, 2] in closed form: no solver that waits for the device."""
    (a, b), (c, d) = matrices.unbind(1)[0].unbind(1), matrices.unbind(1)[1].unbind(1)
    rows = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], 1)
    return rows / (a * d - b * c)[:, None, None]


def affine_between(source: torch.Tensor, target: torch.Tensor, ridge: float = 1e-5) -> torch.Tensor:
    """The affine maps [B, 2, 3] that take target points onto source points, by least squares over brows, eyes, nose
    and mouth. source, target: [B, 68, 2] px. ridge keeps points on one line from giving a map that explodes."""
    a, b = target[:, INNER].float(), source[:, INNER].float()
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    a, b = a - mean_a, b - mean_b
    scale = a.square().sum((1, 2), keepdim=True).clamp(min=1e-6)
    gram = a.transpose(1, 2) @ a + ridge * scale * torch.eye(2, device=a.device)
    linear = (inverse_2x2(gram) @ (a.transpose(1, 2) @ b)).transpose(1, 2)  # (B, 2, 2)
    return torch.cat([linear, mean_b.transpose(1, 2) - linear @ mean_a.transpose(1, 2)], 2)
