"""The diffusion recipe's losses in pixels: what is decoded must look like the photo and be the person."""

from __future__ import annotations

import torch
from diffusion_config import DiffusionConfig
from engine import Batch
from equations.gan import VGGFeatures, vgg_l1
from equations.pictures import AlexFeatures, hole_l1, perceptual_loss, skin_l1
from example_pool import ExamplePool
from identity_faces import IdentityTerm, heatmap_term


class PixelLoss:
    """Losses on the decoded one-step prediction, weighted by the config; called with the batch, mask and pixels."""

    def __init__(
        self, config: DiffusionConfig, pool: ExamplePool, features: AlexFeatures, device: torch.device
    ) -> None:
        self.config, self.landmarker, self.features = config, pool.faces.landmarker, features.to(device)
        self.vgg = VGGFeatures(config.vgg, config.vgg_layers).to(device) if config.vgg_weight else None
        self.identity_of = IdentityTerm.of(config, device)

    def __call__(
        self, batch: Batch, mask: torch.Tensor, pixels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weighted sum, and each term by name. mask, pixels: [n, 1 or 3, H, W] of the decoded windows."""
        config, image = self.config, batch["window_image"]
        inpainted = image * (1 - mask) + pixels * mask
        terms = {
            "l1": hole_l1(pixels, image, mask, hole_share=batch["mean_window_mask"]),
            "perceptual": perceptual_loss(self.features, inpainted, image),
        }
        loss = config.pixel_weight * (terms["l1"] + config.perceptual_weight * terms["perceptual"])
        if self.vgg is not None:
            terms["vgg"] = vgg_l1(self.vgg, inpainted[: config.vgg_samples], image[: config.vgg_samples])
            loss = loss + config.pixel_weight * config.vgg_weight * terms["vgg"]
        if config.skin_weight:
            terms["skin"] = skin_l1(inpainted, image, batch["window_skin"], batch["mean_window_skin"])
            loss = loss + config.skin_weight * terms["skin"]
        if config.heatmap_weight:
            terms["heatmap"] = heatmap_term(self.landmarker, inpainted, image)
            loss = loss + config.heatmap_weight * terms["heatmap"]
        if self.identity_of is not None:
            terms["identity"] = self.identity_of(inpainted, image)
            loss = loss + config.identity_weight * terms["identity"]
        return loss, terms
