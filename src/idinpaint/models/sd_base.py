"""A Stable Diffusion 1.x / 2.x UNet with the conditions of portrait inpainting added to it.

Landmarks come in by channels: `conv_in` is widened with zeros (as InstructPix2Pix does, Brooks et al. 2023). Identity
comes in by decoupled cross-attention (IP-Adapter, Ye et al. 2023) through diffusers' own processors and FaceID
projection. Channel order: noisy latents 4, mask 1, masked image latents 4 (diffusers' inpainting), then heatmaps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterFaceIDImageProjection, MultiIPAdapterImageProjection
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  (its loader looks for it in this module)
from torch import nn

from idinpaint.types import InputError

LATENT_CHANNELS = 4
INPAINT_CHANNELS = 9  # noisy latents, mask, masked image latents
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # of the text branch; the identity branch is trained whole
_EXTRA = ("heatmap_channels", "id_dim", "num_id_tokens")


class IdentityUNet(UNet2DConditionModel):
    """UNet2DConditionModel that saves and loads with its condition layers; a plain checkpoint loads as it is.

    config.heatmap_channels, config.id_dim and config.num_id_tokens are there once `add_conditions` has run.
    """

    @classmethod
    def from_config(cls, config: dict[str, Any] | None = None, return_unused_kwargs: bool = False, **kwargs: Any):
        """As diffusers', and the identity layers when the config names them (from_pretrained comes through here)."""
        extra = {key: config[key] for key in _EXTRA if key in config}
        plain = {key: value for key, value in config.items() if key not in extra}
        made = super().from_config(plain, return_unused_kwargs, **kwargs)
        unet = made[0] if return_unused_kwargs else made
        if extra:
            unet._add_identity(extra["id_dim"], extra["num_id_tokens"])
            unet.register_to_config(**extra)
        return made

    def add_conditions(self, heatmap_channels: int = 68, id_dim: int = 128, num_id_tokens: int = 4) -> None:
        """Widen the input and add the identity layers, in place; the output stays the base's at first.

        New input channels start at zero. Identity keys start as the text's, identity values at zero.
        Raises InputError for a UNet that is neither text-to-image (4 channels) nor inpainting (9).
        """
        channels = self.config.in_channels
        if channels not in (LATENT_CHANNELS, INPAINT_CHANNELS) or self.config.out_channels != LATENT_CHANNELS:
            raise InputError(f"the base's UNet has {channels} input channels; an SD-1.x or SD-2.x one has 4 or 9")
        if self.config.encoder_hid_dim_type is not None or self.config.addition_embed_type is not None:
            raise InputError(
                "the base's UNet is not of the SD-1.x or SD-2.x layout (SDXL and Kolors are not supported)"
            )
        self.conv_in = widen_conv(self.conv_in, INPAINT_CHANNELS + heatmap_channels)
        self.register_to_config(in_channels=INPAINT_CHANNELS + heatmap_channels)
        self._add_identity(id_dim, num_id_tokens)
        with torch.no_grad():
            for name, processor in self._identity_processors():
                processor.to_k_ip[0].weight.copy_(self.get_submodule(name).to_k.weight)
                processor.to_v_ip[0].weight.zero_()
        self.register_to_config(heatmap_channels=heatmap_channels, id_dim=id_dim, num_id_tokens=num_id_tokens)

    def _add_identity(self, id_dim: int, num_id_tokens: int) -> None:
        width = self.config.cross_attention_dim
        place = {"device": self.device, "dtype": self.dtype}
        processors = dict(self.attn_processors)
        for name in processors:
            if name.endswith("attn2.processor"):
                hidden = self.get_submodule(name.removesuffix(".processor")).to_q.out_features
                processors[name] = IPAdapterAttnProcessor2_0(hidden, width, num_tokens=(num_id_tokens,)).to(**place)
        self.set_attn_processor(processors)
        projection = IPAdapterFaceIDImageProjection(id_dim, width, mult=2, num_tokens=num_id_tokens)
        self.encoder_hid_proj = MultiIPAdapterImageProjection([projection]).to(**place)

    def process_encoder_hidden_states(
        self, encoder_hidden_states: torch.Tensor, added_cond_kwargs: dict[str, Any]
    ) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        """Text and projected identity, as the processors want them.

        diffusers does so when config.encoder_hid_dim_type is "ip_image_proj", which its constructor does not take and
        which is therefore lost on loading; here the projection itself is the sign.
        """
        if isinstance(self.encoder_hid_proj, MultiIPAdapterImageProjection):
            return encoder_hidden_states, self.encoder_hid_proj(added_cond_kwargs["image_embeds"])
        return super().process_encoder_hidden_states(encoder_hidden_states, added_cond_kwargs)

    def _identity_processors(self) -> list[tuple[str, IPAdapterAttnProcessor2_0]]:
        found = self.attn_processors.items()
        kind = IPAdapterAttnProcessor2_0
        return [(name.removesuffix(".processor"), module) for name, module in found if isinstance(module, kind)]

    def condition_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> parameter of what the base did not have (conv_in whole): trained beside a LoRA."""
        marks = ("conv_in.", "encoder_hid_proj.", "_ip.")
        return {name: value for name, value in self.named_parameters() if any(mark in name for mark in marks)}

    def add_lora(self, rank: int) -> None:
        """Freeze the base; train low-rank updates of its attention (Hu et al. 2021) and the condition layers."""
        from peft import LoraConfig

        self.requires_grad_(False)
        settings = {"r": rank, "lora_alpha": rank, "init_lora_weights": "gaussian"}
        self.add_adapter(LoraConfig(target_modules=list(LORA_TARGETS), **settings))
        for parameter in self.condition_parameters().values():
            parameter.requires_grad_(True)

    def merge_lora(self) -> None:
        """Fold the low-rank updates into the weights and remove them, so that inference needs no peft."""
        self.fuse_lora()
        self.unload_lora()

    def predict(
        self,
        latents: torch.Tensor,
        maps: torch.Tensor,
        timesteps: Any,
        prompt_embeds: torch.Tensor,
        id_embed: torch.Tensor,
    ) -> torch.Tensor:
        """latents [B, 4, h, w]; maps [B, 5 + K, h, w], mask, masked image latents, heatmaps; prompt_embeds [B, T, C];
        id_embed [B, D] unit vectors, a row of zeros for none -> the scheduler's prediction [B, 4, h, w]."""
        given = {"image_embeds": [id_embed[:, None].to(self.dtype)]}  # one adapter, one image a sample
        inputs = torch.cat([latents, maps], 1).to(self.dtype)
        predicted = self(inputs, timesteps, prompt_embeds.to(self.dtype), added_cond_kwargs=given).sample
        return predicted.to(latents.dtype)


