"""Pictures of the person inside the network: reference photos and the face's own mirrored half, turned to its pose.

One small encoder reads each picture together with a map of where it is valid; the features of all pictures are fused by
their maximum, so that their number and order do not matter. Prior and UNet add them through 1 x 1 convolutions that
start at zero (as ControlNet's do, Zhang et al. 2023, arXiv:2302.05543; the UNet takes them as a T2I-Adapter's, Mou et
al. 2023, arXiv:2302.08453).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from idinpaint.models.points import affine_between, mirrored_points
from idinpaint.models.tensors import constant

CHANNELS = 5  # RGB, valid, own: 1 for the face's own mirrored picture, 0 for another photo


def warp(pictures: torch.Tensor, maps: torch.Tensor, side: int = 256, mode: str = "bilinear") -> torch.Tensor:
    """Sample pictures [B, C, H, W] at maps [B, 2, 3] (output px -> picture px): [B, C, side, side], zero beyond."""
    axis = torch.arange(side, device=maps.device, dtype=torch.float32)
    ys, xs = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([xs, ys, torch.ones_like(xs)], -1).view(-1, 3) @ maps.transpose(1, 2)  # (B, side², 2)
    size = constant((pictures.shape[-1], pictures.shape[-2]), maps.device)
    grid = ((2 * grid + 1) / size - 1).view(-1, side, side, 2)
    return F.grid_sample(pictures, grid.to(pictures.dtype), mode=mode, align_corners=False)


def reference_input(pictures: torch.Tensor, valid: torch.Tensor, maps: torch.Tensor, own: float) -> torch.Tensor:
    """What the encoder reads of pictures turned to the face's pose: [B, 5, 256, 256].

    pictures: [B, 3, H, W] in [-1, 1]; valid: [B, 1, H, W], 0 where a picture is damaged or ends; maps as in `warp`.
    A pixel counts where at least nine tenths of what it was mixed from is valid.
    """
    turned = warp(torch.cat([pictures * valid, valid], 1), maps)
    share = turned[:, 3:]
    seen = (share > 0.9).to(turned.dtype)
    rgb = turned[:, :3] / share.clamp(min=0.5) * seen
    return torch.cat([rgb, seen, torch.full_like(seen, own) * seen], 1)


def own_mirror(masked_image: torch.Tensor, mask: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The face's own mirrored visible part as a reference [B, 5, 256, 256]: a hidden eye finds its twin.

    masked_image: [B, 3, 256, 256] in [-1, 1]; mask: [B, 1, 256, 256], 1 = hole; points: [B, 68, 2] px, predicted.
    """
    maps = affine_between(mirrored_points(points, masked_image.shape[-1]), points).to(masked_image.device)
    return reference_input(masked_image.flip(-1), (1 - mask).flip(-1), maps, 1.0)


def _stage(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, 3, 2, 1), nn.GroupNorm(8, o), nn.ReLU(),
        nn.Conv2d(o, o, 3, 1, 1), nn.GroupNorm(8, o), nn.ReLU(),
    )  # fmt: skip


def zero_conv(i: int, o: int) -> nn.Conv2d:
    """A 1 x 1 convolution that adds nothing at first."""
    conv = nn.Conv2d(i, o, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class ReferenceEncoder(ModelMixin, ConfigMixin):
    """references [B, R, 5, H, W] -> features of each level, fused over R: [B, C_l, H / 2^l, W / 2^l], l = 1 ...

    unet_channels: of the map for the UNet's input at H / 8, and unet_widths: of those that its down blocks add at
    H / 16, H / 16, H / 32. An empty picture (nothing valid) adds nothing.
    """

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (24, 48, 96, 128, 128),
        unet_channels: int = 16,
        unet_widths: tuple[int, ...] = (64, 128, 192),
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(i, o) for i, o in zip((CHANNELS, *widths), widths, strict=False))
        self.to_input = zero_conv(widths[2], unet_channels)
        sources = (widths[3], widths[3], widths[4])
        self.to_blocks = nn.ModuleList(zero_conv(i, o) for i, o in zip(sources, unet_widths, strict=True))

    def forward(self, references: torch.Tensor) -> list[torch.Tensor]:
        """[B, R, 5, H, W] -> one [B, C_l, H / 2^l, W / 2^l] a level, finest first."""
        b, count = references.shape[:2]
        x = references.flatten(0, 1)  # (B R, 5, H, W)
        valid, levels = x[:, 3:4], []
        for stage in self.stages:
            x = stage(x)
            valid = F.avg_pool2d(valid, 2)
            levels.append((x * valid.to(x.dtype)).unflatten(0, (b, count)).amax(1))  # (B, C_l, h, w)
        return levels

    def for_unet(self, levels: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The map for the UNet's input [B, unet_channels, H / 8, W / 8], and what its down blocks add."""
        sources = (levels[3], levels[3], levels[4])
        return self.to_input(levels[2]), [conv(x) for conv, x in zip(self.to_blocks, sources, strict=True)]
