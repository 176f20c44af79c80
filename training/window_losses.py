"""Losses on windows round what is hidden, as pure functions; images [B, 3, H, W] in [-1, 1], weights [B] or by patch.

All means are weighted means over the samples that have such a window: without one a term is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum(w v) / sum(w), 0 without any weight."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-3)


def per_sample_l1(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean |p - t| over the hole of each sample [B]; a hole counts at least 1 % of the picture."""
    error = ((predicted - target).abs() * mask).mean((1, 2, 3))
    return error / mask.mean((1, 2, 3)).clamp(min=0.01)


def unit_distance(predicted: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of the mean squared distance of unit-normalised features, a number a sample (Zhang et al. 2018,
    with w = 1): lists of [B, C, h, w] -> [B]."""
    pairs = zip(predicted, target, strict=True)
    return sum((a.float() - b.float()).square().sum(1).mean((1, 2)) for a, b in pairs)


def feature_distance(predicted: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of mean |phi(p) - phi(t)|, a number a sample: lists of [B, C, h, w] -> [B]."""
    pairs = zip(predicted, target, strict=True)
    return sum((a.float() - b.float()).abs().mean((1, 2, 3)) for a, b in pairs)


def best_of(values: torch.Tensor, copies: int, share: float = 0.8) -> torch.Tensor:
    """The best of a sample's `copies` counts `share`, the worst the rest (a variety loss, Gupta et al. 2018,
    arXiv:1803.10892, equation 3): only one of several candidates must be this photo, all must be believable.

    values: [copies * B], copy by copy -> [B].
    """
    if copies == 1:
        return values
    rows = values.view(copies, -1)
    return share * rows.amin(0) + (1 - share) * rows.amax(0)


def patch_weights(mask: torch.Tensor, weights: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Share of hole under each score times the sample's weight: mask [B, 1, H, W], weights [B] -> `shape`."""
    return F.adaptive_avg_pool2d(mask, tuple(shape[-2:])) * weights.view(-1, 1, 1, 1)


def hinge_critic(
    real: torch.Tensor, fake: torch.Tensor, weights: torch.Tensor, fake_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))] over the hidden patches (Lim and Ye 2017, arXiv:1705.02894).
    fake_weights: those of the fakes, where there are more of them than real ones."""
    theirs = weights if fake_weights is None else fake_weights
    return weighted_mean(F.relu(1 - real.float()), weights) + weighted_mean(F.relu(1 + fake.float()), theirs)


def hinge_painter(fake: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """-E[D(fake)] over the hidden patches."""
    return -weighted_mean(fake.float(), weights)


def matching(real: Sequence[torch.Tensor], fake: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """Sum over layers of mean |D_l(fake) - D_l(real)| (pix2pixHD, equation 4), weighted by sample [B]."""
    return weighted_mean(feature_distance(fake, [f.detach() for f in real]), weights)


def variety(features: Sequence[torch.Tensor], copies: int, least: float, weights: torch.Tensor) -> torch.Tensor:
    """max(0, least - distance of two candidates) (mode seeking, Mao et al. 2019, arXiv:1903.05628, with a floor in
    place of a ratio: beyond it nothing is gained). features: of [copies * B] windows; weights [B]; copies >= 2."""
    first = [f.unflatten(0, (copies, -1))[0] for f in features]
    second = [f.unflatten(0, (copies, -1))[1] for f in features]
    return weighted_mean(F.relu(least - unit_distance(first, second)), weights)


def gradient_length(picture: torch.Tensor) -> torch.Tensor:
    """Length of the gradient of the colours' mean by central differences, [B, 3, H, W] -> [B, 1, H - 2, W - 2]."""
    grey = picture.float().mean(1, keepdim=True)
    dx, dy = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    return (dx.square() + dy.square() + 1e-6).sqrt() / 2


def gradient_gap(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """|g(p) - g(t)| / g(t), a number a sample [B]: g is the mean length of the gradient over the hidden pixels. It asks
    for as much detail as there was, wherever it is; critics say which detail. 0 where nothing is hidden."""
    hidden = mask[..., 1:-1, 1:-1]
    area = hidden.sum((1, 2, 3)).clamp(min=1.0)
    p, t = ((gradient_length(x) * hidden).sum((1, 2, 3)) / area for x in (predicted, target))
    return (p - t).abs() / t.clamp(min=0.01) * (hidden.sum((1, 2, 3)) > 0)
