"""What the diffusion UNet sees beside the noisy latents; one place for training and inference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from idinpaint.models.autoencoder import PATCH, FaceAutoencoder
from idinpaint.models.pconv import PConvPrior
from idinpaint.models.references import ReferenceEncoder


@dataclass
class Conditions:
    """Maps at latent resolution for one batch.

    channels: [B, 2 C + 4, h, w], masked image latents, prior latents and the mask's 2x2 shares a cell;
    prior_latents: [B, C, h, w]; touched: [B, 1, h, w], 1 where the cell holds any hole;
    prior_image: [B, 3, H, W], the prior's fill composited over the known pixels; prior_features: [B, C', H/2, W/2],
    its finest features; added: for the UNet's down blocks, from reference pictures, None without.
    """

    channels: torch.Tensor
    prior_latents: torch.Tensor
    touched: torch.Tensor
    prior_image: torch.Tensor
    prior_features: torch.Tensor
    added: list[torch.Tensor] | None = None


@dataclass
class StageOne:
    """What the prior makes of a batch: fill [B, 3, H, W] in [-1, 1] before compositing; features: the decoder's,
    coarsest first; levels: the reference encoder's, None without references."""

    fill: torch.Tensor
    features: list[torch.Tensor]
    levels: list[torch.Tensor] | None = None


def stage_one(
    prior: PConvPrior,
    masked_image: torch.Tensor,
    mask: torch.Tensor,
    id_embed: torch.Tensor | None = None,
    reference_encoder: ReferenceEncoder | None = None,
    references: torch.Tensor | None = None,
) -> StageOne:
    """Run the prior under the identity and the reference pictures; the arguments as in `build_conditions`."""
    levels = None
    if reference_encoder is not None and references is not None:
        levels = reference_encoder(references.to(mask.device, reference_encoder.dtype))
    fill, features = prior.fill(masked_image, mask, id_embed, levels)
    return StageOne(fill.clamp(-1, 1), features, levels)


def build_conditions(
    autoencoder: FaceAutoencoder,
    first: StageOne,
    masked_image: torch.Tensor,
    mask: torch.Tensor,
    reference_encoder: ReferenceEncoder | None = None,
) -> Conditions:
    """masked_image: [B, 3, H, W] in [-1, 1]; mask: [B, 1, H, W], 1 = hole; first: the prior's work.

    With a reference encoder `channels` ends with its map [B, unet_channels, h, w], zeros without references.
    """
    masked_image = masked_image * (1 - mask)
    prior_image = masked_image + first.fill.to(masked_image.dtype) * mask
    prior_latents = autoencoder.encode(prior_image)
    shares = F.pixel_unshuffle(F.avg_pool2d(mask, PATCH // 2), 2)  # (B, 4, h, w)
    channels = [autoencoder.encode(masked_image), prior_latents, shares * 2 - 1]
    added = None
    if reference_encoder is not None:
        if first.levels is not None:
            at_input, added = reference_encoder.for_unet(first.levels)
        else:
            at_input = shares.new_zeros(len(mask), reference_encoder.config.unet_channels, *shares.shape[-2:])
        channels.append(at_input.to(prior_latents.dtype))
    touched = F.max_pool2d(mask, PATCH)
    return Conditions(torch.cat(channels, 1), prior_latents, touched, prior_image, first.features[-1], added)
