"""The generator's and the discriminator's loss of a GAN recipe, put together from its weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from engine import Batch, Terms
from equations.gan import (
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
from equations.pictures import AlexFeatures, heatmap_loss, hole_l1, perceptual_loss, skin_l1
from gan_examples import GanConfig, windows
from identity_faces import IdentityTerm
from network_files import load_frozen
from torch import nn
from trainer import Networks

from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.gan import GanInputs, generate


def paint(system: str, generator: nn.Module, batch: Batch, second: int) -> torch.Tensor:
    """The generator's pictures of the batch [B, 3, 256, 256], then its first `second` again from their other latent."""
    parts = {"masked_image": batch["image"] * (1 - batch["mask"]), "mask": batch["mask"]}
    if "prior" in batch:
        parts["prior_image"] = batch["prior"]
    if "landmarks" in batch:
        parts["landmarks"] = batch["landmarks"]
    first, other = batch["z"]
    inputs = {name: torch.cat([value, value[:second]]) for name, value in parts.items()}
    levels = sorted(name for name in batch if name.startswith("features"))
    if levels:
        inputs["features"] = [torch.cat([batch[name], batch[name][:second]]) for name in levels]
    return generate(system, generator, GanInputs(**inputs, z=torch.cat([first, other[:second]])))


class GanLosses:
    """Holds the frozen networks that the recipe's weights ask for; what `train_networks` calls for the losses."""

    def __init__(self, config: GanConfig, device: torch.device) -> None:
        self.config = config
        self.alex = AlexFeatures(config.alex).to(device)  # the validation reads it too
        needs_vgg = config.vgg_weight or config.style_weight
        self.vgg = VGGFeatures(config.vgg, config.vgg_layers).to(device) if needs_vgg else None
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device) if config.heatmap_weight else None
        self.identity = IdentityTerm.of(config, device)

    def __call__(self, networks: Networks, batch: Batch, step: int) -> Iterator[tuple[str, torch.Tensor, Terms]]:
        """The discriminator's loss (where the recipe has one), then the generator's."""
        config, discriminator = self.config, networks["discriminator"]
        painted = paint(config.system, networks["generator"], batch, self.second_samples())
        image, mask = batch["image"], batch["mask"]
        inpainted = image * (1 - mask) + painted[: len(image)] * mask
        condition = torch.cat([mask * 2 - 1, *([batch["landmarks"]] if "landmarks" in batch else [])], 1)
        looked_at = [windows(x, batch["corner"], config.window) for x in (inpainted, image, condition)]
        if config.adversarial_weight:
            yield "discriminator", self.of_discriminator(discriminator, looked_at), {}
        discriminator.requires_grad_(False)
        yield "generator", *self.of_generator(discriminator, batch, painted, inpainted, looked_at)
        discriminator.requires_grad_(True)

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
    ) -> tuple[torch.Tensor, Terms]:
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
        return sum(w * t for w, t in terms.values()), {name: t for name, (_, t) in terms.items()}

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
