"""IdentitySDInpaintPipeline: Stable Diffusion inpainting under landmarks and identity.

Called as IdentityInpaintPipeline is, so that the diffusion inpainter uses either; the text prompt stays usable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from idinpaint.diffusion_pipeline import InpaintOutput
from idinpaint.models.sd_base import IdentityUNet, condition_maps, working_size
from idinpaint.types import InputError

BASES = ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline")
NEUTRAL_PROMPT = "a portrait photo of a person"


class IdentitySDInpaintPipeline(StableDiffusionInpaintPipeline):
    """Stable Diffusion's parts with an IdentityUNet. No safety checker: the picture is the user's own.

    resolution: px, side at which the crop is painted; prompt, num_inference_steps, guidance_scale: the defaults of a
    call.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: Any,
        tokenizer: Any,
        unet: IdentityUNet,
        scheduler: SchedulerMixin,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        requires_safety_checker: bool = False,
        resolution: int = 512,
        prompt: str = NEUTRAL_PROMPT,
        num_inference_steps: int = 20,
        guidance_scale: float = 1.0,
    ) -> None:
        super().__init__(
            vae, text_encoder, tokenizer, unet, scheduler, None, feature_extractor, image_encoder, False
        )  # fmt: skip
        self.register_to_config(
            resolution=resolution, prompt=prompt, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale
        )

    @classmethod
    def from_base(
        cls, name_or_path: str, revision: str | None = None, variant: str | None = None, **settings: Any
    ) -> IdentitySDInpaintPipeline:
        """A Stable Diffusion 1.x or 2.x checkpoint, inpainting or text-to-image, by hub id or folder, float32.

        settings: resolution, prompt and the like. The UNet is as loaded: call `unet.add_conditions` next.
        Raises InputError when the hub does not give it or the folder is not such a pipeline.
        """
        where = {"revision": revision, "variant": variant}
        try:
            kind = cls.load_config(name_or_path, revision=revision).get("_class_name")
        except Exception as error:  # the hub's client raises a dozen kinds
            raise InputError(
                f"{name_or_path}: no Stable Diffusion pipeline there ({_first_line(error)}); give a folder with a "
                "model_index.json, or a hub id with the network reachable or the snapshot in the local cache"
            ) from error
        if kind not in BASES:
            raise InputError(f"{name_or_path}: is a {kind}; the base must be one of {', '.join(BASES)}")
        try:
            unet = IdentityUNet.from_pretrained(name_or_path, subfolder="unet", **where)
            base = StableDiffusionInpaintPipeline.from_pretrained(
                name_or_path, unet=unet, safety_checker=None, requires_safety_checker=False, **where
            )
        except Exception as error:  # as do diffusers and transformers
            raise InputError(f"{name_or_path}: the pipeline there cannot be loaded ({_first_line(error)})") from error
        parts = {name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
        return cls(**parts, **settings)

    @property
    def id_dim(self) -> int:
        """Numbers in an identity vector."""
        return self.unet.config.id_dim

    @property
    def heatmap_size(self) -> int:
        """Side of the landmark maps, in latent cells."""
        return self.config.resolution // self.vae_scale_factor

    @torch.no_grad()
    def __call__(
        self,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        heatmaps: torch.Tensor | None = None,
        id_embed: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        temperature: float = 1.0,
        callback_on_step_end: Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | None = None,
        prompt: str | None = None,
        negative_prompt: str = "",
    ) -> InpaintOutput:
        """Fill the hole.

        masked_image: [B, 3, H, H] in [-1, 1] (zeroed under the mask here too); mask: [B, 1, H, H], 1 = hole;
        heatmaps: [B, K, *, *] in [0, 1] or None; id_embed: [B, D] unit vectors, None or zeros for none.
        guidance_scale: classifier-free guidance on prompt and identity, 1 = off. temperature: factor on the initial
        noise. The images have the input's size. Raises ValueError for a wrong shape.
        """
        b, size, copies = len(masked_image), masked_image.shape[-1], num_images_per_prompt
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        self._check(masked_image, mask, heatmaps, steps)
        device = self._execution_device
        known, hole = masked_image.to(device).float(), mask.to(device).float()
        large, large_mask = working_size(known, hole, self.config.resolution)
        if heatmaps is None:
            heatmaps = known.new_zeros(b, self.unet.config.heatmap_channels, self.heatmap_size, self.heatmap_size)
        if id_embed is None:
            id_embed = known.new_zeros(b, self.id_dim)
        maps = condition_maps(self.vae, large, large_mask, heatmaps.to(device).float()).repeat_interleave(copies, 0)
        embeds = id_embed.to(device).float().repeat_interleave(copies, 0)
        text, empty = self.encode_prompt(
            [self.config.prompt if prompt is None else prompt] * b, device, copies, guidance != 1.0,
            [negative_prompt] * b,
        )  # fmt: skip
        self.scheduler.set_timesteps(steps, device=device)
        shape = (len(maps), 4, *maps.shape[-2:])
        latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        latents = latents * temperature * self.scheduler.init_noise_sigma
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            inputs = self.scheduler.scale_model_input(latents, timestep)
            noise_pred = self.unet.predict(inputs, maps, timestep, text, embeds)
            if guidance != 1.0:
                without = self.unet.predict(inputs, maps, timestep, empty, torch.zeros_like(embeds))
                noise_pred = without + guidance * (noise_pred - without)
            latents = self.scheduler.step(noise_pred, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, int(timestep), {"latents": latents}).get("latents", latents)
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        decoded = self.vae.decode(latents).sample.float()
        if decoded.shape[-1] != size:
            decoded = F.interpolate(decoded, size=(size, size), mode="bilinear", antialias=True)
        predicted = decoded.clamp(-1, 1)
        known, hole = (t.repeat_interleave(copies, 0) for t in (known, hole))
        self.maybe_free_model_hooks()
        return InpaintOutput(images=known * (1 - hole) + predicted * hole, predicted_images=predicted)

    def _check(self, masked_image: torch.Tensor, mask: torch.Tensor, heatmaps: torch.Tensor | None, steps: int) -> None:
        b, _, h, w = masked_image.shape
        if mask.shape != (b, 1, h, w) or h != w:
            raise ValueError(f"masked_image is {h} x {w}, mask {tuple(mask.shape)}; expected a square and its mask")
        wanted = self.unet.config.heatmap_channels
        if heatmaps is not None and heatmaps.shape[:2] != (b, wanted):
            raise ValueError(f"heatmaps have shape {tuple(heatmaps.shape)}, expected {(b, wanted, 'h', 'w')}")
        if steps < 1:
            raise ValueError(f"num_inference_steps is {steps}; it must be at least 1")


def _first_line(error: BaseException) -> str:
    """Of the first cause: `Name or service not known` says more than what follows from it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
