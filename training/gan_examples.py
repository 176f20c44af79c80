"""What the GAN training feeds on: photos under random holes, with the frozen prior's fill and the skin's pixels.

The prior costs more than the generator, so examples are made in pools and each is used a few times, with other
windows and latents. A pool is a pure function of (seed, number), and so is every batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from engine import Draw, LoopConfig
from identity_faces import crop_points
from network_files import load_frozen, load_prior
from photo_source import PhotoSource
from places import BUNDLE
from sampling import MEASURE, POOL, stream

from idinpaint.loading.bundle import load_pipeline
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.gan import SYSTEMS, needs_landmarks, needs_prior
from idinpaint.models.lafin import landmark_map
from idinpaint.models.tensors import draw_heatmaps, to_tensor, to_uint8
from idinpaint.types import InputError

Z_DIM = 128
SKIN = 1  # index of skin among the parser's ten classes


@dataclass
class GanConfig(LoopConfig):
    """Settings of the GAN recipes; a weight of 0 leaves a term out."""

    FILES: ClassVar[dict[str, Sequence[str]]] = {
        "alex": (),
        "prior": ("reads_prior",),
        "landmarks": ("reads_landmarks",),
        "parsing": ("skin_weight",),
        "vgg": ("vgg_weight", "style_weight"),
        **dict.fromkeys(("identity", "identity_teacher"), ("identity_weight",)),
        "teacher": ("teacher_weight",),
    }
    RESULT: ClassVar[str] = "generator.safetensors"

    system: str = "pdgan-face"
    prior: str = f"{BUNDLE}/pipeline/prior"  # folder of the frozen stage-one prior
    landmarks: str = f"{BUNDLE}/landmarks.safetensors"
    parsing: str = f"{BUNDLE}/parsing.safetensors"
    alex: str = "alexnet_features_torchvision.pth"
    vgg: str = "vgg16_features_torchvision.pth"
    vgg_layers: tuple[int, ...] = (1, 6, 11, 20, 29)
    # generator
    widths: tuple[int, ...] | None = None  # None: the network's own
    blocks: int | None = None  # residual blocks of pconv, encdec and lafin
    modulation_width: int = 32
    modulation_kernel: int = 1
    pyramid: bool = True
    residual: bool = True
    latent_levels: bool = True
    rank_share: float = 0.0  # see lower_rank; PD-GAN only
    prior_features: bool = False  # PD-GAN sees the prior network's decoder features
    skips: bool = False  # also in its upsampling convolutions
    # loop
    lr_decay: str = "cosine"  # or linear, as published
    beta1: float = 0.5
    discriminator_width: int = 32
    window: int = 128  # px, of the discriminator and of the perceptual terms; 256 = the whole picture
    pool_size: int = 192
    pool_passes: int = 3
    max_hole: float = 0.6
    validation_photos: int = 32
    # losses
    l1_weight: float = 1.0
    known_weight: float = 0.1
    perceptual_weight: float = 0.0  # AlexNet
    vgg_weight: float = 0.0
    style_weight: float = 0.0
    tv_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_kind: str = "hinge"  # or least_squares
    feature_matching_weight: float = 0.0
    diversity_weight: float = 0.0
    diversity_eps: float = 0.1
    diversity_samples: int = 2  # of each batch get a second latent, for its cost
    skin_weight: float = 0.0
    heatmap_weight: float = 0.0
    heatmap_samples: int = 4  # of each batch, for its cost
    identity_weight: float = 0.0  # 1 - cosine of the faces before and after, over two encoders
    identity_samples: int = 2  # of each batch, for its cost
    identity: str = f"{BUNDLE}/identity.safetensors"
    identity_teacher: str = "mobilefacenet_foamliu_arcface.pt"
    teacher_weight: float = 0.0  # hole L1 to the picture that the diffusion makes in one step without noise
    teacher: str = f"{BUNDLE}/pipeline"

    @property
    def reads_prior(self) -> bool:
        """Whether the system refines the prior's picture."""
        return needs_prior(self.system)

    @property
    def reads_landmarks(self) -> bool:
        """Whether anything here is told where the landmarks are."""
        guided = needs_landmarks(self.system) or self.teacher_weight
        return bool(guided or self.heatmap_weight or self.identity_weight)

    def rate(self, step: int) -> float:
        """As everywhere, or a straight line down to 0, as published."""
        if self.lr_decay == "cosine" or step < self.lr_warmup_steps:
            return super().rate(step)
        share = (step - self.lr_warmup_steps) / max(1, self.max_train_steps - self.lr_warmup_steps)
        return self.learning_rate * max(0.0, 1 - share)

    def adam(self, network: str) -> dict[str, Any]:
        """Only the generator's weights decay."""
        decay = self.weight_decay if network == "generator" else 0.0
        return {"lr": self.learning_rate, "betas": (self.beta1, 0.99), "weight_decay": decay}

    def prepare(self) -> None:
        """As in every recipe, and what the GAN's loop cannot do."""
        if self.system not in SYSTEMS:
            raise InputError(f"system {self.system}: use one of {', '.join(SYSTEMS)}")
        if self.gradient_accumulation_steps != 1 or self.gradient_checkpointing or not self.use_ema:
            raise InputError("the GAN loop has no gradient_accumulation_steps, gradient_checkpointing or use_ema=false")
        super().prepare()


