"""IdentityInpaintPipeline: a prior's fill, refined by latent diffusion under landmarks and identity.

The diffusion runs on the residual between the picture's latents and the prior's, per-channel scaled (compare
ResShift, Yue et al. 2023): noise becomes detail and identity, while colour and pose come from the prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import Conditions, build_conditions
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pconv import PConvPrior


@dataclass
class InpaintOutput(BaseOutput):
    """images: [B * num_images_per_prompt, 3, 256, 256] in [-1, 1], known pixels equal to the input's;
    predicted_images: the same before compositing; prior_image: [B, 3, 256, 256], the stage-one fill, if any."""

    images: torch.Tensor
    predicted_images: torch.Tensor
    prior_image: torch.Tensor | None = None


class IdentityInpaintPipeline(DiffusionPipeline):
    """unet, any diffusers scheduler, autoencoder, prior and id_tokens; residual_std: one number a latent channel."""

    model_cpu_offload_seq = "prior->id_tokens->unet->autoencoder"
    _callback_tensor_inputs = ["latents"]

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        autoencoder: FaceAutoencoder,
        prior: PConvPrior,
        id_tokens: IdentityTokens,
        residual_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, autoencoder=autoencoder, prior=prior, id_tokens=id_tokens)
        self.register_to_config(residual_std=list(residual_std or [1.0] * autoencoder.config.latent_channels))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> DiffusionPipeline:
        """As diffusers'; a folder trained from Stable Diffusion comes as IdentitySDInpaintPipeline."""
        index = Path(pretrained_model_name_or_path) / "model_index.json"
        if index.is_file() and '"IdentitySDInpaintPipeline"' in index.read_text(encoding="utf-8"):
            from idinpaint.sd_pipeline import IdentitySDInpaintPipeline

            return IdentitySDInpaintPipeline.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @property
    def id_dim(self) -> int:
        """Numbers in an identity vector."""
        return self.id_tokens.config.id_dim

    @property
    def heatmap_size(self) -> int:
        """Side of the landmark maps, in latent cells."""
        return 32

    @torch.no_grad()
    def __call__(
        self,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        heatmaps: torch.Tensor,
        id_embed: torch.Tensor | None = None,
        num_inference_steps: int = 4,
        guidance_scale: float = 1.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        temperature: float = 1.0,
        callback_on_step_end: Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | None = None,
    ) -> InpaintOutput:
        """Fill the hole.

        masked_image: [B, 3, 256, 256] in [-1, 1] (zeroed under the mask here too); mask: [B, 1, 256, 256],
        1 = hole; heatmaps: [B, K, 32, 32] in [0, 1]; id_embed: [B, D] unit vectors, None or zeros for none.
        guidance_scale: classifier-free guidance on the identity, 1 = off. temperature: factor on the initial
        noise; below 1 trades variety for fidelity. Raises ValueError for a wrong shape.
        """
        self._check(masked_image, mask, heatmaps, num_inference_steps)
        device = self._execution_device
        masked_image, mask = masked_image.to(device).float(), mask.to(device).float()
        if id_embed is None:
            id_embed = masked_image.new_zeros(len(masked_image), self.id_tokens.config.id_dim)
        conditions = build_conditions(self.autoencoder, self.prior, masked_image, mask)
        guided = guidance_scale != 1.0
        tokens = self._tokens(id_embed.to(device).float(), num_images_per_prompt, guided)
        maps = torch.cat([conditions.channels, heatmaps.to(device).float()], 1)
        maps = maps.repeat_interleave(num_images_per_prompt, 0)
        shape = (len(maps), self.autoencoder.config.latent_channels, *maps.shape[-2:])
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        # float32: in half precision the same seed gives other noise.
        latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        latents = latents * temperature * self.scheduler.init_noise_sigma
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            noise_pred = self._predict(latents, maps, tokens, timestep, guidance_scale if guided else None)
            latents = self.scheduler.step(noise_pred, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, int(timestep), {"latents": latents}).get("latents", latents)
        predicted = self._decode(latents, conditions, masked_image, mask, num_images_per_prompt)
        known, hole = (t.repeat_interleave(num_images_per_prompt, 0) for t in (masked_image, mask))
        images = known * (1 - hole) + predicted * hole
        self.maybe_free_model_hooks()
        return InpaintOutput(images=images, predicted_images=predicted, prior_image=conditions.prior_image)

    def _tokens(self, id_embed: torch.Tensor, copies: int, guided: bool) -> torch.Tensor:
        tokens = self.id_tokens(id_embed).repeat_interleave(copies, 0)
        if not guided:
            return tokens
        return torch.cat([self.id_tokens(torch.zeros_like(id_embed)).repeat_interleave(copies, 0), tokens])

    def _predict(
        self, latents: torch.Tensor, maps: torch.Tensor, tokens: torch.Tensor, timestep: Any, guidance: float | None
    ) -> torch.Tensor:
        model_input = torch.cat([self.scheduler.scale_model_input(latents, timestep), maps], 1).to(self.unet.dtype)
        tokens = tokens.to(self.unet.dtype)
        if guidance is None:
            return self.unet(model_input, timestep, tokens).sample.float()
        without, given = self.unet(torch.cat([model_input] * 2), timestep, tokens).sample.float().chunk(2)
        return without + guidance * (given - without)

    def _decode(
        self, latents: torch.Tensor, conditions: Conditions, masked_image: torch.Tensor, mask: torch.Tensor, copies: int
    ) -> torch.Tensor:
        std = torch.tensor(self.config.residual_std, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1)
        prior, touched, masked_image, mask = (
            t.repeat_interleave(copies, 0) for t in (conditions.prior_latents, conditions.touched, masked_image, mask)
        )
        return self.autoencoder.decode(prior + latents * std * touched, masked_image, mask).clamp(-1, 1)

    def _check(self, masked_image: torch.Tensor, mask: torch.Tensor, heatmaps: torch.Tensor, steps: int) -> None:
        b, _, h, w = masked_image.shape
        if mask.shape != (b, 1, h, w):
            raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {(b, 1, h, w)}")
        if h != w or h & (h - 1):
            raise ValueError(f"masked_image is {h} x {w}; its sides must be equal and a power of 2")
        if heatmaps.shape[0] != b or heatmaps.shape[-2:] != (h // 8, w // 8):
            raise ValueError(f"heatmaps have shape {tuple(heatmaps.shape)}, expected {(b, 'K', h // 8, w // 8)}")
        if steps < 1:
            raise ValueError(f"num_inference_steps is {steps}; it must be at least 1")
