"""Train the network that finds damage, on damage drawn over the training photos. See configs/damage.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train
from run_log import picture_grid

from idinpaint.damage.prints import damaged_print
from idinpaint.damage.synthetic import log_uniform
from idinpaint.data.photos import load_photos, training_photos, validation_photos
from idinpaint.models.damage_net import DamageNet
from idinpaint.models.tensors import to_tensor

PHOTO = 512  # px, side at which the photos are kept; smaller ones come out soft, as large scans are


@dataclass
class DamageConfig(LoopConfig):
    """Settings of the recipe."""

    RESULT = "damage.safetensors"

    crop: int = 160  # px, side of what the network sees
    widest: int = 400  # px of a photo of 512 that a crop may show
    photos: int = 1500  # at most, spread evenly over the sets
    damaged_share: float = 0.8
    marked_share: float = 0.3  # prints with writing or a margin
    things_share: float = 0.0  # photos with things drawn in that are no damage
    rims_share: float = 0.0  # of those things, of which helmets, collars, straps and frames of glasses are like
    dice_weight: float = 0.5


def crop(rng: np.random.Generator, photo: np.ndarray, size: int, widest: int) -> np.ndarray:
    """A part of the photo [512, 512, 3], up to `widest` px of it, flipped and turned: uint8 [size, size, 3]."""
    side = int(log_uniform(rng, size * 0.75, widest))
    y, x = (int(v) for v in rng.integers(0, PHOTO - side + 1, 2))
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    part = cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=how)
    part = np.rot90(part, int(rng.choice([0, 1, 2, 3], p=[0.82, 0.07, 0.04, 0.07])))
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def detection_loss(
    logits: torch.Tensor, mask: torch.Tensor, certain: torch.Tensor, dice_weight: float
) -> tuple[torch.Tensor, Terms]:
    """Cross-entropy and soft Dice (Milletari et al. 2016) over the certain pixels of all photos together.

    logits, mask, certain: [B, 1, H, W], the last two in {0, 1}.
    """
    logits = logits.float()
    entropy = (F.binary_cross_entropy_with_logits(logits, mask, reduction="none") * certain).sum() / certain.sum()
    share = torch.sigmoid(logits) * certain
    dice = 1 - (2 * (share * mask).sum() + 1) / ((share + mask * certain).sum() + 1)
    return entropy + dice_weight * dice, {"entropy": entropy, "dice": dice}


def main(config: DamageConfig) -> None:
    """Load, train, write damage.safetensors into the run folder."""
    config.prepare()
    entries = training_photos(config.train_data_dir, config.splits_dir)
    photos = load_photos(entries[:: -(-len(entries) // config.photos)], PHOTO)
    held_entries = validation_photos(config.train_data_dir, config.splits_dir)
    held_photos = load_photos(held_entries[:: -(-len(held_entries) // 64)], PHOTO)

    shares = config.damaged_share, config.marked_share, config.things_share, config.rims_share

    def assemble(generators: Sequence[np.random.Generator], index: Sequence[int], source: np.ndarray) -> Batch:
        made = [
            damaged_print(rng, crop(rng, source[i], config.crop, config.widest), *shares)
            for rng, i in zip(generators, index, strict=True)
        ]
        prints, masks, certain = (np.stack(part) for part in zip(*made, strict=True))
        return {
            "image": to_tensor(prints),
            "mask": torch.from_numpy(masks[:, None]).float(),
            "certain": torch.from_numpy(certain[:, None]).float(),
        }

    def make_batch(draw: Draw) -> Batch:
        generators = draw.generators()
        return assemble(generators, [int(rng.integers(len(photos))) for rng in generators], photos)

    def loss_function(model: torch.nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        logits = model(batch["image"].contiguous(memory_format=torch.channels_last))
        return detection_loss(logits, batch["mask"], batch["certain"], config.dice_weight)

    count = len(held_photos)
    held = assemble([np.random.default_rng([7, i]) for i in range(count)], range(count), held_photos)

    @torch.no_grad()
    def scores(model: torch.nn.Module) -> torch.Tensor:
        device = next(model.parameters()).device
        return torch.cat([model(part.to(device)).float().cpu() for part in held["image"].split(8)])

    def validate(model: torch.nn.Module) -> dict[str, float]:
        found, mask, certain = scores(model) > 0, held["mask"] > 0, held["certain"] > 0
        hits = float((found & mask & certain).sum())
        precision = hits / max(1.0, float((found & certain).sum()))
        recall = hits / max(1.0, float((mask & certain).sum()))
        f1 = 2 * precision * recall / max(1e-6, precision + recall)
        return {"val_precision": round(precision, 4), "val_recall": round(recall, 4), "val_f1": round(f1, 4)}

    def picture(model: torch.nn.Module) -> np.ndarray:
        found = torch.sigmoid(scores(model)[:6]).expand(-1, 3, -1, -1) * 2 - 1
        return picture_grid([held["image"][:6], found, held["mask"][:6].expand(-1, 3, -1, -1) * 2 - 1])

    def build() -> torch.nn.Module:
        return DamageNet().to(memory_format=torch.channels_last)  # a third faster on a CPU

    ema = train(config, build, make_batch, loss_function, validate, picture)
    if main_process():
        save_weights(ema, f"{config.output_dir}/{config.result_file()}", torch.float16)


if __name__ == "__main__":
    run_script(main, DamageConfig)
