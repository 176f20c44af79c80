"""Photos and their landmarks moved, turned, relit and aged, a batch at once on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from idinpaint.faces.alignment import ARCFACE_POINTS5
from idinpaint.models.points import MIRROR_68, inverse_2x2
from idinpaint.models.references import warp
from idinpaint.models.tensors import constant
from idinpaint.types import LUMA


def arcface_faces(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[B, 3, 256, 256], landmarks [B, 68, 2] -> [B, 3, 112, 112] on the ArcFace template, all on the device.

    The least-squares similarity in closed form (Umeyama 1991), as faces/alignment.py has it for one face.
    """
    p = points.float()
    five = torch.stack([p[:, 36:42].mean(1), p[:, 42:48].mean(1), p[:, 30], p[:, 48], p[:, 54]], 1)
    target = constant(tuple(map(tuple, ARCFACE_POINTS5.tolist())), p.device).expand(len(p), -1, -1)
    a, b = target - target.mean(1, keepdim=True), five - five.mean(1, keepdim=True)
    norm = a.square().sum((1, 2))
    cos = (a * b).sum((1, 2)) / norm
    sin = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1) / norm
    linear = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    shift = five.mean(1)[..., None] - linear @ target.mean(1)[..., None]
    return warp(image.float(), torch.cat([linear, shift], 2), 112)


def affine(batch: int, device: torch.device, turn: float, stretch: float, shift: float) -> torch.Tensor:
    """Random maps [B, 2, 3] round the middle of a 256 px picture: standard deviations in radians, shares and px."""
    angle = torch.randn(batch, device=device) * turn
    scale = 1 + torch.randn(batch, 2, device=device) * stretch
    skew = torch.randn(batch, device=device) * stretch / 2
    cos, sin = angle.cos(), angle.sin()
    linear = torch.stack([torch.stack([cos, -sin + skew], -1), torch.stack([sin, cos], -1)], 1) * scale[:, None]
    middle = torch.full((2, 1), 127.5, device=device)
    offset = middle - linear @ middle + torch.randn(batch, 2, 1, device=device) * shift
    return torch.cat([linear, offset], 2)


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The maps [B, 2, 3] that apply `inner` first."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    return torch.cat([linear, outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2)


def mapped(points: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Points [B, K, 2] under maps [B, 2, 3]."""
    return points @ maps[:, :, :2].transpose(1, 2) + maps[:, None, :, 2]


def inverse(maps: torch.Tensor) -> torch.Tensor:
    """The inverse maps [B, 2, 3]."""
    linear = inverse_2x2(maps[:, :, :2])
    return torch.cat([linear, -linear @ maps[:, :, 2:]], 2)


def relit(image: torch.Tensor, strength: float) -> torch.Tensor:
    """Another exposure, contrast, saturation and tint, [B, 3, H, W] in [-1, 1]."""
    b, device = len(image), image.device

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(b, *shape, 1, 1, device=device) * strength

    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * (1 + 1.5 * draw(1)).clamp(min=0)
    mean = image.mean((1, 2, 3), keepdim=True)
    image = mean + (image - mean) * (1 + draw(1)) + draw(1) + 0.5 * draw(3)
    return image.clamp(-1, 1)


def shaded(image: torch.Tensor, share: float) -> torch.Tensor:
    """A share of the pictures in a hard light from one side, half of those darker as a whole: brightness falls to
    between a third and nine tenths across a line through the middle part, softly or within some pixels."""
    b, side, device = len(image), image.shape[-1], image.device

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(b, 1, 1, 1, device=device)

    axis = torch.linspace(-1, 1, side, device=device)
    angle = draw(0, 2 * torch.pi)
    along = axis.view(1, 1, 1, -1) * angle.cos() + axis.view(1, 1, -1, 1) * angle.sin()
    lit = torch.sigmoid((along - draw(-0.4, 0.4)) / draw(0.06, 0.6))
    dark = draw(0.35, 0.9)
    gain = (dark + (draw(1.0, 1.15) - dark) * lit) * torch.where(draw(0, 1) < 0.5, draw(0.5, 1.0), draw(1.0, 1.0))
    return torch.where(draw(0, 1) < share, (image + 1) * gain - 1, image).clamp(-1, 1)


def aged(image: torch.Tensor, share: float) -> torch.Tensor:
    """A share of the pictures turned monochrome, half of those with a sepia tint."""
    b, device = len(image), image.device
    luma = (image * constant(LUMA, device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    tint = constant((0.12, 0.0, -0.18), device).view(1, 3, 1, 1)
    tint = tint * (torch.rand(b, 1, 1, 1, device=device) - 0.5).clamp(min=0) * 2
    old = (luma + tint * (1 - luma.abs())).clamp(-1, 1)
    return torch.where(torch.rand(b, 1, 1, 1, device=device) < share, old.expand_as(image), image)


def blurred(image: torch.Tensor, share: float) -> torch.Tensor:
    """A share of the pictures seen at a half or a quarter of their size."""
    draw = torch.rand(len(image), 1, 1, 1, device=image.device)
    for factor, part in ((2, share), (4, share / 3)):
        small = F.interpolate(F.avg_pool2d(image, factor), scale_factor=factor, mode="bilinear", align_corners=False)
        image = torch.where(draw < part, small, image)
    return image


def swapped(points: torch.Tensor) -> torch.Tensor:
    """Landmarks of a flipped face, whose left and right have changed places, back in iBUG order."""
    return points.index_select(1, constant(MIRROR_68, points.device, torch.long))


def warp_reflecting(pictures: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """`warp`, but what lies beyond the picture is mirrored into it."""
    padded = F.pad(pictures, (32, 32, 32, 32), mode="reflect")
    shifted = torch.cat([maps[:, :, :2], maps[:, :, 2:] + 32], 2)
    return warp(padded, shifted, mode="bicubic")
