"""The pipeline's stage-one prior alone: an inpainter, and what the GAN refines."""

from __future__ import annotations

import numpy as np
import torch

from idinpaint.models.conditioning import StageOne
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.tensors import to_uint8
from idinpaint.painting.base import FillRequest, Parts
from idinpaint.painting.diffusion import crop_tensors, identity_tensor, picture_tensors


class PriorInpainter:
    """The stage-one prior alone: one deterministic coarse fill."""

    name = "prior"

    def __init__(self, pipeline: IdentityInpaintPipeline) -> None:
        self.pipeline = pipeline

    @property
    def sees_photos(self) -> bool:
        """As DiffusionInpainter's."""
        return self.pipeline.reference_encoder is not None

    @torch.no_grad()
    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """See Inpainter."""
        masked_image, mask = crop_tensors(request)
        device = self.pipeline._execution_device  # also where diffusers keeps the weights elsewhere
        return list(to_uint8(first_stage(self.pipeline, request, masked_image.to(device), mask.to(device)).fill))


def first_stage(
    pipeline: IdentityInpaintPipeline, request: FillRequest, masked_image: torch.Tensor, mask: torch.Tensor
) -> StageOne:
    """The prior's work under the request's identity and pictures; masked_image and mask as of `crop_tensors`."""
    embed = identity_tensor(request, pipeline.id_dim)
    pictures = None
    if pipeline.reference_encoder is not None:
        pictures = picture_tensors(request, masked_image.cpu(), mask.cpu())
    return pipeline.first(masked_image, mask, None if embed is None else embed.to(mask.device), pictures)


def load(parts: Parts) -> PriorInpainter:
    """See strategies.py."""
    return PriorInpainter(parts.bundle.pipeline)
