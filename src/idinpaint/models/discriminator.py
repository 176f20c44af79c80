"""Multi-scale patch discriminator (pix2pixHD, Wang et al. 2018, arXiv:1711.11585) with spectral normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """picture -> features of every layer, the last being one score a patch."""

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [min(width << i, 4 * width) for i in range(layers)]
        pairs = zip([in_channels, *widths], widths, strict=False)
        convs = [spectral_norm(nn.Conv2d(i, o, 4, 2, 1)) for i, o in pairs]
        convs += [spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, 1, 1))]
        self.convs = nn.ModuleList(convs)
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
            features.append(x)
        return [*features, self.score(x)]


class Discriminator(ModelMixin, ConfigMixin):
    """One patch discriminator a scale: 1, 1/2, ... of the picture. in_channels: picture + mask (+ landmark map)."""

    @register_to_config
    def __init__(self, in_channels: int = 4, width: int = 32, layers: int = 3, scales: int = 2) -> None:
        super().__init__()
        self.nets = nn.ModuleList(PatchDiscriminator(in_channels, width, layers) for _ in range(scales))

    def forward(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """[B, in_channels, H, W] -> for each scale the features of its layers, the last being [B, 1, h, w] scores."""
        outputs = []
        for index, net in enumerate(self.nets):
            outputs.append(net(x if index == 0 else F.avg_pool2d(x, 2**index)))
        return outputs
