"""A small network that tells a window with a real facial feature from one with a smear: one logit a window."""

from __future__ import annotations

import torch
from torch import nn


class BelieveNet(nn.Module):
    """windows [B, 4, 64, 64] (RGB in [-1, 1], hole) and feature [B] int64 -> logits [B]; above 0 looks real."""

    def __init__(self, kinds: int = 7, widths: tuple[int, ...] = (24, 48, 64, 96)) -> None:
        super().__init__()
        self.config = {"kinds": kinds, "widths": list(widths)}
        layers, previous = [], 4
        for width in widths:
            layers += [nn.Conv2d(previous, width, 3, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
            previous = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * previous, kinds))

    def forward(self, windows: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        x = self.body(windows)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return self.head(pooled).gather(1, feature[:, None])[:, 0]
