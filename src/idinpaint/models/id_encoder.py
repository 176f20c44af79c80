"""Bundled identity encoder: a small residual network on 112 px ArcFace-aligned faces (Deng et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def _down(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.PReLU(o))


class IdentityNet(nn.Module):
    """face [B, 3, 112, 112] in [-1, 1], hole zeroed -> unit vectors [B, D]."""

    def __init__(
        self, dim: int = 128, widths: tuple[int, ...] = (32, 64, 128, 256), blocks: tuple[int, ...] = (0, 1, 2, 1)
    ) -> None:
        super().__init__()
        self.config = {"dim": dim, "widths": list(widths), "blocks": list(blocks)}
        stages, previous = [], 3
        for width, count in zip(widths, blocks, strict=True):
            stages += [_down(previous, width), *(_Residual(width) for _ in range(count))]
            previous = width
        self.stages = nn.Sequential(*stages)  # (B, 256, 7, 7)
        self.pool = nn.Conv2d(previous, previous, 7, groups=previous, bias=False)  # global depthwise, MobileFaceNet
        self.norm = nn.BatchNorm2d(previous)
        self.project = nn.Linear(previous, dim, bias=False)
        self.out_norm = nn.BatchNorm1d(dim)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.pool(self.stages(face.to(self.project.weight.dtype)))).flatten(1)
        return F.normalize(self.out_norm(self.project(x)).float(), dim=-1).to(face.dtype)
