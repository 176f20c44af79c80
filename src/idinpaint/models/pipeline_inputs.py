"""What both pipelines share of diffusers' ways: pictures in and out, timesteps, callbacks.

Pictures are PIL images, numpy arrays [B, H, W, 3] in [0, 1] or tensors [B, 3, H, W] in [0, 1], as VaeImageProcessor
takes them; masks the same in one channel, 1 = hole. Inside, everything is float32 tensors in [-1, 1].
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# Written into a saved pipeline, so that diffusers finds the class: DiffusionPipeline.from_pretrained(folder,
# custom_pipeline=folder, trust_remote_code=True).
PIPELINE_FILE = """\
# {name} is code of the package `idinpaint`; this file leads diffusers to it.
from {module} import {name}  # noqa: F401
"""


@dataclass
class InpaintOutput(BaseOutput):
    """images: as output_type says; without one [B * num_images_per_prompt, 3, H, W] in [-1, 1], known pixels equal to
    the input's. predicted_images: the same before compositing, always such a tensor; prior_image: [B, 3, H, W], the
    stage-one fill, if any."""

    images: Any
    predicted_images: torch.Tensor
    prior_image: torch.Tensor | None = None


@dataclass
class Picture:
    """known [B, 3, H, W] in [-1, 1], zero in the hole; hole [B, 1, H, W] in {0, 1}; output_type: None for tensors."""

    known: torch.Tensor
    hole: torch.Tensor
    output_type: str | None

    def resized(self, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(known, hole) at side x side, no pixel of the hole having bled into a known one."""
        if self.hole.shape[-2:] == (side, side):
            return self.known, self.hole
        size = {"size": (side, side), "mode": "bilinear", "antialias": True}
        share = F.interpolate(1 - self.hole, **size)
        hole = (share < 0.999).to(share.dtype)
        return F.interpolate(self.known, **size) / share.clamp(min=1e-3) * (1 - hole), hole

    def composite(self, predicted: torch.Tensor, copies: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(the prediction in the hole of the picture, the prediction), both at the picture's size."""
        if predicted.shape[-2:] != self.hole.shape[-2:]:
            predicted = F.interpolate(predicted, self.hole.shape[-2:], mode="bilinear", antialias=True).clamp(-1, 1)
        known, hole = (t.repeat_interleave(copies, 0) for t in (self.known, self.hole))
        return known * (1 - hole) + predicted * hole, predicted


@dataclass
class UNetInputs:
    """What the UNet sees beside the latents, for every picture: maps [N, C, h, w]; tokens [N, T, D], labels [N, D] and
    added (residuals of the down blocks, or None), twice as many under guidance."""

    maps: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor
    added: list[torch.Tensor] | None


def read_picture(
    image: Any, mask_image: Any, masked_image: Any, mask: Any, output_type: str | None, device: torch.device
) -> Picture:
    """The picture of a call: image and mask_image as diffusers takes them, or masked_image and mask as tensors.

    masked_image: [B, 3, H, W] in [-1, 1]; mask: [B, 1, H, W], 1 = hole. What lies under the mask is zeroed here.
    Raises ValueError for neither or both, another output_type, and shapes that do not agree.
    """
    if (image is None) == (masked_image is None) or (mask_image is None) != (image is None):
        raise ValueError("give image and mask_image, or masked_image and mask")
    if output_type is not None and output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type is {output_type!r}; use one of {', '.join(OUTPUT_TYPES)}")
    if image is not None:
        masked_image = VaeImageProcessor(vae_scale_factor=8).preprocess(image)
        reader = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
        mask, output_type = reader.preprocess(mask_image), output_type or "pil"
        if len(mask) == 1 < len(masked_image):
            mask = mask.expand(len(masked_image), -1, -1, -1)
    b, _, h, w = masked_image.shape
    if mask is None or mask.shape != (b, 1, h, w):
        raise ValueError(f"mask has shape {None if mask is None else tuple(mask.shape)}, expected {(b, 1, h, w)}")
    known, hole = masked_image.to(device).float(), mask.to(device).float()
    return Picture(known * (1 - hole), hole, output_type)


def written(images: torch.Tensor, output_type: str | None) -> Any:
    """[B, 3, H, W] in [-1, 1] as the caller wants it; None leaves it so."""
    return images if output_type is None else VaeImageProcessor().postprocess(images, output_type=output_type)


def starting_noise(
    shape: tuple[int, ...], given: torch.Tensor | None, generator: Any, temperature: float, device: torch.device
) -> torch.Tensor:
    """Noise of this shape, drawn unless given: float32, because in half precision the same seed gives other noise.
    Raises ValueError when the given one has another shape."""
    if given is None:
        return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32) * temperature
    if tuple(given.shape) != shape:
        raise ValueError(f"latents have shape {tuple(given.shape)}, expected {shape}")
    return given.to(device).float()


