"""Train the autoencoder: fit the encoder in closed form, then the decoder. See configs/autoencoder.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train
from equations.pictures import AlexFeatures, perceptual_loss
from photo_source import PhotoSource, jitter
from run_log import picture_grid
from sampling import standard_normal
from train_prior import hole_psnr

from idinpaint.models.autoencoder import PATCH, FaceAutoencoder
from idinpaint.models.tensors import to_tensor


@dataclass
class AutoencoderConfig(LoopConfig):
    """Settings of the autoencoder's recipe."""

    FILES: ClassVar[dict[str, Sequence[str]]] = {"perceptual_features": ()}
    RESULT: ClassVar[str] = "autoencoder.safetensors"

    latent_channels: int = 16
    crop: int = 128  # px; the decoder is convolutional
    max_latent_noise: float = 0.4  # std added to the latents of the hole, as a generator's errors will be
    unmasked_share: float = 0.25
    perceptual_weight: float = 0.1
    perceptual_features: str = "alexnet_features_torchvision.pth"


class AutoencoderTask:
    """The data and the loss of a run: what `train` calls."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        self.source = PhotoSource(config)
        self.photos, self.held_images = self.source.photos, to_tensor(self.source.held())
        self.features = AlexFeatures(config.perceptual_features)

    def build(self) -> FaceAutoencoder:
        """The network, its encoder fitted to the photos."""
        model = FaceAutoencoder(self.config.latent_channels)
        print("encoder keeps", round(model.fit_encoder(to_tensor(self.photos[::8])), 2), "dB", flush=True)
        return model

    def make_batch(self, draw: Draw) -> Batch:
        """Windows of photos, holes, and noise for the latents."""
        images, holes, generators = [], [], draw.generators()
        for rng in generators:
            i = rng.integers(len(self.photos))
            y, x = rng.integers(0, 256 - self.config.crop + 1, 2)
            window = (slice(y, y + self.config.crop), slice(x, x + self.config.crop))
            images.append(jitter(rng, self.photos[i])[window])
            unmasked = rng.random() < self.config.unmasked_share
            holes.append((np.ones((256, 256), bool) if unmasked else self.source.hole(rng))[window])
        level = torch.tensor([rng.random() * self.config.max_latent_noise for rng in generators]).float()
        side = self.config.crop // PATCH
        noise = standard_normal(generators, (self.config.latent_channels, side, side))
        return {
            "image": to_tensor(np.stack(images)),
            "mask": torch.from_numpy(np.stack(holes)[:, None]).float(),
            "noise": level.view(-1, 1, 1, 1) * noise,
        }

    def loss_function(self, model: torch.nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        """The loss and its terms."""
        image, mask = batch["image"], batch["mask"]
        plain = getattr(model, "module", model)
        with torch.no_grad():
            latents = plain.encode(image).float()
            latents = latents + F.max_pool2d(mask, PATCH) * batch["noise"]
        decoded = model(latents, image * (1 - mask), mask).float()
        l1 = ((decoded - image).abs() * (mask + 0.1)).mean() / (batch["mean_mask"] + 0.1)
        perceptual = perceptual_loss(self.features.to(image.device), image * (1 - mask) + decoded * mask, image)
        return l1 + self.config.perceptual_weight * perceptual, {"l1": l1, "perceptual": perceptual}

    @torch.no_grad()
    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures of the held photos."""
        image = self.held_images.to(next(model.parameters()).device)
        decoded = torch.cat([model.decode(model.encode(part)) for part in image.split(8)])
        whole = torch.ones_like(image[:, :1])
        return {
            "val_psnr": hole_psnr(decoded, image, whole),
            "val_psnr_linear": hole_psnr(model.synthesis(model.encode(image)), image, whole),
            "val_perceptual": float(perceptual_loss(self.features.to(image.device), decoded, image)),
        }

    @torch.no_grad()
    def picture(self, model: torch.nn.Module) -> np.ndarray:
        """Columns: photo, linear synthesis, decoded."""
        image = self.held_images[:6].to(next(model.parameters()).device)
        latents = model.encode(image)
        return picture_grid([image, model.synthesis(latents), model.decode(latents)])


def main(config: AutoencoderConfig) -> None:
    """Load, fit, train, write autoencoder.safetensors."""
    config.prepare()
    task = AutoencoderTask(config)
    calls = task.build, task.make_batch, task.loss_function, task.validate, task.picture
    ema = train(config, *calls, batch_means=("mask",))
    if main_process():
        save_weights(ema, f"{config.output_dir}/autoencoder.safetensors")


if __name__ == "__main__":
    run_script(main, AutoencoderConfig)
