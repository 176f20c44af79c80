"""A recipe that trains in seconds: fill holes in 16 px patches of a photo. Run as the real training scripts are."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import skimage.data
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train, training_device  # noqa: E402
from equations.pictures import hole_l1  # noqa: E402
from run_log import picture_grid  # noqa: E402
from sampling import standard_normal  # noqa: E402

from idinpaint.imaging.masks import random_mask  # noqa: E402
from idinpaint.models.tensors import to_tensor  # noqa: E402


@dataclass
class TinyConfig(LoopConfig):
    """Settings of the recipe; the last three make it fail on purpose."""

    SHARED: ClassVar[tuple[str, ...]] = ("chosen_samples",)
    DATA: ClassVar[bool] = False

    batch_norm: bool = False
    chosen_samples: int = 4
    kill_at: int = -1  # SIGKILL while the batch of this step is made
    kill_in_save: int = -1  # SIGKILL while the checkpoint of this step is half written
    nan_at: int = -1


def build(config: TinyConfig) -> nn.Module:
    """A small convolutional network on masked image and mask."""
    norm = nn.BatchNorm2d(8) if config.batch_norm else nn.GroupNorm(2, 8)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))


def kill_while_saving(step: int) -> None:
    """Make the optimizer's file, which comes after the weights, fatal in the checkpoint of this step."""
    real = torch.save

    def save(state: object, path: Path) -> None:
        if path.parent.name == f"checkpoint-{step}.tmp":
            os.kill(os.getpid(), signal.SIGKILL)
        real(state, path)

    torch.save = save


def main(config: TinyConfig) -> None:
    """Train and write tiny.safetensors."""
    config.prepare()
    photo = skimage.data.astronaut()[:128, 160:288]
    device = training_device()  # asked for before `train`, as the recipes do
    held = to_tensor(photo[None, 32:96, 32:96])
    held_mask = torch.zeros(1, 1, 64, 64)
    held_mask[..., 20:40, 20:40] = 1
    if config.kill_in_save >= 0:
        kill_while_saving(config.kill_in_save)

    def make_batch(draw: Draw) -> Batch:
        if draw.step == config.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        generators = draw.generators()
        corners = [rng.integers(0, 112, 2) for rng in generators]
        images = to_tensor(np.stack([photo[y : y + 16, x : x + 16] for y, x in corners]))
        masks = np.stack([random_mask(rng, 64)[::4, ::4] for rng in generators])
        noisy = images + 0.1 * standard_normal(generators, (3, 16, 16))
        rows = draw.chosen(config.chosen_samples, "chosen_samples")
        return {"image": images, "noisy": noisy, "mask": torch.from_numpy(masks[:, None]).float(), "rows": rows}

    def loss_function(model: nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        image, mask, rows = batch["image"], batch["mask"], batch["rows"]
        predicted = model(torch.cat([batch["noisy"] * (1 - mask), mask], 1))
        l1 = hole_l1(predicted, image, mask, hole_share=batch["mean_mask"])
        square = (predicted[rows] - image[rows]).square().mean()
        return l1 + 0.5 * square + (float("nan") if step == config.nan_at else 0.0), {"l1": l1, "square": square}

    @torch.no_grad()
    def restore(model: nn.Module) -> torch.Tensor:
        return model(torch.cat([held * (1 - held_mask), held_mask], 1).to(device)).cpu()

    def validate(model: nn.Module) -> dict[str, float]:
        return {"val_l1": float((restore(model) - held).abs().mean())}

    def picture(model: nn.Module) -> np.ndarray:
        return picture_grid([held * (1 - held_mask), restore(model), held])

    model = train(config, lambda: build(config), make_batch, loss_function, validate, picture, ("mask",))
    if main_process():
        save_weights(model, f"{config.output_dir}/tiny.safetensors")


if __name__ == "__main__":
    run_script(main, TinyConfig)
