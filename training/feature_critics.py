"""Critics of windows that look at pixels and at the features of a frozen network.

Frozen features tell a face's texture from a painted one after far fewer pictures (Projected GANs, Sauer et al. 2021,
arXiv:2111.01007). Scores by patch, spectral normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from idinpaint.models.critics import KINDS, Critic

CHANNELS = (64, 128, 256)  # of the layers of VGG16 that are looked at, at a half, a quarter, an eighth of the side
STRIDES = (2, 1, 1)


class _Head(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        sizes = ((channels, width, stride), (width, width, 1), (width, 1, 1))
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(i, o, 3, s, 1)) for i, o, s in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.normalize(x.float(), dim=1) * x.shape[1] ** 0.5
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), 0.2)
        return self.layers[-1](x)


class WindowCritic(nn.Module):
    """(window [B, 3, H, W], its frozen features) -> (scores [B, 1, h, w] of each head, features of the pixels' one)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.pixels = Critic(width)
        self.heads = nn.ModuleList(_Head(c, 96, s) for c, s in zip(CHANNELS, STRIDES, strict=True))

    def forward(
        self, window: torch.Tensor, seen: Sequence[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        score, features = self.pixels(window)
        return [score, *(head(x) for head, x in zip(self.heads, seen, strict=True))], features


class WindowCritics(nn.Module):
    """One for each of KINDS."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleDict({kind: WindowCritic() for kind in KINDS})
