"""Randomly initialised Stable Diffusion pipelines on disk: real class names and config keys, small widths."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

# unet/config.json of stable-diffusion-v1-5/stable-diffusion-inpainting; its widths are (320, 640, 1280, 1280).
SD15_UNET = {
    "sample_size": 64, "in_channels": 9, "out_channels": 4, "center_input_sample": False, "flip_sin_to_cos": True,
    "freq_shift": 0, "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2, "downsample_padding": 1, "mid_block_scale_factor": 1, "act_fn": "silu",
    "norm_num_groups": 32, "norm_eps": 1e-5, "cross_attention_dim": 768, "attention_head_dim": 8,
}  # fmt: skip
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False,
}  # fmt: skip


def tiny_unet(in_channels: int = 9, seed: int = 0, **changes) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    small = {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32, "layers_per_block": 1}
    return UNet2DConditionModel(**{**SD15_UNET, **small, "in_channels": in_channels, "sample_size": 8, **changes})


def tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer over single characters, from vocabulary files in CLIP's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def save_tiny_sd(folder: Path, in_channels: int = 9, prediction_type: str = "epsilon", **unet) -> Path:
    """Write the pipeline folder and return it; 256 px pictures have 32 x 32 latents, as the real ones."""
    vocabulary = tokenizer(folder / "tokenizer")
    torch.manual_seed(1)
    vae = AutoencoderKL(
        3, 3, ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4, (8, 8, 8, 8), layers_per_block=1,
        norm_num_groups=4, latent_channels=4, sample_size=64, scaling_factor=0.18215,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=32, hidden_act="quick_gelu",
        bos_token_id=vocabulary.bos_token_id, eos_token_id=vocabulary.eos_token_id,
    )  # fmt: skip
    pipeline = StableDiffusionInpaintPipeline(
        vae, CLIPTextModel(text), vocabulary, tiny_unet(in_channels, **unet),
        PNDMScheduler(**SCHEDULE, prediction_type=prediction_type), None, None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder
