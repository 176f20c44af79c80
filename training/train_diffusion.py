"""Train the diffusion refiner on residual latents, with landmarks by channel and identity by tokens.

See configs/diffusion.yaml. Conditions are those of inference: the frozen prior's fill, landmarks predicted
from the masked photo, identity from other photos of the person, from the visible part of the face, or none. They
cost more than a step of this small UNet, so a pool of examples is computed from (seed, pool number) and used for
several passes.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from checkpoints import save_folder
from decoded_steps import PixelLoss
from diffusers import UNet2DConditionModel
from diffusion_config import DiffusionConfig
from engine import Batch, Draw, Terms, main_process, run_script, save_weights, train, training_device
from equations.diffusion import weighted_mse
from equations.pictures import AlexFeatures, perceptual_loss
from example_pool import ExamplePool
from run_log import picture_grid
from sampling import make_scheduler, standard_normal
from torch import nn
from train_prior import hole_psnr
from trainer import LossFunction

from idinpaint.config import parse_overrides, read_values
from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.tensors import draw_heatmaps, to_tensor
from idinpaint.types import InputError


@dataclass
class Window:
    """What the decoded one-step prediction of a part of n pictures needs; corner and size in latent cells."""

    rows: torch.Tensor  # [n], the samples of the batch that are decoded
    alpha: torch.Tensor  # [n, 1, 1, 1], square root of alphas_cumprod
    sigma: torch.Tensor
    prior_latents: torch.Tensor  # [n, C, h, w]
    scale: torch.Tensor  # [n, C, h, w], residual std where the cell is touched, else 0
    masked_image: torch.Tensor  # [n, 3, 8 size, 8 size]
    mask: torch.Tensor
    corner: tuple[int, int]
    size: int


class Denoiser(nn.Module):
    """UNet, identity tokens and decoder as one module, so that all are trained, averaged and resumed together."""

    def __init__(self, config: DiffusionConfig, autoencoder: FaceAutoencoder, id_dim: int) -> None:
        super().__init__()
        latent_channels = autoencoder.config.latent_channels
        self.autoencoder = copy.deepcopy(autoencoder)
        self.autoencoder.requires_grad_(config.pixel_samples > 0)
        self.autoencoder.analysis.requires_grad_(False)  # the latents stay what the pool was made with
        self.autoencoder.synthesis.requires_grad_(False)
        depth = len(config.widths) - 1
        self.unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=3 * latent_channels + 4 + 68,
            out_channels=latent_channels,
            block_out_channels=tuple(config.widths),
            layers_per_block=config.layers_per_block,
            down_block_types=("DownBlock2D",) * depth + ("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * depth,
            cross_attention_dim=config.token_dim,
            attention_head_dim=32,
            norm_num_groups=16,
        )
        nn.init.zeros_(self.unet.conv_out.weight)  # the first prediction is the prior itself
        nn.init.zeros_(self.unet.conv_out.bias)
        self.id_tokens = IdentityTokens(id_dim, token_dim=config.token_dim)

    def forward(
        self,
        noisy: torch.Tensor,
        maps: torch.Tensor,
        timesteps: torch.Tensor,
        id_embed: torch.Tensor,
        window: Window | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Velocity [B, C, h, w], and the decoded window of the one-step prediction of n samples."""
        velocity = self.unet(torch.cat([noisy, maps], 1), timesteps, self.id_tokens(id_embed)).sample
        if window is None:
            # DDP waits for a gradient of every trained parameter.
            idle = sum(p.sum() for p in self.autoencoder.parameters() if p.requires_grad)
            return velocity + 0.0 * idle, None
        clean = window.alpha * noisy[window.rows] - window.sigma * velocity[window.rows]  # v-prediction's x0
        y, x = window.corner
        latents = (window.prior_latents + clean * window.scale)[..., y : y + window.size, x : x + window.size]
        return velocity, self.autoencoder(latents, window.masked_image, window.mask)


