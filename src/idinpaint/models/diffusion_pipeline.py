"""IdentityInpaintPipeline: a prior's fill, refined by latent diffusion under landmarks and identity.

The diffusion runs on the residual between the picture's latents and the prior's, per-channel scaled (compare
ResShift, Yue et al. 2023): noise becomes detail and identity, while colour and pose come from the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import Conditions, StageOne, build_conditions, stage_one
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pconv import PConvPrior
from idinpaint.models.pipeline_inputs import (
    InpaintOutput,
    Picture,
    StepEnd,
    UNetInputs,
    begin,
    class_name,
    delivered,
    read_picture,
    starting_noise,
    write_pipeline_file,
)
from idinpaint.models.references import ReferenceEncoder
from idinpaint.models.refiner import DetailRefiner

SD_KIND = "IdentitySDInpaintPipeline"


class IdentityInpaintPipeline(DiffusionPipeline):
    """unet, any diffusers scheduler, autoencoder, prior and id_tokens; residual_std: one number a latent channel.

    reference_encoder: reads pictures of the person for prior and UNet; None in models trained without it.
    prior_share: in [0, 1], of the prior's fill in the painted picture. Prior and diffusion err apart from each other:
    what only one of them invents, such as glitter in an eye, fades in the mean (Perrone and Cooper 1993).
    refiner: adds detail to that mean; None in models trained without it.
    chosen_noise: seeds of (upper part, nose, mouth) whose noise paints well, painting/chosen_noise.py; None: a
    candidate's seed is its number.
    """

    model_cpu_offload_seq = "reference_encoder->prior->id_tokens->unet->autoencoder->refiner"
    _optional_components = ["reference_encoder", "refiner"]
    _callback_tensor_inputs = ["latents", "noise_pred", "maps", "tokens"]

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        autoencoder: FaceAutoencoder,
        prior: PConvPrior,
        id_tokens: IdentityTokens,
        residual_std: list[float] | None = None,
        reference_encoder: ReferenceEncoder | None = None,
        prior_share: float = 0.0,
        refiner: DetailRefiner | None = None,
        chosen_noise: list[list[int]] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, autoencoder=autoencoder, prior=prior, id_tokens=id_tokens)
        self.register_modules(reference_encoder=reference_encoder, refiner=refiner)
        self.register_to_config(residual_std=list(residual_std or [1.0] * autoencoder.config.latent_channels))
        self.register_to_config(prior_share=float(prior_share), chosen_noise=chosen_noise)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> DiffusionPipeline:
        """As diffusers', a folder or a hub id; one trained from Stable Diffusion comes as IdentitySDInpaintPipeline."""
        if cls is IdentityInpaintPipeline and class_name(pretrained_model_name_or_path, kwargs) == SD_KIND:
            from idinpaint.models.sd_pipeline import IdentitySDInpaintPipeline

            return IdentitySDInpaintPipeline.from_pretrained(pretrained_model_name_or_path, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """As diffusers', and pipeline.py, by which DiffusionPipeline.from_pretrained finds this class."""
        super().save_pretrained(save_directory, **kwargs)
        write_pipeline_file(self, save_directory)

    @property
    def components(self) -> dict[str, Any]:
        """What a second pipeline is made of: IdentityInpaintPipeline(**pipe.components) paints as this one does."""
        own = {key: self.config[key] for key in ("prior_share", "chosen_noise")}
        own["residual_std"] = list(self.config.residual_std)
        return {**super().components, **own}

    @property
    def guidance_scale(self) -> float:
        """Of the call that runs."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """Of the call that runs."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set `_interrupt`: the steps that are left are then skipped."""
        return self._interrupt

    @property
    def id_dim(self) -> int:
        """Numbers in an identity vector."""
        return self.id_tokens.config.id_dim

    @property
    def heatmap_size(self) -> int:
        """Side of the landmark maps, in latent cells."""
        return int(self.unet.config.sample_size)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """[C, h, w] of a picture's latents."""
        return (self.autoencoder.config.latent_channels, self.heatmap_size, self.heatmap_size)

    @torch.no_grad()
    def __call__(
        self,
        masked_image: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        heatmaps: torch.Tensor | None = None,
        id_embed: torch.Tensor | None = None,
        num_inference_steps: int = 4,
        guidance_scale: float = 1.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        temperature: float = 1.0,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        image: Any = None,
        mask_image: Any = None,
        strength: float = 1.0,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        latents: torch.Tensor | None = None,
        references: torch.Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
    ) -> InpaintOutput | tuple[Any, ...]:
        """Fill the hole.

        image, mask_image: as diffusers takes them (pipeline_inputs.py), sides a multiple of 8; or masked_image
        [B, 3, H, W] in [-1, 1] and mask [B, 1, H, W], 1 = hole. A picture of another size than the model's is resized
        for painting, and what was painted is put back. heatmaps: [B, K, h, w] in [0, 1], h = w = heatmap_size (a square
        of 2 ** n px as tensors is painted at its own size, then an eighth of it), None for none; id_embed: [B, D] unit
        vectors, None or zeros for none. references: [B, R, 5, S, S] pictures of the person turned to the face's pose
        (models/references.py), S = 8 h, None for none. guidance_scale: classifier-free guidance on the identity, 1 =
        off. temperature: factor on the drawn noise; below 1 trades variety for fidelity. strength: below 1 the last
        steps alone are gone through, from the prior's fill under that much noise. latents: noise
        [B * num_images_per_prompt, C, h, w] instead of drawn. output_type: pil (default with `image`), np, pt in
        [0, 1], latent; without one, tensors in [-1, 1]. Raises ValueError for a wrong shape or name.
        """
        device, copies = self._execution_device, num_images_per_prompt
        picture = read_picture(image, mask_image, masked_image, mask, output_type, device)
        steps_end = StepEnd(self, callback_on_step_end, callback_on_step_end_tensor_inputs)
        known, hole, heatmaps = self._square(picture, heatmaps, given_as_tensors=image is None)
        if id_embed is None:
            id_embed = known.new_zeros(len(known), self.id_dim)
        self._guidance_scale, self._interrupt = guidance_scale, False
        times = begin(self.scheduler, num_inference_steps, timesteps, sigmas, device, strength)
        id_embed = id_embed.to(device).float()
        first = self.first(known, hole, id_embed, references)
        conditions = build_conditions(self.autoencoder, first, known, hole, self.reference_encoder)
        seen = self._inputs(conditions, heatmaps.to(device).float(), id_embed, copies)
        shape = (len(seen.maps), self.autoencoder.config.latent_channels, *seen.maps.shape[-2:])
        latents = self._begin(starting_noise(shape, latents, generator, temperature, device), times)
        latents = self._denoise(latents, times, seen, steps_end)
        refined = self._refined(latents, conditions, copies)
        predicted = self._decode(refined, known, hole, copies, conditions)
        if self.refiner is not None:
            seen = (known, hole, conditions.prior_image, heatmaps.to(device))
            predicted = self.refiner.detailed(predicted, *(x.repeat_interleave(copies, 0) for x in seen))
        self.maybe_free_model_hooks()
        output = delivered(picture, predicted, refined, copies, conditions.prior_image)
        return output if return_dict else output.to_tuple()

    def _inputs(
        self, conditions: Conditions, heatmaps: torch.Tensor, id_embed: torch.Tensor, copies: int
    ) -> UNetInputs:
        """What the UNet sees beside the latents; with guidance twice, without the identity first."""
        guided = self.guidance_scale != 1.0
        added = conditions.added
        if added is not None:
            added = [x.repeat_interleave(copies, 0).repeat(1 + guided, 1, 1, 1) for x in added]
        whom = torch.cat([torch.zeros_like(id_embed), id_embed] if guided else [id_embed])
        labels = whom.repeat_interleave(copies, 0) * self.id_dim**0.5
        tokens = self.id_tokens(whom).repeat_interleave(copies, 0)
        maps = torch.cat([conditions.channels, heatmaps], 1).repeat_interleave(copies, 0)
        return UNetInputs(maps, tokens, labels, added)

    def _begin(self, noise: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The latents of the first step that is gone through."""
        self._num_timesteps = len(times)
        if len(times) < len(self.scheduler.timesteps):  # the prior's fill is the residual 0
            return self.scheduler.add_noise(torch.zeros_like(noise), noise, times[:1].repeat(len(noise)))
        return noise * self.scheduler.init_noise_sigma

    def _denoise(
        self, latents: torch.Tensor, times: torch.Tensor, given: UNetInputs, steps_end: StepEnd
    ) -> torch.Tensor:
        for index, timestep in enumerate(self.progress_bar(times)):
            if self.interrupt:
                continue
            noise_pred = self._predict(latents, timestep, given)
            latents = self.scheduler.step(noise_pred, timestep, latents, return_dict=False)[0]
            seen = {"latents": latents, "noise_pred": noise_pred, "maps": given.maps, "tokens": given.tokens}
            seen = steps_end(index, timestep, seen)
            latents, given.maps, given.tokens = seen["latents"], seen["maps"], seen["tokens"]
        return latents

    def _square(
        self, picture: Picture, heatmaps: torch.Tensor | None, given_as_tensors: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """known, hole and heatmaps at the size at which the networks work."""
        b, _, h, w = picture.known.shape
        side = 8 * self.heatmap_size
        if h % 8 or w % 8:
            raise ValueError(f"the picture is {h} x {w}; its sides must be multiples of 8")
        if given_as_tensors and h == w and not h & (h - 1):
            side = h
        channels = self.unet.config.in_channels - 3 * self.autoencoder.config.latent_channels - 4
        if self.reference_encoder is not None:
            channels -= self.reference_encoder.config.unet_channels
        expected = (b, channels, side // 8, side // 8)
        if heatmaps is None:
            heatmaps = picture.known.new_zeros(expected)
        if tuple(heatmaps.shape) != expected:
            raise ValueError(f"heatmaps have shape {tuple(heatmaps.shape)}, expected {expected}")
        return *picture.resized(side), heatmaps

    def first(
        self,
        known: torch.Tensor,
        hole: torch.Tensor,
        id_embed: torch.Tensor | None = None,
        references: torch.Tensor | None = None,
    ) -> StageOne:
        """The prior's work alone, as PD-GAN and the strategy `prior` use it. known: [B, 3, H, W] in [-1, 1], hole
        zeroed; hole: [B, 1, H, W]; the rest as in a call."""
        return stage_one(self.prior, known, hole, id_embed, self.reference_encoder, references)

    def _predict(self, latents: torch.Tensor, timestep: Any, given: UNetInputs) -> torch.Tensor:
        """The UNet's prediction, under guidance where that is asked for."""
        dtype = self.unet.dtype
        model_input = torch.cat([self.scheduler.scale_model_input(latents, timestep), given.maps], 1).to(dtype)
        extra: dict[str, Any] = {}
        if self.unet.class_embedding is not None:
            extra["class_labels"] = given.labels.to(dtype)
        if given.added is not None:  # the UNet takes them off the list
            extra["down_intrablock_additional_residuals"] = [x.to(dtype) for x in given.added]
        twice = self.guidance_scale != 1.0
        model_input = torch.cat([model_input] * 2) if twice else model_input
        predicted = self.unet(model_input, timestep, given.tokens.to(dtype), **extra).sample.float()
        if not twice:
            return predicted
        without, with_identity = predicted.chunk(2)
        return without + self.guidance_scale * (with_identity - without)

    def _refined(self, latents: torch.Tensor, conditions: Conditions, copies: int) -> torch.Tensor:
        """Latents of the picture: the prior's and, where there is any hole, the scaled residual."""
        std = torch.tensor(self.config.residual_std, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1)
        prior, touched = (t.repeat_interleave(copies, 0) for t in (conditions.prior_latents, conditions.touched))
        return prior + latents * std * touched

    def _decode(
        self, latents: torch.Tensor, known: torch.Tensor, hole: torch.Tensor, copies: int, conditions: Conditions
    ) -> torch.Tensor:
        """The decoded picture and the prior's fill, mixed by prior_share."""
        parts = (known, hole, conditions.prior_features, conditions.prior_image)
        known, hole, features, prior_image = (t.repeat_interleave(copies, 0) for t in parts)
        picture = self.autoencoder.decode(latents, known, hole, features).clamp(-1, 1)
        return torch.lerp(picture, prior_image.to(picture.dtype), self.config.prior_share)