class ExamplePool:
    """Draws batches; holds the current pool on the CPU as uint8."""

    def __init__(self, config: GanConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.source = PhotoSource(config, max_ratio=config.max_hole)
        self.prior = load_prior(config.prior, device) if needs_prior(config.system) else None
        self.teacher = load_pipeline(Path(config.teacher), str(device)) if config.teacher_weight else None
        guided = needs_landmarks(config.system) or self.teacher is not None
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device) if guided else None
        self.parser = load_frozen(FaceMaps(10), config.parsing, device) if config.skin_weight else None
        self.number: int | None = None
        self.examples: dict[str, np.ndarray] = {}

    def build(self, photos: np.ndarray, holes: np.ndarray) -> dict[str, np.ndarray]:
        """photos [N, 256, 256, 3] uint8 and holes [N, 256, 256] bool -> image, mask; what the recipe needs of prior,
        features0 (coarsest) to features4, skin, points."""
        parts: dict[str, list[np.ndarray]] = defaultdict(list)
        autocast = torch.autocast(self.device.type, torch.bfloat16, self.config.mixed_precision == "bf16")
        for start in range(0, len(photos), 8):
            image = to_tensor(photos[start : start + 8]).to(self.device)
            mask = torch.from_numpy(holes[start : start + 8, None]).float().to(self.device)
            with torch.no_grad(), autocast:
                if self.prior is not None:
                    filled, features = self.prior.fill(image * (1 - mask), mask)
                    parts["prior"].append(to_uint8(filled))
                    for level, maps in enumerate(features if self.config.prior_features else []):
                        parts[f"features{level}"].append(maps.half().cpu().numpy())
                if self.landmarker is not None:
                    points = crop_points(self.landmarker, image * (1 - mask), mask)
                    parts["points"].append(points.cpu().numpy())
                if self.teacher is not None:
                    parts["teacher"].append(self.taught(image, mask, parts["points"][-1]))
                if self.parser is not None:
                    labels = self.parser(image, torch.zeros_like(mask)).float().argmax(1, keepdim=True)
                    skin = F.interpolate((labels == SKIN).float(), scale_factor=4, mode="nearest")
                    parts["skin"].append(skin[:, 0].bool().cpu().numpy())
        done = {name: np.concatenate(values) for name, values in parts.items()}
        return {"image": photos, "mask": holes, **done}

    def taught(self, image: torch.Tensor, mask: torch.Tensor, points: np.ndarray) -> np.ndarray:
        """What the diffusion paints in the holes: [B, 256, 256, 3] uint8."""
        heatmaps = torch.from_numpy(draw_heatmaps(points, self.teacher.heatmap_size))
        output = self.teacher(image * (1 - mask), mask, heatmaps, num_inference_steps=1, temperature=0.0)
        return to_uint8(output.predicted_images)

    def batch(self, draw: Draw) -> dict[str, torch.Tensor]:
        """image, prior, teacher [B, 3, 256, 256], mask, skin, landmarks [B, 1, 256, 256], corner [B, 2] (y, x) of a
        window, z [2, B, 128]."""
        config = self.config
        number = draw.step // max(1, config.pool_size * config.pool_passes // draw.total)
        if number != self.number:
            drawn = self.source.draw([stream(config.seed, POOL, number)] * config.pool_size)
            self.examples, self.number = self.build(*drawn[1:]), number
        generators = draw.generators()
        index = [int(rng.integers(config.pool_size)) for rng in generators]
        return self.tensors({name: values[index] for name, values in self.examples.items()}, generators)

    def tensors(
        self, examples: dict[str, np.ndarray], generators: list[np.random.Generator]
    ) -> dict[str, torch.Tensor]:
        """uint8 arrays -> tensors; for each example two latents, and a window that holds a random pixel of its hole."""
        batch = {name: to_tensor(examples[name]) for name in ("image", "prior", "teacher") if name in examples}
        for name in ("mask", "skin"):
            if name in examples:
                batch[name] = torch.from_numpy(examples[name][:, None]).float()
        batch |= {name: torch.from_numpy(v).float() for name, v in examples.items() if name.startswith("features")}
        if needs_landmarks(self.config.system):
            batch["landmarks"] = landmark_map(torch.from_numpy(examples["points"]))
        batch["z"] = torch.from_numpy(np.stack([g.standard_normal((2, Z_DIM)) for g in generators], 1)).float()
        size, corners = self.config.window, []
        for rng, hole in zip(generators, examples["mask"], strict=True):
            ys, xs = np.nonzero(hole)
            pick = int(rng.integers(len(ys)))
            centre = np.array([ys[pick], xs[pick]]) + rng.integers(-size // 4, size // 4, 2)
            corners.append(np.clip(centre - size // 2, 0, 256 - size))
        return batch | {"corner": torch.from_numpy(np.stack(corners))}

    def held_out(self, count: int = 32) -> dict[str, torch.Tensor]:
        """Photos of the validation people under fixed holes up to 35 %: the same as the prior's validation."""
        photos = self.source.held(count=count)
        generators = [stream(0, MEASURE, place) for place in range(len(photos))]
        return self.tensors(self.build(photos, self.source.held_holes(len(photos))), generators)


def windows(images: torch.Tensor, corners: torch.Tensor, size: int) -> torch.Tensor:
    """[B, C, H, W], corners [B, 2] (y, x) -> [B, C, size, size]; differentiable."""
    if images.shape[-1] == size:
        return images
    return torch.stack([i[:, y : y + size, x : x + size] for i, (y, x) in zip(images, corners.tolist(), strict=True)])
