"""One small U-Net for both dense face networks: landmark heatmaps (as in LaFIn's landmark prediction) and parsing.

It sees the masked crop and the mask, so that it also answers for what the hole hides.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def _block(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class FaceMaps(nn.Module):
    """masked crop + mask -> K maps at a quarter of the crop's side (64 for 256 px)."""

    def __init__(self, out_maps: int, widths: tuple[int, ...] = (32, 64, 128, 192)) -> None:
        super().__init__()
        self.config = {"out_maps": out_maps, "widths": list(widths)}
        self.stem = nn.Sequential(_block(16, widths[0]), _block(widths[0], widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(_block(i, o, 2), _block(o, o)) for i, o in zip(widths, widths[1:], strict=False)
        )
        self.middle = _block(widths[-1], widths[-1])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(_block(i + o, o) for i, o in pairs)
        self.head = nn.Conv2d(widths[0], out_maps, 1)

    def forward(self, masked_image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """masked_image: [B, 3, 256, 256] in [-1, 1]; mask: [B, 1, 256, 256], 1 = hole -> logits [B, K, 64, 64]."""
        x = torch.cat([masked_image * (1 - mask), mask * 2 - 1], 1)
        x = F.pixel_unshuffle(F.avg_pool2d(x, 2), 2)  # (B, 16, 64, 64)
        x = self.stem(x.to(self.head.weight.dtype))
        stack = [x]
        for down in self.down:
            x = down(x)
            stack.append(x)
        x = self.middle(x)
        for up, skip in zip(self.up, stack[-2::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return self.head(x).to(masked_image.dtype)


def expected_points(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each softmax map (integral regression, Sun et al. 2018) and how sharp the map is.

    logits: [B, K, h, w] -> points [B, K, 2] (x, y) in cells; confidence [B, K] in [0, 1], the mass within
    two cells of the mean (1 = certain).
    """
    b, k, h, w = logits.shape
    p = logits.float().flatten(2).softmax(-1).view(b, k, h, w)
    xs, ys = torch.arange(w, device=p.device).float(), torch.arange(h, device=p.device).float()
    x, y = (p.sum(2) * xs).sum(-1), (p.sum(3) * ys).sum(-1)
    near = ((xs - x[..., None]).abs() <= 2.5).float()[..., None, :] * ((ys - y[..., None]).abs() <= 2.5).float()[
        ..., None
    ]
    return torch.stack([x, y], -1), (p * near).sum((2, 3))
