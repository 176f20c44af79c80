"""The GAN family behind one inpainter: one pass, so the fast path; N samples are N latents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from idinpaint.models.conditioning import StageOne
from idinpaint.models.gan import SYSTEMS, GanInputs, generate, needs_landmarks, needs_prior
from idinpaint.models.lafin import landmark_map
from idinpaint.models.tensors import to_uint8
from idinpaint.models.weights import check_finite, first_line, hashes
from idinpaint.painting.base import FillRequest, Parts
from idinpaint.painting.diffusion import crop_tensors
from idinpaint.painting.prior import first_stage
from idinpaint.types import InputError


class GanInpainter:
    """Samples from seeds seed, seed + 1, ...: a sample depends on its own seed only.

    A system without a latent (pconv, encdec, lafin) knows one answer and returns one sample. pipeline: holds the
    stage-one prior, which PD-GAN refines.
    """

    name = "gan"

    def __init__(self, system: str, generator: Any, pipeline: Any, device: str = "cpu") -> None:
        self.system, self.device = system, device
        self.generator, self.pipeline = generator.eval().to(device), pipeline

    @property
    def sees_photos(self) -> bool:
        """As DiffusionInpainter's; only PD-GAN works over the prior."""
        return needs_prior(self.system) and self.pipeline.reference_encoder is not None

    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """See Inpainter."""
        masked_image, mask = crop_tensors(request)
        masked_image, mask = masked_image.to(self.device), mask.to(self.device)
        seeds = [request.seed + i for i in range(request.num_samples)]
        with torch.inference_mode():
            first = first_stage(self.pipeline, request, masked_image, mask) if needs_prior(self.system) else None
            return list(to_uint8(self.paint(masked_image, mask, seeds, request.face.landmarks, first)))

    @torch.inference_mode()
    def paint(
        self,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        seeds: Sequence[int],
        landmarks: np.ndarray | None = None,
        first: StageOne | None = None,
    ) -> torch.Tensor:
        """One picture from each seed, or just one where there is no latent: [S, 3, 256, 256] in [-1, 1].

        masked_image: [1, 3, 256, 256] in [-1, 1], hole zeroed; mask: [1, 1, 256, 256]; landmarks: [68, 2] crop px;
        first: the prior's work, run here without identity and references where it is not given.
        """
        masked_image, mask = masked_image.to(self.device), mask.to(self.device)
        inputs = GanInputs(masked_image, mask)
        if needs_prior(self.system):
            first = first or self.pipeline.first(masked_image, mask)
            fill, features = first.fill, first.features
            # One generator a sample, on the CPU: the same seed gives the same latent on every device.
            width = self.generator.config.z_dim
            z = torch.cat([torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
            parts = [t.expand(len(seeds), -1, -1, -1) for t in (masked_image, mask, fill)]
            levels = [t.expand(len(seeds), -1, -1, -1) for t in features]
            inputs = GanInputs(*parts, z=z.to(self.device), features=levels)
        elif needs_landmarks(self.system):
            if landmarks is None:
                raise ValueError("lafin paints under landmarks; none are given")
            inputs.landmarks = landmark_map(torch.from_numpy(landmarks[None]).float()).to(self.device)
        return generate(self.system, self.generator, inputs).clamp(-1, 1)


def load(parts: Parts) -> GanInpainter:
    """See strategies.py; the generator's hashes are added to the bundle's, since it may come from elsewhere."""
    inpainter = load_gan(parts.generator, parts.bundle.pipeline, parts.device, parts.dtype)
    parts.bundle.weights |= hashes(parts.generator, f"gan/{inpainter.system}")
    return inpainter


def load_gan(folder: Path, pipeline: Any, device: str = "cpu", dtype: torch.dtype = torch.float32) -> GanInpainter:
    """The inpainter of a folder in diffusers' layout; config.json says which system it is. Raises InputError."""
    from diffusers.utils import logging

    logging.disable_progress_bar()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        system = system_of(config)
        generator = SYSTEMS[system].from_pretrained(folder, torch_dtype=dtype, local_files_only=True)
    except Exception as error:  # whatever a damaged file or a foreign config leads diffusers to
        raise InputError(f"{folder}: not a loadable generator ({first_line(error)}); restore the folder") from error
    check_finite(generator.state_dict(), folder)
    return GanInpainter(system, generator, pipeline, device)


def system_of(config: dict[str, Any]) -> str:
    """The system's name of a generator's config.json. Raises KeyError for a class that is none of them."""
    kinds = {kind.__name__: name for name, kind in SYSTEMS.items() if name != "pdgan-face"}
    name = kinds[config["_class_name"]]
    return "pdgan-face" if name == "pdgan" and config["variant"] == "face" else name
