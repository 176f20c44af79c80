"""Critics that look at windows round one facial component each, the whole face, and what else was hidden.

Facial component discriminators (GFPGAN, Wang et al. 2021, arXiv:2101.04061, section 3.4) with spectral normalisation
(Miyato et al. 2018, arXiv:1802.05957) and scores by patch (Isola et al. 2017), so that only hidden patches need count.
Each sees pixels and the features of a frozen network, which tell a face's texture from a painted one after far fewer
pictures (Projected GANs, Sauer et al. 2021, arXiv:2111.01007).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

KINDS = ("eye", "eyes", "nose", "mouth", "face", "rest")
CHANNELS = (64, 128, 256)  # of the layers of VGG16 that are looked at, at a half, a quarter, an eighth of the side
STRIDES = (2, 1, 1)


class Critic(nn.Module):
    """window [B, 3, 80, 80] -> (scores [B, 1, 10, 10], features of every layer)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        sizes = ((3, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 4, 2), (4 * width, 4 * width, 3, 1))
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(i, o, k, s, 1)) for i, o, k, s in sizes)
        self.score = spectral_norm(nn.Conv2d(4 * width, 1, 3, 1, 1))

    def forward(self, window: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x, features = window, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.score(x), features


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
