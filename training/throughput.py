"""Time of a training step beside diffusers' own loop, around the same UNet on the same latents, in one run.

    python training/throughput.py --config configs/diffusion.yaml --phase id3 [--rounds=20] [--key=value]...

Three loops take turns, a step each, so that a busy machine slows all alike: the loop of diffusers' text-to-image
example (noise, UNet, MSE, backward, clipping, AdamW, learning-rate schedule, EMA), ours with the losses in pixels off,
and ours with those of the config. Each has its own copy of the network. Prints the median times and their ratios.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from engine import run_script, training_device
from example_pool import ExamplePool
from sampling import Draw
from train_diffusion import Denoiser, DiffusionConfig, diffusion_loss, draw_batch, make_scheduler
from trainer import Trainer

from idinpaint.data.photos import load_photos, training_photos
from idinpaint.losses.pictures import AlexFeatures


@dataclass
class ThroughputConfig(DiffusionConfig):
    """The recipe's settings, and how often each loop takes its turn."""

    RESULT: ClassVar[str] = ""  # it only measures

    rounds: int = 20
    photos: int = 64  # read for the examples


def diffusers_step(config: ThroughputConfig, denoiser: Denoiser, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """One step of diffusers 0.42's examples/text_to_image/train_text_to_image.py, latents and tokens being given."""
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    unet, scheduler = denoiser.unet, make_scheduler()
    unet.requires_grad_(True).train()
    ema = EMAModel(unet.parameters(), decay=config.ema_decay)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    rates = get_scheduler(
        "cosine", optimizer, num_warmup_steps=config.lr_warmup_steps, num_training_steps=config.max_train_steps
    )
    unet, optimizer, rates = accelerator.prepare(unet, optimizer, rates)
    with torch.no_grad():
        tokens = denoiser.id_tokens(batch["id_embed"])

    def step() -> None:
        latents = batch["residual"]
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(latents),))
        noisy = scheduler.add_noise(latents, noise, timesteps)
        target = scheduler.get_velocity(latents, noise, timesteps)
        with accelerator.autocast():
            predicted = unet(torch.cat([noisy, batch["maps"]], 1), timesteps, tokens, return_dict=False)[0]
            loss = F.mse_loss(predicted.float(), target.float())
        accelerator.gather(loss.detach()).mean().item()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), config.max_grad_norm)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())

    return step


def our_step(config: ThroughputConfig, pool: ExamplePool, features: AlexFeatures, folder: str) -> Callable[[], None]:
    """One step of the Trainer, its examples drawn from the pool."""
    own = replace(config, output_dir=folder, report_to="none", resume_from_checkpoint=None, init_from=None)
    trainer = Trainer(own, lambda: Denoiser(own, pool.autoencoder, pool.embeddings.shape[1]))
    means = ("window_mask", "window_skin") if own.skin_weight else ("window_mask",)
    loss, steps = diffusion_loss(own, pool, features, trainer.device), iter(range(10**9))

    def step() -> None:
        number = next(steps)
        made = trainer.micro_batches(number, lambda draw: draw_batch(own, pool, draw), means)
        trainer.step(number, made, loss)

    return step


def main(config: ThroughputConfig) -> None:
    """Take turns, print JSON."""
    config.prepare()
    torch.set_num_threads(max(1, config.threads))
    device = training_device()
    entries = training_photos(config.train_data_dir, config.splits_dir)[: config.photos]
    pool = ExamplePool(config, entries, load_photos(entries), device)
    features = AlexFeatures(config.perceptual_features)
    fixed = draw_batch(config, pool, Draw(config.seed, 0, 0, config.train_batch_size, config.train_batch_size))
    fixed = {name: value.to(device) for name, value in fixed.items()}
    with tempfile.TemporaryDirectory() as folder:
        theirs = diffusers_step(config, Denoiser(config, pool.autoencoder, pool.embeddings.shape[1]).to(device), fixed)
        plain = our_step(replace(config, pixel_samples=0), pool, features, str(Path(folder) / "plain"))
        whole = our_step(config, pool, features, str(Path(folder) / "whole"))
        loops = {"diffusers": theirs, "losses_in_pixels_off": plain, "all_losses": whole}
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for turn in range(config.rounds + 2):
            for name, step in loops.items():
                start = time.perf_counter()
                step()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if turn >= 2:  # after warming up
                    seconds[name].append(time.perf_counter() - start)
    mean = {name: sum(values) / len(values) for name, values in seconds.items()}
    out = {name: {"s_a_step": round(value, 3)} for name, value in mean.items()}
    out["throughput_off"] = round(mean["diffusers"] / mean["losses_in_pixels_off"], 3)
    out["time_all"] = round(mean["all_losses"] / mean["losses_in_pixels_off"], 3)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    run_script(main, ThroughputConfig)
