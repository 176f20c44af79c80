"""Losses as pure functions, one an equation. Images are [B, 3, H, W] in [-1, 1]; masks [B, 1, H, W], 1 = hole."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


def hole_l1(
    predicted: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    known_weight: float = 0.1,
    hole_share: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean |p - t| over hole pixels + known_weight * the same over known pixels (PConv, L_hole and L_valid).

    hole_share: mean of the mask over the whole batch when this is a part of it (else the mask's own mean), so that
    the mean over the parts is the loss of the whole batch.
    """
    error = (predicted - target).abs()
    share = mask.mean() if hole_share is None else hole_share
    one = 1 / mask.numel()  # a batch without a hole (or without known pixels) divides by one pixel, not by zero
    hole = (error * mask).mean() / share.clamp(min=one)
    return hole + known_weight * (error * (1 - mask)).mean() / (1 - share).clamp(min=one)


def skin_l1(
    predicted: torch.Tensor, target: torch.Tensor, skin_mask: torch.Tensor, skin_share: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean |G - G_t| over the skin's pixels (the PD-GAN face variant's L_mask, made independent of the skin's size).

    skin_mask: [B, 1, H, W] in {0, 1}; 0 when there is no skin. skin_share: as hole_l1's hole_share.
    """
    share = skin_mask.mean() if skin_share is None else skin_share
    return ((predicted - target).abs() * skin_mask).mean() / share.clamp(min=1 / skin_mask.numel())


def heatmap_loss(maps: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(1/N) sum over the N landmarks and all cells of (M' - M)^2, mean over the batch (the PD-GAN face variant).

    maps, target: [B, N, h, w], each map a distribution over the cells, so that the loss lies in [0, 2].
    """
    return (maps - target).square().sum((2, 3)).mean()


def relative_heatmap_loss(logits: torch.Tensor, target_logits: torch.Tensor) -> torch.Tensor:
    """heatmap_loss of a landmark network's softmax maps, in units of the target's peak.

    logits: [B, N, h, w] on output and ground truth. A certain landmark's map then peaks at 1, as a drawn Gaussian does.
    """
    target = target_logits.detach().float().flatten(2).softmax(-1).view_as(target_logits)
    peak = target.amax((2, 3), keepdim=True)
    return heatmap_loss(logits.float().flatten(2).softmax(-1).view_as(target) / peak, target / peak)


def heatmap_cross_entropy(logits: torch.Tensor, points: torch.Tensor, sigma: float = 1.0) -> torch.Tensor:
    """Cross entropy between softmax maps and Gaussians of `sigma` cells round the points.

    logits: [B, K, h, w]; points: [B, K, 2] (x, y) in cells -> mean over B and K, points outside the map giving 0
    (not a mean over the points inside: their number differs between the parts of a split batch).
    """
    b, k, h, w = logits.shape
    xs = torch.arange(w, device=logits.device)
    ys = torch.arange(h, device=logits.device)
    gx = torch.exp(-((xs - points[..., :1]) ** 2) / (2 * sigma**2))  # (B, K, w)
    gy = torch.exp(-((ys - points[..., 1:]) ** 2) / (2 * sigma**2))
    target = (gy[..., :, None] * gx[..., None, :]).flatten(2)  # (B, K, h w)
    total = target.sum(-1, keepdim=True)
    inside = (points >= 0).all(-1) & (points[..., 0] <= w - 1) & (points[..., 1] <= h - 1)
    loss = -(target / total.clamp(min=1e-6) * logits.flatten(2).float().log_softmax(-1)).sum(-1)
    return (loss * inside).mean()


def identity_loss(embed: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - cosine, averaged over the batch (ArcFace embeddings [B, D])."""
    return 1 - F.cosine_similarity(embed, target, dim=-1).mean()


def min_snr_weight(alphas_cumprod: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """Min-SNR weights (Hang et al. 2023, arXiv:2303.09556): epsilon min(g/SNR, 1); v min(SNR, g)/(SNR + 1)."""
    snr = alphas_cumprod / (1 - alphas_cumprod)
    clipped = snr.clamp(max=gamma)
    return clipped / snr if prediction_type == "epsilon" else clipped / (snr + 1)


class AlexFeatures(nn.Module):
    """Frozen AlexNet `features` up to conv5, unit-normalised maps (torchvision's file layout; Krizhevsky 2012)."""

    STD = (0.229, 0.224, 0.225)
    MEAN = (0.485, 0.456, 0.406)

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 64, 11, 4, 2),
                "3": nn.Conv2d(64, 192, 5, padding=2),
                "6": nn.Conv2d(192, 384, 3, padding=1),
                "8": nn.Conv2d(384, 256, 3, padding=1),
                "10": nn.Conv2d(256, 256, 3, padding=1),
            }
        )
        state = torch.load(path, weights_only=True)
        self.layers.load_state_dict({key.removeprefix("features."): value for key, value in state.items()})
        self.requires_grad_(False)
        self.register_buffer("shift", torch.tensor(self.MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(self.STD).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = ((image + 1) / 2 - self.shift) / self.scale
        maps = []
        for name, layer in self.layers.items():
            if name in ("3", "6"):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(layer(x))
            maps.append(x / (x.float().square().sum(1, keepdim=True).sqrt() + 1e-6).to(x.dtype))
        return maps


def perceptual_loss(features: AlexFeatures, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum over layers of the mean squared distance of unit-normalised features (Zhang et al. 2018, w = 1)."""
    with torch.no_grad():
        goal = features(target)
    return sum((a.float() - b.float()).square().sum(1).mean() for a, b in zip(features(predicted), goal, strict=True))
