"""Settings of the diffusion recipe, configs/diffusion.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from loop_config import LoopConfig
from places import BUNDLE


@dataclass
class DiffusionConfig(LoopConfig):
    """Defaults are those of a first phase."""

    FILES: ClassVar[dict[str, Sequence[str]]] = {
        **dict.fromkeys(("prior", "autoencoder", "landmarks", "identity", "perceptual_features"), ()),
        "parsing": ("skin_weight",), "identity_teacher": ("identity_weight",), "vgg": ("vgg_weight",),
    }  # fmt: skip
    SHARED: ClassVar[tuple[str, ...]] = ("pixel_samples",)
    RESULT: ClassVar[str] = "denoiser.safetensors"

    base: str = "small"  # sd: the recipe of sd_recipe.py
    prior: str = f"{BUNDLE}/pipeline/prior"  # folder in diffusers' layout
    autoencoder: str = f"{BUNDLE}/pipeline/autoencoder/diffusion_pytorch_model.safetensors"
    landmarks: str = f"{BUNDLE}/landmarks.safetensors"
    identity: str = f"{BUNDLE}/identity.safetensors"
    widths: tuple[int, ...] = (64, 128, 192)
    layers_per_block: int = 1
    token_dim: int = 192
    known_weight: float = 0.1
    drop_heatmaps: float = 0.1
    pool_size: int = 2048
    pool_passes: int = 4
    max_ratio: float = 0.5
    feature_masks: float = 0.0  # share of masks that hide a whole feature
    reference_share: float = 0.5  # of the examples see other photos of the person, where there are any
    drop_identity: float = 0.15  # share without any identity
    pixel_weight: float = 1.0  # on the decoded one-step prediction of a window; trains the decoder too
    pixel_samples: int = 8  # of the whole batch; 0: the losses in pixels are off, the decoder stays as it is
    pixel_every: int = 5  # steps between those with losses in pixels
    pixel_window: int = 128  # px
    residual_std: tuple[float, ...] = ()  # a later phase keeps its first phase's; empty: measured
    few_step_timesteps: tuple[int, ...] = ()  # where the decoded samples are noised to; empty: anywhere
    skin_weight: float = 0.0  # L1 on the hidden skin of the decoded picture
    heatmap_weight: float = 0.0  # landmark heatmaps of the decoded picture; needs pixel_window 256
    parsing: str = f"{BUNDLE}/parsing.safetensors"
    identity_weight: float = 0.0  # 1 - cosine on the decoded picture; needs pixel_window 256
    identity_teacher: str = "mobilefacenet_foamliu_arcface.pt"
    perceptual_weight: float = 0.1
    perceptual_features: str = "alexnet_features_torchvision.pth"
    vgg_weight: float = 0.0  # L1 between features of VGG; see train_prior.py
    vgg: str = "vgg16_features_torchvision.pth"
    vgg_layers: tuple[int, ...] = (4, 9, 16)
    vgg_samples: int = 4  # of a process's decoded windows, for their cost
