"""Train the dense face networks: `task: landmarks` (68 heatmaps) or `task: parsing`. See configs/landmarks.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train
from equations.pictures import heatmap_cross_entropy
from run_log import picture_grid

from idinpaint.data.photos import (
    list_identity_folders,
    list_photos,
    load_photos,
    load_training_masks,
    read_split,
    training_photos,
    validation_photos,
    with_labels,
    with_landmarks,
)
from idinpaint.data.prepared import prepared_folders
from idinpaint.faces.parsing import PARSING_CLASSES, read_parts, upsample
from idinpaint.imaging.masks import random_mask
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.tensors import to_tensor
from idinpaint.types import InputError

# iBUG-68 index of each point in the mirrored picture.
FLIP68 = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
)  # fmt: skip


@dataclass
class FaceMapsConfig(LoopConfig):
    """Settings of the landmark and parsing recipes."""

    task: str = "landmarks"
    point_weight: float = 0.05
    max_rotation_deg: float = 30.0
    max_scale: float = 0.2
    max_shift: float = 0.12
    masked_share: float = 0.75

    def result_file(self) -> str:
        """By the task."""
        return f"{self.task}.safetensors"

    def prepare(self) -> None:
        """As in every recipe, and the task."""
        if self.task not in ("landmarks", "parsing"):
            raise InputError(f"task {self.task}: use landmarks or parsing")
        super().prepare()


def augment(
    rng: np.random.Generator, config: FaceMapsConfig, photo: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Random similarity, flip and tone of a photo with its points [68, 2] or labels [256, 256]."""
    side = photo.shape[0]
    angle = rng.uniform(-1, 1) ** 3 * config.max_rotation_deg
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1 + rng.uniform(-1, 1) * config.max_scale)
    matrix[:, 2] += rng.uniform(-1, 1, 2) * config.max_shift * side
    photo = cv2.warpAffine(photo, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)
    if config.task == "landmarks":
        target = target @ matrix[:, :2].T + matrix[:, 2]
    else:
        target = cv2.warpAffine(target, matrix, (side, side), flags=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
        if config.task == "landmarks":
            target = (target * [-1, 1] + [side - 1, 0])[list(FLIP68)]
        else:
            swap = np.arange(len(PARSING_CLASSES), dtype=np.uint8)
            swap[[2, 3, 4, 5]] = [3, 2, 5, 4]
            target = swap[target[:, ::-1]]
    tone = photo.astype(np.float32) * rng.uniform(0.7, 1.3) + rng.uniform(-20, 20)
    if rng.random() < 0.15:
        tone = np.repeat(tone.mean(-1, keepdims=True), 3, -1)
    return tone.clip(0, 255).astype(np.uint8), target


def load_examples(config: FaceMapsConfig, held_out: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Photos [N, 256, 256, 3] and their targets; `held_out` takes the validation people and photos instead."""
    data, splits = Path(config.train_data_dir), Path(config.splits_dir)
    if prepared_folders(data):
        entries = validation_photos(data, splits) if held_out else training_photos(data, splits)
        entries, targets = with_labels(entries) if config.task == "parsing" else with_landmarks(entries, data)
        return load_photos(entries), targets
    root = data / "CelebAMask-HQ"
    test_photos = read_split(splits / "celebamask_test.txt")
    annotated = [e for e in list_photos(root / "CelebA-HQ-img", test_photos)]
    validation = {e.key for e in annotated[::18]}
    entries = [e for e in annotated if (e.key in validation) == held_out]
    if config.task == "parsing":
        return load_photos(entries), [read_parts(root, int(e.path.stem)) for e in entries]
    held_people = set(read_split(splits / "celeba_id256_val.txt"))
    people = list_identity_folders(data / "celeba_id256", read_split(splits / "celeba_id256_test.txt"))
    entries += [e for e in people if (e.person in held_people) == held_out]
    entries, points = with_landmarks(entries, data)
    return load_photos(entries), points


class FaceMapsTask:
    """The data and the loss of a run: what `train` calls."""

    def __init__(self, config: FaceMapsConfig) -> None:
        self.config, self.landmarks = config, config.task == "landmarks"
        self.photos, self.targets = load_examples(config, held_out=False)
        self.masks = load_training_masks(config.train_data_dir, config.splits_dir)
        held_photos, held_targets = load_examples(config, held_out=True)
        count = min(96, len(held_photos))
        self.held = self.assemble([np.random.default_rng(7)] * count, range(count), held_photos, held_targets)

    def build(self) -> FaceMaps:
        """The network to train."""
        return FaceMaps(68 if self.landmarks else len(PARSING_CLASSES))

    def assemble(
        self,
        generators: Sequence[np.random.Generator],
        index: Sequence[int],
        source: np.ndarray,
        goals: list[np.ndarray],
    ) -> Batch:
        """`index` of the source photos, changed at random, with their masks and targets."""
        pairs = [augment(rng, self.config, source[i], goals[i]) for rng, i in zip(generators, index, strict=True)]
        empty = np.zeros((256, 256), bool)
        holes = [
            random_mask(r, 256, self.masks) if r.random() < self.config.masked_share else empty for r in generators
        ]
        target = np.stack([p[1] for p in pairs])
        return {
            "image": to_tensor(np.stack([p[0] for p in pairs])),
            "mask": torch.from_numpy(np.stack(holes)[:, None]).float(),
            # cell i of the 64 px map is centred on crop px 4 i + 1.5
            "target": torch.from_numpy((target - 1.5) / 4).float()
            if self.landmarks
            else torch.from_numpy(target.astype(np.int64)),
        }

    def make_batch(self, draw: Draw) -> Batch:
        """Photos, masks and targets."""
        generators = draw.generators()
        return self.assemble(
            generators, [int(rng.integers(len(self.photos))) for rng in generators], self.photos, self.targets
        )

    def loss_function(self, model: torch.nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        """The loss and its terms."""
        logits = model(batch["image"], batch["mask"])
        if not self.landmarks:  # at the crop's own pixels, as FaceParser reads the maps
            return F.cross_entropy(upsample(logits.float()), batch["target"]), {}
        cross_entropy = heatmap_cross_entropy(logits, batch["target"], sigma=1.2)
        points, _ = expected_points(logits)
        inside = ((batch["target"] >= 0) & (batch["target"] <= 63)).all(-1, keepdim=True)
        distance = ((points - batch["target"]).abs() * inside).mean()
        return cross_entropy + self.config.point_weight * distance, {"cells": distance}

    @torch.no_grad()
    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures of the held photos."""
        device = next(model.parameters()).device
        logits = model(self.held["image"].to(device), self.held["mask"].to(device)).cpu()
        if self.landmarks:
            points, _ = expected_points(logits)
            goal = self.held["target"]
            between = (goal[:, 36:42].mean(1) - goal[:, 42:48].mean(1)).norm(dim=-1)
            return {"val_nme_percent": float(100 * ((points - goal).norm(dim=-1).mean(1) / between).mean())}
        labels, goal = upsample(logits).argmax(1), self.held["target"]
        scores = {}
        for index, name in enumerate(PARSING_CLASSES):
            both, either = ((labels == index) & (goal == index)).sum(), ((labels == index) | (goal == index)).sum()
            scores[f"iou_{name}"] = round(float(both / either.clamp(min=1)), 4)
        return scores

    @torch.no_grad()
    def picture(self, model: torch.nn.Module) -> np.ndarray:
        """Columns: photo, masked, what the network sees."""
        image, mask = (self.held[key][:6].to(next(model.parameters()).device) for key in ("image", "mask"))
        logits = model(image, mask)
        if self.landmarks:
            maps = logits.flatten(2).softmax(-1).view_as(logits)
            shown = (maps / maps.amax((2, 3), keepdim=True)).amax(1, keepdim=True)  # every point's peak is white
        else:
            shown = logits.argmax(1, keepdim=True).float() / (len(PARSING_CLASSES) - 1)
        shown = F.interpolate(shown, size=image.shape[-2:]).expand_as(image) * 2 - 1
        return picture_grid([image, image * (1 - mask), shown])


def main(config: FaceMapsConfig) -> None:
    """Load, train, write landmarks.safetensors or parsing.safetensors into the run folder."""
    config.prepare()
    task = FaceMapsTask(config)
    ema = train(config, task.build, task.make_batch, task.loss_function, task.validate, task.picture)
    if main_process():
        save_weights(ema, f"{config.output_dir}/{config.task}.safetensors")


if __name__ == "__main__":
    run_script(main, FaceMapsConfig)
