"""The network that finds damage: a small fully convolutional U-Net, one logit a pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from idinpaint.types import LUMA

STRIDE = 32  # px; sides of the input are multiples of it
WIDTHS = (5, 17)  # px; lines and spots narrower than that are shown to the network beside the picture
RARE = -3.0  # logit to begin with: most pixels are no damage


def _block(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


def _highest(grey: torch.Tensor, width: int) -> torch.Tensor:
    """The highest value within `width` px, [B, 1, H, W]."""
    grey = F.max_pool2d(grey, (width, 1), 1, (width // 2, 0))
    return F.max_pool2d(grey, (1, width), 1, (0, width // 2))


def narrow_parts(image: torch.Tensor) -> torch.Tensor:
    """What is brighter or darker than all of its surroundings at WIDTHS (top-hat and bottom-hat of the luma), and the
    chroma: [B, 3, H, W] in [-1, 1] -> [B, 5, H, W]."""
    grey = (image * image.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    parts = [image.amax(1, keepdim=True) - image.amin(1, keepdim=True)]
    for width in WIDTHS:
        parts.append(grey - _opened(grey, width))
        parts.append(-grey - _opened(-grey, width))
    return torch.cat(parts, 1)


def _opened(grey: torch.Tensor, width: int) -> torch.Tensor:
    """Morphological opening by a square."""
    return _highest(-_highest(-grey, width), width)


class DamageNet(nn.Module):
    """A photo -> how likely each of its pixels is damage. Works at half the resolution and deeper; the 2x2 px of a
    cell go in and come out as channels (Shi et al. 2016), so that lines of 1 px are kept."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        self.config = {"widths": list(widths)}
        self.stem = nn.Sequential(_block(32, widths[0]), _block(widths[0], widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(_block(i, o, 2), _block(o, o)) for i, o in zip(widths, widths[1:], strict=False)
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.Sequential(_block(i + o, o), _block(o, o)) for i, o in pairs)
        self.head = nn.Conv2d(widths[0], 4, 1)
        nn.init.constant_(self.head.bias, RARE)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image: [B, 3, H, W] in [-1, 1], H and W multiples of STRIDE -> logits [B, 1, H, W]."""
        x = self.stem(F.pixel_unshuffle(torch.cat([image, 2 * narrow_parts(image)], 1), 2))
        stack = [x]
        for down in self.down:
            x = down(x)
            stack.append(x)
        for up, skip in zip(self.up, stack[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return F.pixel_shuffle(self.head(x), 2)
