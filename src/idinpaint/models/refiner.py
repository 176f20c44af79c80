"""DetailRefiner: what a painted hole lacks of lashes, nostrils, lips and skin, added by a small adversarial network.

A second stage after a coarse one (DeepFill, Yu et al. 2018, arXiv:1801.07892), trained as one with the diffusion.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

INPUTS = 7  # the painted picture, the hole, the prior's fill
NEAR = 32  # px round the hole that are looked at
CELL = 8  # px of a cell of the landmark maps
OUTLINE = 17  # landmarks of the jaw, which come first in iBUG-68


def hole_box(hole: torch.Tensor) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) px of what is worked on for the holes [B, 1, H, W], on whole cells; no hole: all."""
    any_hole = hole[:, 0].amax(0) > 0
    box: list[tuple[int, int]] = []
    for axis, side in ((1, hole.shape[-2]), (0, hole.shape[-1])):
        places = any_hole.any(axis).nonzero().flatten().tolist() or [0, side - 1]
        box.append((max(places[0] - NEAR, 0) // CELL * CELL, min(-(-(places[-1] + 1 + NEAR) // CELL) * CELL, side)))
    return box[0][0], box[1][0], box[0][1], box[1][1]


def near_features(heatmaps: torch.Tensor, outline: int = OUTLINE) -> torch.Tensor:
    """[B, K, h, w] -> [B, 1, 8h, 8w] in [0, 1]: 1 within about 15 px of a landmark inside the face (brows, eyes, nose,
    mouth), fading to 0 over another 8."""
    inside = F.max_pool2d(heatmaps[:, outline:].amax(1, keepdim=True), 3, 1, 1)
    return F.interpolate((2 * inside).clamp(max=1), scale_factor=CELL, mode="bilinear", align_corners=False)


def smooth(picture: torch.Tensor) -> torch.Tensor:
    """3 x 3 binomial filter: takes away what alternates from pixel to pixel, which shuffled pixels easily do."""
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, 2, 1), 2, 1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.body = nn.Sequential(nn.SiLU(), first, nn.SiLU(), second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class DetailRefiner(ModelMixin, ConfigMixin):
    """A U-Net at a half, a quarter and an eighth of the picture's side; landmark maps enter at an eighth.

    widths: channels at those three levels; outline: how many landmarks come first that lie on the face's outline.
    elsewhere: whether detail is added far from the others too (hair, skin, background), by an output layer of its own.
    Begins by changing nothing.
    """

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 96, 128),
        heatmaps: int = 68,
        fine_width: int = 16,
        outline: int = OUTLINE,
        elsewhere: bool = False,
    ) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.begin = nn.Conv2d(4 * INPUTS, half, 3, padding=1)
        self.down = nn.ModuleList([_Residual(half), _Residual(quarter)])
        self.to_quarter = nn.Conv2d(half, quarter, 4, 2, 1)
        self.to_eighth = nn.Conv2d(quarter, eighth, 4, 2, 1)
        self.maps = nn.Conv2d(heatmaps, eighth, 3, padding=1)
        self.middle = nn.Sequential(_Residual(eighth), _Residual(eighth), _Residual(eighth))
        self.from_eighth = nn.Conv2d(eighth, 4 * quarter, 1)
        self.from_quarter = nn.Conv2d(quarter, 4 * half, 1)
        self.up = nn.ModuleList([_Residual(quarter), _Residual(half)])
        self.to_fine = nn.Conv2d(half, 4 * fine_width, 1)
        self.fine = nn.Conv2d(fine_width + INPUTS, fine_width, 3, padding=1)
        self.out = nn.Conv2d(fine_width, 3, 3, padding=1)
        self.far = nn.Conv2d(fine_width, 3, 3, padding=1) if elsewhere else None
        for layer in filter(None, (self.out, self.far)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, painted: torch.Tensor, hole: torch.Tensor, prior: torch.Tensor, heatmaps: torch.Tensor
    ) -> torch.Tensor:
        """painted: [B, 3, H, W] in [-1, 1], known pixels in place; hole: [B, 1, H, W], 1 = hole; prior: its fill, as
        painted; heatmaps: [B, K, H / 8, W / 8]. Returns [B, 3, H, W], not clamped. H and W: multiples of 8."""
        given = painted.dtype
        inputs = torch.cat([painted, hole, prior], 1).to(self.dtype)
        half = self.down[0](self.begin(F.pixel_unshuffle(inputs, 2)))
        quarter = self.down[1](self.to_quarter(half))
        middle = self.middle(self.to_eighth(quarter) + self.maps(heatmaps.to(self.dtype)))
        quarter = self.up[0](quarter + F.pixel_shuffle(self.from_eighth(middle), 2))
        half = self.up[1](half + F.pixel_shuffle(self.from_quarter(quarter), 2))
        fine = F.silu(F.pixel_shuffle(self.to_fine(F.silu(half)), 2))
        fine = F.silu(self.fine(torch.cat([fine, inputs], 1)))
        near = near_features(heatmaps, self.config.outline)
        detail = near * smooth(self.out(fine))
        if self.far is not None:
            detail = detail + (1 - near) * smooth(self.far(fine))
        return painted + detail.to(given)

    def detailed(
        self,
        predicted: torch.Tensor,
        known: torch.Tensor,
        hole: torch.Tensor,
        prior: torch.Tensor,
        heatmaps: torch.Tensor,
    ) -> torch.Tensor:
        """predicted [B, 3, H, W], clamped, with detail in and near the hole; known: the picture, whatever lies in the
        hole; prior: its fill; the rest as for `forward`."""
        top, left, bottom, right = hole_box(hole)
        cut = np.s_[..., top:bottom, left:right]
        maps = heatmaps[..., top // CELL : bottom // CELL, left // CELL : right // CELL]
        known, hole, fill, prior = (x[cut].to(predicted.dtype) for x in (known, hole, predicted, prior))
        painted, before = (known * (1 - hole) + x * hole for x in (fill, prior))
        predicted = predicted.clone()
        predicted[cut] = self(painted, hole, before, maps).clamp(-1, 1)
        return predicted