def make_pipeline(denoiser: Denoiser, pool: ExamplePool) -> IdentityInpaintPipeline:
    """The whole system as `from_pretrained` will read it; it holds the given networks, not copies."""
    return IdentityInpaintPipeline(
        denoiser.unet, make_scheduler(), denoiser.autoencoder, pool.prior, denoiser.id_tokens,
        [round(float(s), 5) for s in pool.residual_std],
    )  # fmt: skip


def draw_batch(config: DiffusionConfig, pool: ExamplePool, draw: Draw) -> Batch:
    """Examples of the pool, heatmaps dropped at random, timesteps, noise, and the windows that are decoded."""
    generators = draw.generators()
    batch = pool.batch(generators, draw.step, draw.total)
    heatmaps = torch.from_numpy(draw_heatmaps(batch.pop("points").numpy(), 32))
    if config.drop_identity >= 1:  # never any, whatever the pool holds
        batch["id_embed"] = torch.zeros_like(batch["id_embed"])
    keep = torch.tensor([float(rng.random() >= config.drop_heatmaps) for rng in generators]).view(-1, 1, 1, 1)
    batch["maps"] = torch.cat([batch.pop("channels"), heatmaps * keep], 1)
    batch["timesteps"] = torch.tensor([int(rng.integers(1000)) for rng in generators])
    pixels = config.pixel_samples and draw.step % config.pixel_every == 0
    batch["rows"] = draw.chosen(config.pixel_samples if pixels else 0, "pixel_samples")
    if config.few_step_timesteps:
        for row in batch["rows"].tolist():
            batch["timesteps"][row] = int(generators[row].choice(config.few_step_timesteps))
    batch["noise"] = standard_normal(generators, tuple(batch["residual"].shape[1:]))
    size = config.pixel_window // 8
    y, x = (int(v) for v in draw.common().integers(0, 32 - size + 1, 2))
    area = (batch["rows"], slice(None), slice(8 * y, 8 * (y + size)), slice(8 * x, 8 * (x + size)))
    batch["corner"] = torch.tensor([y, x])
    batch["window_image"], batch["window_mask"] = batch.pop("image")[area], batch.pop("mask")[area]
    if "skin" in batch:
        batch["window_skin"] = batch.pop("skin")[area] * batch["window_mask"]
    return batch


def make_window(batch: Batch, alphas: torch.Tensor, residual_std: torch.Tensor) -> Window:
    """The decoded part of the samples in `rows`; its image and mask lie in the batch."""
    image, mask, rows = batch["window_image"], batch["window_mask"], batch["rows"]
    kept = alphas.to(image.device)[batch["timesteps"][rows]].view(-1, 1, 1, 1)
    channels = batch["residual"].shape[1]
    std = residual_std.to(image.device).view(1, -1, 1, 1)
    y, x = batch["corner"].tolist()
    prior_latents = batch["maps"][rows, channels : 2 * channels]
    return Window(
        rows, kept.sqrt(), (1 - kept).sqrt(), prior_latents, std * batch["touched"][rows],
        image * (1 - mask), mask, (y, x), image.shape[-1] // 8,
    )  # fmt: skip


