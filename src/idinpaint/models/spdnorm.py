"""Spatially probabilistic diversity normalisation (PD-GAN, Liu et al. 2021, arXiv:2105.02201), hard and soft.

A map D in [0, 1] says how much the prior's picture rules a place: 1 on known pixels, falling towards the hole's
centre, where the latent vector may decide. Masks follow the package: 1 = hole; `known = 1 - mask`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def known_at(mask: torch.Tensor, size: int) -> torch.Tensor:
    """mask [B, 1, H, W], 1 = hole -> [B, 1, size, size], 1 where every pixel of the cell is known, else 0."""
    return 1 - F.adaptive_max_pool2d(mask, size)


def plain_hard_map(known: torch.Tensor, rings: int, kernel: int = 3, base: float = math.e) -> torch.Tensor:
    """PD-GAN's hard map: known 1, the i-th ring of the hole base ** -i, what lies deeper base ** -rings.

    known: [B, 1, H, W] in {0, 1}; a ring is what one dilation by `kernel` adds, (kernel - 1) / 2 cells. `base` is the
    paper's k; its published code takes e. Returns [B, 1, H, W].
    """
    reached, weights = known, known
    for ring in range(1, rings + 1):
        grown = F.max_pool2d(reached, kernel, 1, kernel // 2)
        weights = weights + (grown - reached) * base**-ring
        reached = grown
    return weights + (1 - reached) * base**-rings


def counted_hard_map(known: torch.Tensor, rings: int, kernel: int = 3) -> torch.Tensor:
    """The face variant's hard map: M_i = (sum of M_{i-1} over the neighbourhood) / #neighbourhood, M_0 = known.

    known: [B, 1, H, W] in {0, 1}; they keep M = 1, as in the plain map. Cells outside the picture are not counted.
    A hole cell's value depends on how many known cells surround it; where the sum is 0 it stays 0. [B, 1, H, W].
    """
    weights = known
    for _ in range(rings):
        mean = F.avg_pool2d(weights, kernel, 1, kernel // 2, count_include_pad=False)
        weights = known + (1 - known) * mean
    return weights


def positional_norm(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Zero mean and unit variance over the channels of each place (Li et al. 2019, arXiv:1907.04312). [B, C, H, W]."""
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), eps=eps).permute(0, 3, 1, 2)


class SPDNorm(nn.Module):
    """norm(x) (1 + D gamma(P)) + D beta(P), gamma and beta convolutions of the prior's features P."""

    def __init__(self, channels: int, context: int, hidden: int, kernel: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(context, hidden, kernel, padding=kernel // 2)
        self.gamma_beta = nn.Conv2d(hidden, 2 * channels, kernel, padding=kernel // 2)

    def forward(self, x: torch.Tensor, context: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """x: [B, C, h, w]; context: [B, P, h, w]; weights: D [B, 1, h, w] in [0, 1] -> [B, C, h, w]."""
        gamma, beta = (self.gamma_beta(F.relu(self.hidden(context))) * weights).chunk(2, 1)
        return positional_norm(x) * (1 + gamma) + beta


class SPDNormBlock(nn.Module):
    """Residual block: two convolutions under the hard map + one 1x1 convolution under the soft map (figure 3).

    The soft map is learnt: sigmoid(conv([P, x])) in the hole, 1 on known cells.
    """

    def __init__(self, channels: int, context: int, hidden: int, kernel: int = 3) -> None:
        super().__init__()
        self.hard_norms = nn.ModuleList(SPDNorm(channels, context, hidden, kernel) for _ in range(2))
        self.hard_convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.soft_norm = SPDNorm(channels, context, hidden, kernel)
        self.soft_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.attention = nn.Conv2d(channels + context, 1, 3, padding=1)

    def soft_map(self, x: torch.Tensor, context: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """[B, 1, h, w] in (0, 1]."""
        return known + (1 - known) * torch.sigmoid(self.attention(torch.cat([x, context], 1)).float()).to(x.dtype)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, known: torch.Tensor, hard_map: torch.Tensor
    ) -> torch.Tensor:
        """x: [B, C, h, w]; context: [B, P, h, w]; known, hard_map: [B, 1, h, w] -> [B, C, h, w]."""
        known, hard_map = known.to(x.dtype), hard_map.to(x.dtype)
        soft = self.soft_conv(self.soft_norm(x, context, self.soft_map(x, context, known)))
        for norm, conv in zip(self.hard_norms, self.hard_convs, strict=True):
            x = conv(F.leaky_relu(norm(x, context, hard_map), 0.2))
        return soft + x
