"""The encoder-decoder of the VGG-feature study: Johnson et al. 2016 (arXiv:1603.08155) on a masked picture."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


def _block(conv: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _block(nn.Conv2d(channels, channels, 3, padding=1, bias=False), channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class EncoderDecoder(ModelMixin, ConfigMixin):
    """Three strided convolutions with batch norm, residual blocks at 1/8, three transposed convolutions, tanh."""

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (64, 128, 256), blocks: int = 6) -> None:
        super().__init__()
        down = zip((4, *widths[:-1]), widths, strict=True)
        up = zip(widths[::-1], (*widths[-2::-1], widths[0]), strict=True)
        self.encoder = nn.Sequential(*(_block(nn.Conv2d(i, o, 4, 2, 1, bias=False), o) for i, o in down))
        self.middle = nn.Sequential(*(_Residual(widths[-1]) for _ in range(blocks)))
        self.decoder = nn.Sequential(*(_block(nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False), o) for i, o in up))
        self.out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, masked_image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """masked_image: [B, 3, H, W] in [-1, 1]; mask: [B, 1, H, W], 1 = hole (zeroed here too) -> [B, 3, H, W]."""
        x = torch.cat([masked_image * (1 - mask), mask * 2 - 1], 1).to(self.dtype)
        x = self.encoder(x)  # (B, C, H / 8, W / 8)
        return torch.tanh(self.out(self.decoder(self.middle(x))).float()).to(masked_image.dtype)
