"""The network that finds damage: a small fully convolutional U-Net, one logit a pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

STRIDE = 32  # px; sides of the input are multiples of it


def _block(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class DamageNet(nn.Module):
    """A photo -> how likely each of its pixels is damage. Works at half the resolution and deeper; the 2x2 px of a
    cell go in and come out as channels (Shi et al. 2016), so that lines of 1 px are kept."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        self.config = {"widths": list(widths)}
        self.stem = nn.Sequential(_block(12, widths[0]), _block(widths[0], widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(_block(i, o, 2), _block(o, o)) for i, o in zip(widths, widths[1:], strict=False)
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_block(i + o, o) for i, o in pairs)
        self.head = nn.Conv2d(widths[0], 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image: [B, 3, H, W] in [-1, 1], H and W multiples of STRIDE -> logits [B, 1, H, W]."""
        x = self.stem(F.pixel_unshuffle(image, 2))
        stack = [x]
        for down in self.down:
            x = down(x)
            stack.append(x)
        for up, skip in zip(self.up, stack[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return F.pixel_shuffle(self.head(x), 2)