def delivered(
    picture: Picture, predicted: torch.Tensor, latents: torch.Tensor, copies: int, prior: torch.Tensor | None = None
) -> InpaintOutput:
    """A pipeline's answer in the form that was asked for. predicted, latents: as decoded, and before."""
    images, predicted = picture.composite(predicted, copies)
    images = latents if picture.output_type == "latent" else written(images, picture.output_type)
    return InpaintOutput(images=images, predicted_images=predicted, prior_image=prior)


def begin(
    scheduler: Any, steps: int, timesteps: Sequence[int] | None, sigmas: Sequence[float] | None, device: torch.device,
    strength: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """Set the scheduler and return the timesteps to go through, the last `strength` of them.

    Raises ValueError for a scheduler that takes no timesteps or sigmas of one's own, and for numbers out of range.
    """
    if steps < 1:
        raise ValueError(f"num_inference_steps is {steps}; it must be at least 1")
    if not 0 < strength <= 1:
        raise ValueError(f"strength is {strength}; it must be above 0 and at most 1")
    own = {name: value for name, value in (("timesteps", timesteps), ("sigmas", sigmas)) if value is not None}
    if len(own) > 1:
        raise ValueError("give timesteps or sigmas, not both")
    for name in own:
        if name not in inspect.signature(scheduler.set_timesteps).parameters:
            raise ValueError(f"{type(scheduler).__name__} takes no {name} of one's own")
    scheduler.set_timesteps(**own, device=device) if own else scheduler.set_timesteps(steps, device=device)
    count = len(scheduler.timesteps) // scheduler.order if own else steps
    skipped = (count - max(1, round(count * strength))) * scheduler.order
    if skipped and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    return scheduler.timesteps[skipped:]


class StepEnd:
    """What happens between two steps: callback_on_step_end may look at tensors, change them, or interrupt."""

    def __init__(self, pipeline: Any, callback: Callable[..., Any] | None, names: Sequence[str]) -> None:
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            names = callback.tensor_inputs
        if wrong := [name for name in names if name not in pipeline._callback_tensor_inputs]:
            known = ", ".join(pipeline._callback_tensor_inputs)
            raise ValueError(f"callback_on_step_end_tensor_inputs has {wrong[0]}; use some of {known}")
        self.pipeline, self.callback, self.names = pipeline, callback, names

    def __call__(self, index: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors, those replaced that the callback returned; it may return None."""
        if self.callback is None:
            return tensors
        given = {name: tensors[name] for name in self.names}
        return {**tensors, **(self.callback(self.pipeline, index, timestep, given) or {})}


def write_pipeline_file(pipeline: Any, folder: Any) -> None:
    """pipeline.py beside model_index.json, see PIPELINE_FILE."""
    from pathlib import Path

    kind = type(pipeline)
    text = PIPELINE_FILE.format(name=kind.__name__, module=kind.__module__)
    (Path(folder) / "pipeline.py").write_text(text, encoding="utf-8")


def class_name(name_or_path: Any, kwargs: dict[str, Any]) -> str | None:
    """The class that a folder's or a hub repository's model_index.json names; None when it cannot be read."""
    index = Path(name_or_path) / "model_index.json"
    try:
        if index.is_file():
            return json.loads(index.read_text(encoding="utf-8")).get("_class_name")
        where = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
        given = {name: kwargs[name] for name in where if name in kwargs}
        return DiffusionPipeline.load_config(name_or_path, **given).get("_class_name")
    except (OSError, ValueError):
        return None  # from_pretrained says what is wrong
