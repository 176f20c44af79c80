"""The diffusion inpainter and its stage-one prior, over one IdentityInpaintPipeline."""

from __future__ import annotations

import numpy as np
import torch

from idinpaint.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.inpainters.base import FillRequest
from idinpaint.tensors import draw_heatmaps, to_tensor, to_uint8
from idinpaint.types import InputError

# Unless the pipeline's own config says another number. By measurement on validation people (LPIPS, hole PSNR,
# identity): one step is best with the bundled weights; more give candidates that differ more, each a little worse.
DEFAULT_STEPS = 1


def crop_tensors(request: FillRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """masked_image [1, 3, 256, 256] in [-1, 1], hole zeroed; mask [1, 1, 256, 256]."""
    mask = torch.from_numpy(request.face.crop_mask[None, None]).float()
    return to_tensor(request.face.crop[None]) * (1 - mask), mask


class DiffusionInpainter:
    """N samples from seeds seed, seed + 1, ...: a sample depends on its own seed only.

    guidance_scale: of the identity, None for the pipeline's own default.
    """

    name = "diffusion"
    guidance_scale: float | None = None

    def __init__(self, pipeline: IdentityInpaintPipeline, temperature: float = 1.0) -> None:
        self.pipeline, self.temperature = pipeline, temperature
        pipeline.set_progress_bar_config(disable=True)

    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """See Inpainter."""
        masked_image, mask = crop_tensors(request)
        wanted = self.pipeline.id_dim
        if request.id_embed is not None and len(request.id_embed) != wanted:
            raise InputError(
                f"this model takes identity vectors of {wanted} numbers, the encoder gives {len(request.id_embed)}"
            )
        heatmaps = torch.from_numpy(draw_heatmaps(request.face.landmarks[None], self.pipeline.heatmap_size))
        embed = None if request.id_embed is None else torch.from_numpy(np.asarray(request.id_embed, np.float32))[None]
        # One generator a sample, on the CPU: the same seed gives the same noise on every device.
        generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.num_samples)]
        output = self.pipeline(
            masked_image,
            mask,
            heatmaps,
            embed,
            num_inference_steps=request.steps or self.pipeline.config.get("num_inference_steps", DEFAULT_STEPS),
            num_images_per_prompt=request.num_samples,
            generator=generators,
            temperature=self.temperature,
            **({} if self.guidance_scale is None else {"guidance_scale": self.guidance_scale}),
        )
        return list(to_uint8(output.predicted_images))


class PriorInpainter:
    """The stage-one prior alone: one deterministic coarse fill."""

    name = "prior"

    def __init__(self, pipeline: IdentityInpaintPipeline) -> None:
        self.pipeline = pipeline

    @torch.no_grad()
    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """See Inpainter."""
        masked_image, mask = crop_tensors(request)
        device = self.pipeline._execution_device  # also where diffusers keeps the weights elsewhere
        return list(to_uint8(self.pipeline.prior(masked_image.to(device), mask.to(device))))
