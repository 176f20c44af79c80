"""Published networks that training distils from; their weights are never shipped."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


def _conv_bn(i: int, o: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU6()) if relu else nn.Sequential(*layers)


class _Separable(nn.Module):
    def __init__(self, i: int, o: int, kernel: int, padding: int, bias: bool = False) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(i, i, kernel, padding=padding, groups=i, bias=bias)
        self.pointwise = nn.Conv2d(i, o, 1, bias=bias)
        self.bn1, self.bn2 = nn.BatchNorm2d(i), nn.BatchNorm2d(o)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.bn1(self.depthwise(x)))
        return F.relu6(self.bn2(self.pointwise(x)))


class _GlobalDepthwise(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.depthwise(x))


class _Inverted(nn.Module):
    def __init__(self, i: int, o: int, stride: int, expand: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and i == o
        wide = i * expand
        self.conv = nn.Sequential(
            _conv_bn(i, wide, 1),
            _conv_bn(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, o, 1, bias=False),
            nn.BatchNorm2d(o),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al. 2018) in the layout of foamliu's ArcFace checkpoint.

    face [B, 3, 112, 112] in [-1, 1] RGB -> unit vectors [B, 128].
    """

    SETTINGS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv_bn(3, 64, 3, 2)
        self.dw_conv = _Separable(64, 64, 3, 1)
        blocks, previous = [], 64
        for expand, out, count, stride in self.SETTINGS:
            for index in range(count):
                blocks.append(_Inverted(previous, out, stride if index == 0 else 1, expand))
                previous = out
        self.features = nn.Sequential(*blocks)
        self.conv2 = _conv_bn(128, 512, 1)
        self.gdconv = _GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, 128, 1)
        self.bn = nn.BatchNorm1d(128)
        self.register_buffer("shift", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        x = ((face + 1) / 2 - self.shift) / self.scale
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        x = self.conv3(self.gdconv(x)).flatten(1)
        return F.normalize(self.bn(x), dim=-1)


def load_mobilefacenet(path: str | Path) -> MobileFaceNet:
    """The teacher with its published weights, frozen. Raises RuntimeError when the layout differs."""
    net = MobileFaceNet()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return net.eval().requires_grad_(False)