def widen_conv(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """The convolution with zero weights for further input channels; the same output for what it knew."""
    options = {"kernel_size": conv.kernel_size, "stride": conv.stride, "padding": conv.padding}
    place = {"device": conv.weight.device, "dtype": conv.weight.dtype}
    wide = nn.Conv2d(in_channels, conv.out_channels, bias=conv.bias is not None, **options, **place)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : conv.in_channels] = conv.weight
        if conv.bias is not None:
            wide.bias.copy_(conv.bias)
    return wide


def working_size(masked_image: torch.Tensor, mask: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """masked_image [B, 3, H, W] and mask [B, 1, H, W] at size x size, the hole zero; unchanged when they are so."""
    masked_image = masked_image * (1 - mask)
    if mask.shape[-2:] == (size, size):
        return masked_image, mask
    large = F.interpolate(mask, size=(size, size), mode="nearest")
    return F.interpolate(masked_image, size=(size, size), mode="bilinear") * (1 - large), large


@torch.no_grad()
def condition_maps(
    vae: nn.Module, masked_image: torch.Tensor, mask: torch.Tensor, heatmaps: torch.Tensor
) -> torch.Tensor:
    """The UNet's input beside the noisy latents; one place for training and inference.

    masked_image: [B, 3, H, W] in [-1, 1], hole zero; mask: [B, 1, H, W]; heatmaps: [B, K, *, *] in [0, 1]
    -> [B, 5 + K, h, w]. The mask is sampled by nearest neighbour, as diffusers' inpainting does.
    """
    latents = vae.encode(masked_image.to(vae.dtype)).latent_dist.mode().to(masked_image.dtype)
    latents = latents * vae.config.scaling_factor
    small = F.interpolate(mask, size=latents.shape[-2:], mode="nearest")
    if heatmaps.shape[-2:] != latents.shape[-2:]:
        heatmaps = F.interpolate(heatmaps, size=latents.shape[-2:], mode="bilinear")
    return torch.cat([small.to(latents.dtype), latents, heatmaps.to(latents.dtype)], 1)
