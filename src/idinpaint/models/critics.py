"""Small discriminators that look at one facial component each, and one for the rim of the hole.

Facial component discriminators (GFPGAN, Wang et al. 2021, arXiv:2101.04061, section 3.4) with spectral normalisation
(Miyato et al. 2018, arXiv:1802.05957) and scores by patch (Isola et al. 2017), so that only hidden patches need count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

KINDS = ("eye", "eyes", "nose", "mouth", "rim")


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


class Critics(ModelMixin, ConfigMixin):
    """One critic for each of KINDS."""

    @register_to_config
    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.nets = nn.ModuleDict({kind: Critic(width) for kind in KINDS})

    def forward(self, windows: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, list[torch.Tensor]]]:
        """kind -> windows [B, 3, 80, 80] in [-1, 1] -> kind -> (scores, features)."""
        return {kind: self.nets[kind](window) for kind, window in windows.items()}
