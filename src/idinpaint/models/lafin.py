"""LaFIn (Yang et al. 2019, arXiv:1911.11394): landmarks first, then a generator that paints under them.

The landmarks come from the package's shared heatmap network, which predicts hidden ones too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from idinpaint.models.pconv import Attention


def landmark_map(points: torch.Tensor, size: int = 256, sigma_px: float = 2.0) -> torch.Tensor:
    """points [B, K, 2] (x, y) in px of a `size` px crop -> [B, 1, size, size] in [0, 1], the highest of K Gaussians."""
    axis = torch.arange(size, device=points.device, dtype=torch.float32)
    gx = torch.exp(-((axis - points[..., 0:1]) ** 2) / (2 * sigma_px**2))  # (B, K, W)
    gy = torch.exp(-((axis - points[..., 1:2]) ** 2) / (2 * sigma_px**2))
    drawn = torch.zeros(len(points), size, size, device=points.device)
    for k in range(points.shape[1]):  # one at a time: K maps of 256 px at once are 18 MB a picture
        drawn = torch.maximum(drawn, gy[:, k, :, None] * gx[:, k, None, :])
    return drawn[:, None]


class GatedConv(nn.Module):
    """act(norm(conv(x))) * sigmoid(conv'(x)) (Yu et al. 2019, arXiv:1806.03589)."""

    def __init__(self, i: int, o: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, 2 * o, kernel, stride, dilation * (kernel - 1) // 2 if stride == 1 else 1, dilation)
        self.norm = nn.InstanceNorm2d(o, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features, gate = self.conv(x).chunk(2, 1)
        return F.leaky_relu(self.norm(features), 0.2) * torch.sigmoid(gate)


class DilatedResidual(nn.Module):
    """x + conv(gated dilated conv(x))."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.gated = GatedConv(channels, channels, 3, 1, dilation)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(self.gated(x))


class LaFInGenerator(ModelMixin, ConfigMixin):
    """Gated encoder to 1/8, dilated residual blocks, attention over all places, decoder with skips, tanh."""

    @register_to_config
    def __init__(self, widths: tuple[int, ...] = (64, 128, 256), blocks: int = 7) -> None:
        super().__init__()
        pairs = list(zip((5, *widths[:-1]), widths, strict=True))
        self.encoder = nn.ModuleList(GatedConv(i, o, 4, 2) for i, o in pairs)
        self.middle = nn.Sequential(*(DilatedResidual(widths[-1], 2 ** (1 + b % 3)) for b in range(blocks)))
        self.attention = Attention(widths[-1])
        ups, skips = widths[::-1], (*widths[-2::-1], 5)
        outs = (*widths[-2::-1], widths[0] // 2)
        self.decoder = nn.ModuleList(GatedConv(u + s, o, 3) for u, s, o in zip(ups, skips, outs, strict=True))
        self.out = nn.Conv2d(outs[-1], 3, 3, padding=1)

    def forward(self, masked_image: torch.Tensor, mask: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
        """masked_image: [B, 3, H, W] in [-1, 1]; mask, landmarks (a landmark_map): [B, 1, H, W] -> [B, 3, H, W]."""
        x = torch.cat([masked_image * (1 - mask), mask * 2 - 1, landmarks], 1).to(self.dtype)
        stack = [x]
        for conv in self.encoder:
            x = conv(x)
            stack.append(x)  # (B, C_l, H / 2^l, W / 2^l)
        x = self.attention(self.middle(x))
        for conv, skip in zip(self.decoder, stack[-2::-1], strict=True):
            x = conv(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip.to(x.dtype)], 1))
        return torch.tanh(self.out(x).float()).to(masked_image.dtype)
