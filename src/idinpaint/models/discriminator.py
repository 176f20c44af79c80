"""Multi-scale patch discriminator (pix2pixHD, Wang et al. 2018, arXiv:1711.11585) with spectral normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """picture -> features of every layer, the last being one score a patch.

    The layers between the first and the scores are normalised twice, as in SPADE (Park et al. 2019): spectral
    normalisation alone lets the scores of so few channels shrink towards 0.
    """

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [min(width << i, 4 * width) for i in range(layers)]
        pairs = list(zip(widths, widths[1:], strict=False))
        convs = [nn.Conv2d(in_channels, width, 4, 2, 1)]
        convs += [spectral_norm(nn.Conv2d(i, o, 4, 2, 1, bias=False)) for i, o in pairs]
        convs += [spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, 1, 1, bias=False))]
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList([nn.Identity(), *(nn.InstanceNorm2d(c.out_channels) for c in convs[1:])])
        self.score = nn.Conv2d(widths[-1], 1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
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
