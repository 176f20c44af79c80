"""Train the autoencoder: fit the encoder in closed form, then the decoder. See configs/autoencoder.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train
from run_log import picture_grid
from sampling import standard_normal
from train_prior import hole_psnr, jitter

from idinpaint.data.photos import load_photos, load_training_masks, training_photos, validation_photos
from idinpaint.imaging.masks import random_mask
from idinpaint.losses.pictures import AlexFeatures, perceptual_loss
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


def main(config: AutoencoderConfig) -> None:
    """Load, fit, train, write autoencoder.safetensors."""
    config.prepare()
    photos = load_photos(training_photos(config.train_data_dir, config.splits_dir))
    masks = load_training_masks(config.train_data_dir, config.splits_dir)
    held = validation_photos(config.train_data_dir, config.splits_dir)[::3][:32]
    held_images = to_tensor(load_photos(held))
    features = AlexFeatures(config.perceptual_features)

    def build() -> FaceAutoencoder:
        model = FaceAutoencoder(config.latent_channels)
        print("encoder keeps", round(model.fit_encoder(to_tensor(photos[::8])), 2), "dB", flush=True)
        return model

    def make_batch(draw: Draw) -> Batch:
        images, holes, generators = [], [], draw.generators()
        for rng in generators:
            i = rng.integers(len(photos))
            y, x = rng.integers(0, 256 - config.crop + 1, 2)
            window = (slice(y, y + config.crop), slice(x, x + config.crop))
            images.append(jitter(rng, photos[i])[window])
            whole = np.ones((256, 256), bool) if rng.random() < config.unmasked_share else random_mask(rng, 256, masks)
            holes.append(whole[window])
        level = torch.tensor([rng.random() * config.max_latent_noise for rng in generators]).float()
        side = config.crop // PATCH
        noise = standard_normal(generators, (config.latent_channels, side, side))
        return {
            "image": to_tensor(np.stack(images)),
            "mask": torch.from_numpy(np.stack(holes)[:, None]).float(),
            "noise": level.view(-1, 1, 1, 1) * noise,
        }

    def loss_function(model: torch.nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        image, mask = batch["image"], batch["mask"]
        plain = getattr(model, "module", model)
        with torch.no_grad():
            latents = plain.encode(image).float()
            latents = latents + F.max_pool2d(mask, PATCH) * batch["noise"]
        decoded = model(latents, image * (1 - mask), mask).float()
        l1 = ((decoded - image).abs() * (mask + 0.1)).mean() / (batch["mean_mask"] + 0.1)
        perceptual = perceptual_loss(features.to(image.device), image * (1 - mask) + decoded * mask, image)
        return l1 + config.perceptual_weight * perceptual, {"l1": l1, "perceptual": perceptual}

    @torch.no_grad()
    def validate(model: torch.nn.Module) -> dict[str, float]:
        image = held_images.to(next(model.parameters()).device)
        decoded = torch.cat([model.decode(model.encode(part)) for part in image.split(8)])
        whole = torch.ones_like(image[:, :1])
        return {
            "val_psnr": hole_psnr(decoded, image, whole),
            "val_psnr_linear": hole_psnr(model.synthesis(model.encode(image)), image, whole),
            "val_perceptual": float(perceptual_loss(features.to(image.device), decoded, image)),
        }

    @torch.no_grad()
    def picture(model: torch.nn.Module) -> np.ndarray:
        image = held_images[:6].to(next(model.parameters()).device)
        latents = model.encode(image)
        return picture_grid([image, model.synthesis(latents), model.decode(latents)])

    ema = train(config, build, make_batch, loss_function, validate, picture, batch_means=("mask",))
    if main_process():
        save_weights(ema, f"{config.output_dir}/autoencoder.safetensors")


if __name__ == "__main__":
    run_script(main, AutoencoderConfig)
