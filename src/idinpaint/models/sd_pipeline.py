"""IdentitySDInpaintPipeline: Stable Diffusion inpainting under landmarks and identity.

Called as IdentityInpaintPipeline is, so that the diffusion inpainter uses either; the text prompt stays usable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from idinpaint.models.pipeline_inputs import (
    InpaintOutput,
    StepEnd,
    begin,
    delivered,
    read_picture,
    starting_noise,
    write_pipeline_file,
)
from idinpaint.models.sd_base import IdentityUNet, condition_maps, working_size
from idinpaint.types import InputError

BASES = ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline")
NEUTRAL_PROMPT = "a portrait photo of a person"


class IdentitySDInpaintPipeline(StableDiffusionInpaintPipeline):
    """Stable Diffusion's parts with an IdentityUNet. No safety checker: the picture is the user's own.

    resolution: px, side at which the crop is painted; prompt, num_inference_steps, guidance_scale: the defaults of a
    call.
    """

    _callback_tensor_inputs = ["latents", "prompt_embeds", "negative_prompt_embeds"]

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

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """[C, h, w] of a picture's latents."""
        return (4, self.heatmap_size, self.heatmap_size)

    @property
    def components(self) -> dict[str, Any]:
        """What a second pipeline is made of, the defaults of a call among it."""
        names = ("resolution", "prompt", "num_inference_steps", "guidance_scale")
        return {**super().components, **{name: self.config[name] for name in names}}

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """As diffusers', and pipeline.py, by which DiffusionPipeline.from_pretrained finds this class."""
        super().save_pretrained(save_directory, **kwargs)
        write_pipeline_file(self, save_directory)

    @torch.no_grad()
    def __call__(
        self,
        masked_image: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        heatmaps: torch.Tensor | None = None,
        id_embed: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        temperature: float = 1.0,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        prompt: str | None = None,
        negative_prompt: str = "",
        image: Any = None,
        mask_image: Any = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
    ) -> InpaintOutput | tuple[Any, ...]:
        """Fill the hole.

        image, mask_image or masked_image, mask, output_type, timesteps, latents, callbacks: as IdentityInpaintPipeline
        takes them; heatmaps: [B, K, *, *] in [0, 1] or None; id_embed: [B, D] unit vectors, None or zeros for none.
        guidance_scale: classifier-free guidance on prompt and identity, 1 = off. temperature: factor on the drawn
        noise. The images have the input's size. There is no `strength`: what lies in the hole is not read, so there
        is nothing to start from. Raises ValueError for a wrong shape or name.
        """
        device, copies = self._execution_device, num_images_per_prompt
        picture = read_picture(image, mask_image, masked_image, mask, output_type, device)
        steps_end = StepEnd(self, callback_on_step_end, callback_on_step_end_tensor_inputs)
        steps = self.config.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance = self.config.guidance_scale if guidance_scale is None else guidance_scale
        self._guidance_scale, self._interrupt = guidance, False
        times = begin(self.scheduler, steps, timesteps, sigmas, device)
        known, hole = working_size(picture.known, picture.hole, self.config.resolution)
        b, wanted = len(known), self.unet.config.heatmap_channels
        if heatmaps is None:
            heatmaps = known.new_zeros(b, wanted, self.heatmap_size, self.heatmap_size)
        if heatmaps.shape[:2] != (b, wanted):
            raise ValueError(f"heatmaps have shape {tuple(heatmaps.shape)}, expected {(b, wanted, 'h', 'w')}")
        if id_embed is None:
            id_embed = known.new_zeros(b, self.id_dim)
        maps = condition_maps(self.vae, known, hole, heatmaps.to(device).float()).repeat_interleave(copies, 0)
        embeds = id_embed.to(device).float().repeat_interleave(copies, 0)
        text, empty = self.encode_prompt(
            [self.config.prompt if prompt is None else prompt] * b, device, copies, guidance != 1.0,
            [negative_prompt] * b,
        )  # fmt: skip
        shape = (len(maps), *self.latent_shape)
        latents = starting_noise(shape, latents, generator, temperature, device) * self.scheduler.init_noise_sigma
        self._num_timesteps = len(times)
        latents = self._denoise(times, latents, maps, (text, empty), embeds, steps_end)
        decoded = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample.float()
        self.maybe_free_model_hooks()
        output = delivered(picture, decoded.clamp(-1, 1), latents, copies)
        return output if return_dict else output.to_tuple()

    def _denoise(
        self,
        times: torch.Tensor,
        latents: torch.Tensor,
        maps: torch.Tensor,
        texts: tuple[torch.Tensor, torch.Tensor | None],
        embeds: torch.Tensor,
        steps_end: StepEnd,
    ) -> torch.Tensor:
        """The steps; texts: the prompt's and the negative prompt's embeddings."""
        (text, empty), guidance = texts, self._guidance_scale
        for index, timestep in enumerate(self.progress_bar(times)):
            if self.interrupt:
                continue
            inputs = self.scheduler.scale_model_input(latents, timestep)
            noise_pred = self.unet.predict(inputs, maps, timestep, text, embeds)
            if guidance != 1.0:
                without = self.unet.predict(inputs, maps, timestep, empty, torch.zeros_like(embeds))
                noise_pred = without + guidance * (noise_pred - without)
            latents = self.scheduler.step(noise_pred, timestep, latents, return_dict=False)[0]
            seen = {"latents": latents, "prompt_embeds": text, "negative_prompt_embeds": empty}
            seen = steps_end(index, timestep, seen)
            latents, text, empty = seen["latents"], seen["prompt_embeds"], seen["negative_prompt_embeds"]
        return latents


def _first_line(error: BaseException) -> str:
    """Of the first cause: `Name or service not known` says more than what follows from it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
