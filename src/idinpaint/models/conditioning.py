"""What the diffusion UNet sees beside the noisy latents; one place for training and inference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from idinpaint.models.autoencoder import PATCH, FaceAutoencoder
from idinpaint.models.pconv import PConvPrior


@dataclass
class Conditions:
    """Maps at latent resolution for one batch.

    channels: [B, 2 C + 4, h, w], masked image latents, prior latents and the mask's 2x2 shares a cell;
    prior_latents: [B, C, h, w]; touched: [B, 1, h, w], 1 where the cell holds any hole;
    prior_image: [B, 3, H, W], the prior's fill composited over the known pixels.
    """

    channels: torch.Tensor
    prior_latents: torch.Tensor
    touched: torch.Tensor
    prior_image: torch.Tensor


def build_conditions(
    autoencoder: FaceAutoencoder, prior: PConvPrior, masked_image: torch.Tensor, mask: torch.Tensor
) -> Conditions:
    """masked_image: [B, 3, H, W] in [-1, 1]; mask: [B, 1, H, W], 1 = hole."""
    masked_image = masked_image * (1 - mask)
    prior_image = masked_image + prior(masked_image, mask).clamp(-1, 1) * mask
    prior_latents = autoencoder.encode(prior_image)
    shares = F.pixel_unshuffle(F.avg_pool2d(mask, PATCH // 2), 2)  # (B, 4, h, w)
    channels = torch.cat([autoencoder.encode(masked_image), prior_latents, shares * 2 - 1], 1)
    return Conditions(channels, prior_latents, F.max_pool2d(mask, PATCH), prior_image)
