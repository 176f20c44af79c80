"""What the GAN training feeds on: photos under random holes, with the frozen prior's fill and the skin's pixels.

The prior costs more than the generator, so examples are made in pools and each is used a few times, with other
windows and latents. A pool is a pure function of (seed, number), and so is every batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from engine import LoopConfig
from identity_terms import load_frozen
from torch import nn
from train_prior import jitter

from idinpaint.data import list_identity_folders, load_photos, load_training_masks, read_split, training_photos
from idinpaint.masks import random_mask
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.gan import needs_landmarks, needs_prior
from idinpaint.models.lafin import landmark_map
from idinpaint.models.pconv import PConvPrior
from idinpaint.tensors import to_tensor, to_uint8

SKIN = 1  # index of skin among the parser's ten classes
BUNDLED = "src/idinpaint/weights_bundled"


@dataclass
class GanConfig(LoopConfig):
    """Settings of the GAN recipes; a weight of 0 leaves a term out."""

    system: str = "pdgan-face"
    prior: str = f"{BUNDLED}/pipeline/prior"  # folder of the frozen stage-one prior
    landmarks: str = f"{BUNDLED}/landmarks.safetensors"
    parsing: str = f"{BUNDLED}/parsing.safetensors"
    alex: str = "../shared/models/alexnet_features_torchvision.pth"
    vgg: str = "runs/metric_weights/vgg16_features_torchvision.pth"
    vgg_layers: tuple[int, ...] = (1, 6, 11, 20, 29)
    # generator
    widths: tuple[int, ...] | None = None  # None: the network's own
    blocks: int | None = None  # residual blocks of pconv, encdec and lafin
    modulation_width: int = 32
    modulation_kernel: int = 1
    pyramid: bool = True
    residual: bool = True
    # loop
    lr_decay: str = "cosine"  # or linear, as published
    beta1: float = 0.5
    discriminator_lr_factor: float = 1.0
    discriminator_width: int = 32
    window: int = 128  # px, of the discriminator and of the perceptual terms; 256 = the whole picture
    pool_size: int = 192
    pool_passes: int = 3
    max_hole: float = 0.6
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


def frozen_prior(folder: str, device: torch.device) -> PConvPrior:
    """The stage-one prior of a pipeline folder, in eval mode without gradients."""
    return PConvPrior.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False).float().to(device)


class ExamplePool:
    """Draws batches; holds the current pool on the CPU as uint8."""

    def __init__(self, config: GanConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.photos = load_photos(training_photos(config.train_data_dir, config.splits_dir))
        self.masks = load_training_masks(config.train_data_dir, config.splits_dir)
        self.prior = frozen_prior(config.prior, device) if needs_prior(config.system) else None
        guided = needs_landmarks(config.system)
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device) if guided else None
        self.parser = load_frozen(FaceMaps(10), config.parsing, device) if config.skin_weight else None
        self.number: int | None = None
        self.examples: dict[str, np.ndarray] = {}

    def build(self, photos: np.ndarray, holes: np.ndarray) -> dict[str, np.ndarray]:
        """photos [N, 256, 256, 3] uint8 and holes [N, 256, 256] bool -> image, mask; prior, skin, points if needed."""
        parts: dict[str, list[np.ndarray]] = {"prior": [], "skin": [], "points": []}
        autocast = torch.autocast(self.device.type, torch.bfloat16, self.config.mixed_precision == "bf16")
        for start in range(0, len(photos), 8):
            image = to_tensor(photos[start : start + 8]).to(self.device)
            mask = torch.from_numpy(holes[start : start + 8, None]).float().to(self.device)
            with torch.no_grad(), autocast:
                if self.prior is not None:
                    parts["prior"].append(to_uint8(self.prior(image * (1 - mask), mask)))
                if self.landmarker is not None:
                    points, _ = expected_points(self.landmarker(image * (1 - mask), mask))
                    parts["points"].append(points.cpu().numpy() * 4 + 1.5)  # cells of 4 px -> crop px
                if self.parser is not None:
                    labels = self.parser(image, torch.zeros_like(mask)).float().argmax(1, keepdim=True)
                    skin = F.interpolate((labels == SKIN).float(), scale_factor=4, mode="nearest")
                    parts["skin"].append(skin[:, 0].bool().cpu().numpy())
        done = {name: np.concatenate(values) for name, values in parts.items() if values}
        return {"image": photos, "mask": holes, **done}

    def batch(self, rng: np.random.Generator, step: int) -> dict[str, torch.Tensor]:
        """image, prior [B, 3, 256, 256], mask, skin, landmarks [B, 1, 256, 256], corner [B, 2] (y, x) of windows."""
        config = self.config
        size = config.train_batch_size
        number = step // max(1, config.pool_size * config.pool_passes // size)
        if number != self.number:
            pool_rng = np.random.default_rng([config.seed, 1000 + number])
            index = pool_rng.integers(0, len(self.photos), config.pool_size)
            photos = np.stack([jitter(pool_rng, self.photos[i]) for i in index])
            holes = np.stack([random_mask(pool_rng, 256, self.masks, config.max_hole) for _ in index])
            self.examples, self.number = self.build(photos, holes), number
        index = rng.integers(0, config.pool_size, size)
        return self.tensors({name: values[index] for name, values in self.examples.items()}, rng)

    def tensors(self, examples: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """uint8 arrays -> tensors, and for each a window that holds a random pixel of its hole."""
        batch = {name: to_tensor(examples[name]) for name in ("image", "prior") if name in examples}
        for name in ("mask", "skin"):
            if name in examples:
                batch[name] = torch.from_numpy(examples[name][:, None]).float()
        if "points" in examples:
            batch["landmarks"] = landmark_map(torch.from_numpy(examples["points"]))
        corners = []
        for hole in examples["mask"]:
            ys, xs = np.nonzero(hole)
            pick = int(rng.integers(len(ys)))
            centre = np.array([ys[pick], xs[pick]]) + rng.integers(-self.config.window // 4, self.config.window // 4, 2)
            corners.append(np.clip(centre - self.config.window // 2, 0, 256 - self.config.window))
        return batch | {"corner": torch.from_numpy(np.stack(corners))}

    def held_out(self, count: int = 32) -> dict[str, torch.Tensor]:
        """Photos of the validation people under fixed holes up to 35 %: the same as the prior's validation."""
        data, splits = Path(self.config.train_data_dir), Path(self.config.splits_dir)
        people = set(read_split(splits / "celeba_id256_val.txt"))
        entries = [e for e in list_identity_folders(data / "celeba_id256") if e.person in people][::3][:count]
        rng = np.random.default_rng(1)
        holes = np.stack([random_mask(rng, 256, self.masks, max_ratio=0.35) for _ in entries])
        return self.tensors(self.build(load_photos(entries), holes), rng)


def windows(images: torch.Tensor, corners: torch.Tensor, size: int) -> torch.Tensor:
    """[B, C, H, W], corners [B, 2] (y, x) -> [B, C, size, size]; differentiable."""
    if images.shape[-1] == size:
        return images
    return torch.stack([i[:, y : y + size, x : x + size] for i, (y, x) in zip(images, corners.tolist(), strict=True)])


def write_picture(path: Path, columns: list[torch.Tensor]) -> None:
    """A grid: one column a stage ([N, 3, H, W] in [-1, 1]), one row an example."""
    grid = np.concatenate([np.concatenate(list(to_uint8(column)), 0) for column in columns], 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), grid[..., ::-1])


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """ema <- decay ema + (1 - decay) model; buffers (running means) are copied."""
    for old, new in zip(ema.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for old, new in zip(ema.buffers(), model.buffers(), strict=True):
        old.copy_(new)
