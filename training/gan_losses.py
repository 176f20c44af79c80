"""The generator's and the discriminator's loss of a GAN recipe, put together from its weights."""

from __future__ import annotations

import torch
from engine import Batch
from gan_examples import GanConfig, windows
from identity_terms import IdentityTerm, load_frozen
from torch import nn

from idinpaint.losses.gan import (
    Scores,
    VGGFeatures,
    feature_l1,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
    perceptual_diversity,
    style_loss,
    total_variation,
)
from idinpaint.losses.pictures import AlexFeatures, heatmap_loss, hole_l1, perceptual_loss, skin_l1
from idinpaint.models.face_maps import FaceMaps


class GanLosses:
    """Holds the frozen networks that the recipe's weights ask for."""

    def __init__(self, config: GanConfig, device: torch.device) -> None:
        self.config = config
        self.alex = AlexFeatures(config.alex).to(device)  # the validation reads it too
        needs_vgg = config.vgg_weight or config.style_weight
        self.vgg = VGGFeatures(config.vgg, config.vgg_layers).to(device) if needs_vgg else None
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device) if config.heatmap_weight else None
        self.identity = None
        if config.identity_weight:
            self.identity = IdentityTerm(config.landmarks, config.identity, config.identity_teacher, device)

    def of_discriminator(self, discriminator: nn.Module, looked_at: list[torch.Tensor]) -> torch.Tensor:
        """looked_at: windows of the inpainted and the true picture, and of the condition (mask in -1, 1; landmarks)."""
        inpainted, image, condition = looked_at
        real, fake = _judge(discriminator, image, inpainted.detach(), condition)
        kind = least_squares_discriminator if self.config.adversarial_kind == "least_squares" else hinge_discriminator
        return kind(real, fake)

    def of_generator(
        self,
        discriminator: nn.Module,
        batch: Batch,
        painted: torch.Tensor,
        inpainted: torch.Tensor,
        looked_at: list[torch.Tensor],
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """painted: the batch's pictures and then the second ones of its first examples; inpainted: composited."""
        config = self.config
        image, mask = batch["image"], batch["mask"]
        terms = {"l1": (config.l1_weight, hole_l1(painted[: len(image)], image, mask, config.known_weight))}
        if config.teacher_weight:
            taught = hole_l1(painted[: len(image)], batch["teacher"], mask, 0.0)
            terms["teacher"] = (config.teacher_weight, taught)
        seen, true, condition = looked_at
        if config.perceptual_weight:
            terms["perceptual"] = (config.perceptual_weight, perceptual_loss(self.alex, seen, true))
        if self.vgg is not None:
            with torch.no_grad():
                goal = self.vgg(true)
            features = self.vgg(seen)
            terms["vgg"] = (config.vgg_weight, feature_l1(features, goal))
            terms["style"] = (config.style_weight, style_loss(features, goal))
        if config.tv_weight:
            terms["tv"] = (config.tv_weight, total_variation(seen, (condition[:, :1] + 1) / 2))
        if config.adversarial_weight:
            real, fake = _judge(discriminator, true, seen, condition)
            kind = least_squares_generator if config.adversarial_kind == "least_squares" else hinge_generator
            terms["adversarial"] = (config.adversarial_weight, kind(fake))
            terms["matching"] = (config.feature_matching_weight, feature_matching(real, fake))
        if config.diversity_weight:
            terms["diversity"] = (config.diversity_weight, self._diversity(batch, painted))
        if config.skin_weight:
            terms["skin"] = (config.skin_weight, skin_l1(painted[: len(image)], image, batch["skin"]))
        if config.heatmap_weight:
            n = config.heatmap_samples
            terms["heatmap"] = (config.heatmap_weight, self._heatmap(inpainted[:n], image[:n]))
        if self.identity is not None:
            n = config.identity_samples
            terms["identity"] = (config.identity_weight, self.identity(inpainted[:n], image[:n]))
        return sum(w * t for w, t in terms.values()), {name: float(t.detach()) for name, (_, t) in terms.items()}

    def _diversity(self, batch: Batch, painted: torch.Tensor) -> torch.Tensor:
        count = len(batch["image"])
        second = len(painted) - count
        corners, size = batch["corner"][:second], self.config.window
        hole = windows(batch["mask"][:second], corners, size)
        pair = [windows(x, corners, size) * hole for x in (painted[:second], painted[count:])]
        features = self.alex(torch.cat(pair))
        return perceptual_diversity(
            [f[:second] for f in features], [f[second:] for f in features], self.config.diversity_eps
        )

    def _heatmap(self, inpainted: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        nothing = torch.zeros_like(image[:, :1])

        def maps(x: torch.Tensor) -> torch.Tensor:
            logits = self.landmarker(x, nothing).float()
            return logits.flatten(2).softmax(-1).view_as(logits)

        with torch.no_grad():
            goal = maps(image)
        return heatmap_loss(maps(inpainted), goal)

    def second_samples(self) -> int:
        """How many examples of a batch are painted from a second latent."""
        return self.config.diversity_samples if self.config.diversity_weight else 0

    @torch.no_grad()
    def distance(self, inpainted: torch.Tensor, image: torch.Tensor) -> float:
        """AlexNet distance of whole pictures, mean over them; for the validation."""
        pairs = zip(inpainted.split(8), image.split(8), strict=True)
        values = [perceptual_loss(self.alex, a, b) * len(a) for a, b in pairs]
        return float(sum(values) / len(image))


def _judge(
    discriminator: nn.Module, real: torch.Tensor, fake: torch.Tensor, condition: torch.Tensor
) -> tuple[Scores, Scores]:
    """The discriminator's outputs for the real and for the fake pictures, seen in one batch."""
    outputs = discriminator(torch.cat([torch.cat([real, fake]), torch.cat([condition, condition])], 1))
    half = len(real)
    return [[f[:half] for f in scale] for scale in outputs], [[f[half:] for f in scale] for scale in outputs]
