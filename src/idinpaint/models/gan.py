"""The GAN family by name, and what each generator is given; one place for training and inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from idinpaint.models.encdec import EncoderDecoder
from idinpaint.models.lafin import LaFInGenerator
from idinpaint.models.pconv import PConvPrior
from idinpaint.models.pdgan import PDGANGenerator

SYSTEMS: dict[str, type] = {
    "pconv": PConvPrior,
    "pdgan": PDGANGenerator,
    "pdgan-face": PDGANGenerator,
    "encdec": EncoderDecoder,
    "lafin": LaFInGenerator,
}


@dataclass
class GanInputs:
    """masked_image [B, 3, 256, 256] in [-1, 1], hole zeroed; mask [B, 1, 256, 256], 1 = hole; prior_image like
    masked_image and z [B, z_dim] for PD-GAN; landmarks [B, 1, 256, 256], a landmark_map, for LaFIn."""

    masked_image: torch.Tensor
    mask: torch.Tensor
    prior_image: torch.Tensor | None = None
    z: torch.Tensor | None = None
    landmarks: torch.Tensor | None = None
    features: list[torch.Tensor] | None = None  # of PConvPrior.fill, for a PD-GAN with prior_features


def needs_prior(system: str) -> bool:
    """Whether the generator refines the stage-one prior's picture, under a latent."""
    return SYSTEMS[system] is PDGANGenerator


def needs_landmarks(system: str) -> bool:
    """Whether generator and discriminator are given the predicted landmarks."""
    return SYSTEMS[system] is LaFInGenerator


def generator_config(generator: nn.Module) -> dict[str, Any]:
    """The generator's config, also where accelerate has wrapped it."""
    return dict(getattr(generator, "module", generator).config)


def generate(system: str, generator: nn.Module, inputs: GanInputs) -> torch.Tensor:
    """The generator's picture [B, 3, 256, 256], before compositing. Raises ValueError when an input is missing."""
    extra: tuple[torch.Tensor | None, ...] = ()
    if needs_prior(system):
        extra = (inputs.prior_image, inputs.z)
        if generator_config(generator).get("prior_features"):
            extra = (*extra, inputs.features)
    elif needs_landmarks(system):
        extra = (inputs.landmarks,)
    if any(part is None for part in extra):
        wanted = "prior_image and z, and features where it was built for them" if needs_prior(system) else "landmarks"
        raise ValueError(f"{system} needs {wanted}")
    return generator(inputs.masked_image, inputs.mask, *extra)