def diffusion_loss(
    config: DiffusionConfig, pool: ExamplePool, features: AlexFeatures, device: torch.device
) -> LossFunction:
    """The loss of a batch and its terms by name: velocity everywhere, and pixels where the batch has windows."""
    scheduler = make_scheduler()
    alphas = scheduler.alphas_cumprod
    pixel_loss = PixelLoss(config, pool, features, device)

    def loss_function(model: nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        noisy = scheduler.add_noise(batch["residual"], batch["noise"], batch["timesteps"])
        velocity = scheduler.get_velocity(batch["residual"], batch["noise"], batch["timesteps"])
        window = make_window(batch, alphas, pool.residual_std) if len(batch["rows"]) else None
        predicted, pixels = model(noisy, batch["maps"], batch["timesteps"], batch["id_embed"], window)
        predicted = predicted.float()
        weight = batch["touched"] + config.known_weight * (1 - batch["touched"])
        error = weighted_mse(predicted, velocity, weight)
        high = (batch["timesteps"] >= 800).float()
        terms = {"diffusion": error.mean(), "diffusion_t800": (error * high).sum() / high.sum().clamp(min=1)}
        loss = error.mean()
        if window is not None:
            added, pixel_terms = pixel_loss(batch, window.mask, pixels.float())
            loss, terms = loss + added, {**terms, **pixel_terms}
        return loss, terms

    return loss_function


class Validation:
    """Held-out people under fixed masks and noise, restored in one step as the default of inference does."""

    def __init__(self, config: DiffusionConfig, pool: ExamplePool, features: AlexFeatures, count: int = 8) -> None:
        self.pool, self.features = pool, features.to(pool.device)
        self.examples = pool.held_examples(to_tensor(pool.source.held(6, count)))

    @torch.no_grad()
    def restore(self, model: Denoiser) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(restored, image, mask) of the held photos on the device."""
        image, mask, points, id_embed = (value.to(self.pool.device) for value in self.examples)
        pipeline = make_pipeline(model, self.pool).to(self.pool.device)
        pipeline.set_progress_bar_config(disable=True)
        heatmaps = torch.from_numpy(draw_heatmaps(points.cpu().numpy(), 32))
        noise = torch.Generator().manual_seed(0)
        out = pipeline(image * (1 - mask), mask, heatmaps, id_embed, num_inference_steps=1, generator=noise)
        return out.images.float(), image, mask

    def figures(self, model: Denoiser) -> dict[str, float]:
        """Hole PSNR in dB and perceptual distance."""
        restored, image, mask = self.restore(model)
        perceptual = perceptual_loss(self.features, restored, image)
        return {"val_hole_psnr": hole_psnr(restored, image, mask), "val_perceptual": float(perceptual)}

    def picture(self, model: Denoiser) -> np.ndarray:
        """Columns: masked, restored, original."""
        restored, image, mask = self.restore(model)
        return picture_grid([image * (1 - mask), restored, image])


def make_pool(config: DiffusionConfig) -> ExamplePool:
    """The training photos and the frozen networks that make examples of them."""
    return ExamplePool(config, training_device())


def main(config: DiffusionConfig, pool: ExamplePool | None = None) -> None:
    """Load, train, write the pipeline folder. pool: examples made before, where several runs share them."""
    config.prepare()
    torch.set_num_threads(max(1, config.threads))
    device = training_device()
    features = AlexFeatures(config.perceptual_features)
    pool = pool or make_pool(config)
    if main_process():
        print(json.dumps({"residual_std": [round(float(s), 4) for s in pool.residual_std]}), flush=True)

    held = Validation(config, pool, features)
    means = ("window_mask", "window_skin") if config.skin_weight else ("window_mask",)
    ema = train(
        config,
        lambda: Denoiser(config, pool.autoencoder, pool.faces.embeddings.shape[1]),
        lambda draw: draw_batch(config, pool, draw),
        diffusion_loss(config, pool, features, device), held.figures, held.picture, means,
    )  # fmt: skip
    if main_process():
        save_weights(ema, Path(config.output_dir) / "denoiser.safetensors")
        pipeline = copy.deepcopy(make_pipeline(ema, pool)).to(torch.float16)  # the next run reads the pool's networks
        save_folder(pipeline, Path(config.output_dir) / "pipeline")


BASES = ("small", "sd")  # which recipe runs


def asked_base(arguments: Sequence[str]) -> str:
    """The `base` of `--config FILE --set base=...`; small when nothing says otherwise or the file cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default="")
    parser.add_argument("--base")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    known = parser.parse_known_args(arguments)[0]
    try:
        said = {**read_values(known.config), **parse_overrides(known.overrides)}
    except InputError:
        said = {}  # run_script says what is wrong with it
    return str(known.base or said.get("base", "small"))


def run_chosen() -> None:
    """The recipe that `base` names, this one or Stable Diffusion's."""
    base = asked_base(sys.argv[1:])
    if base not in BASES:  # before the config is read: its keys are another recipe's
        print(f"error: base: {base} is unknown; use one of {', '.join(BASES)}", file=sys.stderr)
        raise SystemExit(2)
    if base == "sd":
        import sd_recipe

        run_script(sd_recipe.main, sd_recipe.SDConfig)
    else:
        run_script(main, DiffusionConfig)


if __name__ == "__main__":
    run_chosen()
