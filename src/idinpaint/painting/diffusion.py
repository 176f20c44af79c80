"""The diffusion inpainter, over an IdentityInpaintPipeline."""

from __future__ import annotations

import numpy as np
import torch

from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.points import affine_between
from idinpaint.models.references import own_mirror, reference_input
from idinpaint.models.tensors import draw_heatmaps, to_tensor, to_uint8
from idinpaint.painting.base import MOST_PICTURES, FillRequest, Parts
from idinpaint.painting.chosen_noise import sample_noise
from idinpaint.types import InputError

# Unless the pipeline's own config says another number. By measurement on validation people (LPIPS, hole PSNR,
# identity): one step is best with the bundled weights; more give candidates that differ more, each a little worse.
DEFAULT_STEPS = 1


def crop_tensors(request: FillRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """masked_image [1, 3, 256, 256] in [-1, 1], hole zeroed; mask [1, 1, 256, 256]."""
    mask = torch.from_numpy(request.face.crop_mask[None, None]).float()
    return to_tensor(request.face.crop[None]) * (1 - mask), mask


def picture_tensors(request: FillRequest, masked_image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the reference encoder reads [1, R, 5, 256, 256]: the face's own mirrored half, then up to MOST_PICTURES
    reference photos, all turned to the face's pose by their landmarks."""
    points = torch.from_numpy(np.asarray(request.face.landmarks, np.float32))[None]
    pictures = [own_mirror(masked_image, mask, points)]
    for reference in request.references[:MOST_PICTURES]:
        source = torch.from_numpy(np.asarray(reference.landmarks, np.float32))[None]
        valid = torch.from_numpy(~reference.crop_mask[None, None]).float()
        maps = affine_between(source, points)
        pictures.append(reference_input(to_tensor(reference.crop[None]), valid, maps, 0.0))
    return torch.stack(pictures, 1)


def identity_tensor(request: FillRequest, wanted: int) -> torch.Tensor | None:
    """[1, D], None without an identity. Raises InputError for a vector of another size than the model's."""
    if request.id_embed is None:
        return None
    if len(request.id_embed) != wanted:
        raise InputError(
            f"this model takes identity vectors of {wanted} numbers, the encoder gives {len(request.id_embed)}"
        )
    return torch.from_numpy(np.asarray(request.id_embed, np.float32))[None]


class DiffusionInpainter:
    """N samples from seeds seed, seed + 1, ...: a sample depends on its own seed only (chosen_noise.py).

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
        embed = identity_tensor(request, self.pipeline.id_dim)
        heatmaps = torch.from_numpy(draw_heatmaps(request.face.landmarks[None], self.pipeline.heatmap_size))
        chosen, shape = self.pipeline.config.get("chosen_noise"), self.pipeline.latent_shape
        noise = [sample_noise(shape, request.seed + i, chosen) for i in range(request.num_samples)]
        output = self.pipeline(
            masked_image,
            mask,
            heatmaps,
            embed,
            num_inference_steps=request.steps or self.pipeline.config.get("num_inference_steps", DEFAULT_STEPS),
            num_images_per_prompt=request.num_samples,
            latents=torch.stack(noise) * self.temperature,
            **({} if self.guidance_scale is None else {"guidance_scale": self.guidance_scale}),
            **self._references(request, masked_image, mask),
        )
        return list(to_uint8(output.predicted_images))

    @property
    def sees_photos(self) -> bool:
        """Whether the network looks at the request's references."""
        return getattr(self.pipeline, "reference_encoder", None) is not None

    def _references(
        self, request: FillRequest, masked_image: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        if not self.sees_photos:
            return {}
        return {"references": picture_tensors(request, masked_image, mask)}


def load(parts: Parts) -> DiffusionInpainter:
    """See strategies.py."""
    return DiffusionInpainter(parts.bundle.pipeline)
