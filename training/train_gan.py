"""Train any system of the GAN family: pconv, pdgan, pdgan-face, encdec, lafin. See configs/pdgan-face.yaml."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from checkpoints import save_folder
from engine import main_process, run_script, save_weights, train_networks, training_device
from gan_examples import ExamplePool, GanConfig
from gan_steps import GanLosses, paint
from places import find_file
from run_log import picture_grid
from torch import nn
from train_prior import hole_psnr

from idinpaint.models.discriminator import Discriminator
from idinpaint.models.gan import SYSTEMS, needs_landmarks, needs_prior
from idinpaint.models.pconv import PConvPrior


def build_generator(config: GanConfig) -> nn.Module:
    """The untrained generator of `config.system`."""
    options: dict[str, Any] = {} if config.widths is None else {"widths": config.widths}
    if needs_prior(config.system):
        options["variant"] = "face" if config.system == "pdgan-face" else "plain"
        names = ("modulation_width", "modulation_kernel", "pyramid", "residual", "latent_levels", "skips", "rank_share")
        options |= {name: getattr(config, name) for name in names}
        if config.prior_features:
            widths = PConvPrior.load_config(find_file("prior", config.prior), local_files_only=True)["widths"]
            options["prior_features"] = tuple(widths[-2::-1])[-len(config.widths or widths) :]
    elif config.blocks is not None:
        options["blocks"] = config.blocks
    return SYSTEMS[config.system](**options)


class Validation:
    """The same photos of the validation people under the same holes and latents, whatever the step."""

    def __init__(self, config: GanConfig, pool: ExamplePool, losses: GanLosses, device: torch.device) -> None:
        self.config, self.losses = config, losses
        self.held = {name: value.to(device) for name, value in pool.held_out(config.validation_photos).items()}

    @torch.no_grad()
    def figures(self, generator: nn.Module) -> dict[str, float]:
        """Of the generator, the prior's beside them."""
        image, mask, count = self.held["image"], self.held["mask"], len(self.held["image"])
        parts = []
        for index in torch.arange(count, device=image.device).split(8):
            batch = {name: value[:, index] if name == "z" else value[index] for name, value in self.held.items()}
            parts.append(paint(self.config.system, generator, batch, 0).clamp(-1, 1))
        masked = image * (1 - mask)
        predicted = {"val": torch.cat(parts)} | {n: self.held[n] for n in ("prior", "teacher") if n in self.held}
        columns, figures = [masked], {}
        for name, pictures in sorted(predicted.items()):
            inpainted = masked + pictures * mask
            figures[f"{name}_hole_psnr"] = hole_psnr(pictures, image, mask)
            figures[f"{name}_perceptual"] = self.losses.distance(inpainted, image)
            columns.append(inpainted)
        self.columns = [*columns, image]
        return figures

    def picture(self, generator: nn.Module) -> np.ndarray:
        """Columns of what `figures` looked at: masked, (prior), painted, true."""
        return picture_grid([column[:6] for column in self.columns])


def build_networks(config: GanConfig) -> dict[str, nn.Module]:
    """Generator and discriminator; laid out by channels, which is 1.2 x as fast with the norm over channels."""
    generator = build_generator(config)
    build_generator(config)  # for its random numbers: the discriminator starts as it did in the shipped runs
    discriminator = Discriminator(5 if needs_landmarks(config.system) else 4, config.discriminator_width)
    nets = {"generator": generator, "discriminator": discriminator}
    return {name: net.to(memory_format=torch.channels_last) for name, net in nets.items()}


def main(config: GanConfig) -> None:
    """Train, write the generator's average as a diffusers folder (`generator/`) and as generator.safetensors."""
    config.prepare()
    device = training_device()
    losses, pool = GanLosses(config, device), ExamplePool(config, device)
    held = Validation(config, pool, losses, device)
    generator = train_networks(
        config, lambda: build_networks(config), pool.batch, losses, held.figures, held.picture, look_first=True
    )
    if main_process():
        save_weights(generator, f"{config.output_dir}/generator.safetensors")
        save_folder(generator.to("cpu"), f"{config.output_dir}/generator")


if __name__ == "__main__":
    run_script(main, GanConfig)
