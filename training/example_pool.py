"""Examples for the diffusion: what the frozen networks make of photos and masks, computed ahead of the steps.

A pool is a function of (seed, its number). With several processes each makes a part of it, and all gather the whole.
"""

from __future__ import annotations

import numpy as np
import torch
from accelerate.utils import gather
from diffusion_config import DiffusionConfig
from loop_config import process_state
from network_files import load_frozen, load_prior
from photo_source import FaceConditions, PhotoSource
from sampling import MEASURE, POOL, stream

from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import build_conditions, stage_one
from idinpaint.models.tensors import to_tensor

CHUNK = 16  # examples that pass the frozen networks together, always as many, so that a pool is the same everywhere
KEYS = ("residual", "channels", "touched", "points", "id_embed", "image", "mask")


class ExamplePool:
    """Frozen networks and the examples that they make of photos and masks."""

    def __init__(self, config: DiffusionConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.source = PhotoSource(config, 256, config.max_ratio, config.feature_masks)
        self.autoencoder = load_frozen(FaceAutoencoder(), config.autoencoder, device, "detail.")
        self.prior = load_prior(config.prior, device)
        self.faces = FaceConditions(config, self.source, device, skin=bool(config.skin_weight), bf16=True)
        self.keys = (*KEYS, "skin") if config.skin_weight else KEYS
        self.number, self.examples = -1, {}
        if config.residual_std:
            self.residual_std = torch.tensor(config.residual_std)
        else:
            self.residual_std = self._measure(self.build(MEASURE, 0, 256))

    @torch.no_grad()
    def _chunk(self, generators: list[np.random.Generator]) -> tuple[torch.Tensor, ...]:
        """One example a generator, in the order of `keys`."""
        index, photos, holes = self.source.draw(generators)
        image = to_tensor(photos).to(self.device)
        mask = torch.from_numpy(holes[:, None]).float().to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            made = build_conditions(self.autoencoder, stage_one(self.prior, image * (1 - mask), mask), image, mask)
            target = self.autoencoder.encode(image)
        visible, points = self.faces.read(image, mask)
        shares = (self.config.reference_share, self.config.drop_identity)
        embeds = self.faces.identities(generators, index, visible, *shares)
        residual = target.float() - made.prior_latents.float()
        values = (residual, made.channels, made.touched, points, embeds, image, mask)
        return (*values, self.faces.skin(image)) if "skin" in self.keys else values

    def build(self, use: int, number: int, count: int) -> dict[str, torch.Tensor]:
        """Make `count` examples, rounded up to whole chunks, half precision on the CPU; the residual is not scaled."""
        state, chunks = process_state(), -(-count // CHUNK)
        mine = range(state.process_index, -(-chunks // state.num_processes) * state.num_processes, state.num_processes)
        parts: dict[str, list[torch.Tensor]] = {key: [] for key in self.keys}
        for chunk in mine:
            generators = [stream(self.config.seed, use, number, chunk * CHUNK + i) for i in range(CHUNK)]
            for key, value in zip(self.keys, self._chunk(generators), strict=True):
                parts[key].append(value.half().cpu())
        out = {}
        for key, values in parts.items():
            whole = gather(torch.stack(values).to(self.device)).cpu()  # (processes * c, CHUNK, ...), process by process
            whole = whole.view(state.num_processes, -1, *whole.shape[1:]).transpose(0, 1).flatten(0, 2)
            out[key] = whole[: chunks * CHUNK]
        return out

    @staticmethod
    def _measure(examples: dict[str, torch.Tensor]) -> torch.Tensor:
        """Standard deviation of the residual in touched cells, a number a channel."""
        hole = examples["touched"].float()
        return ((examples["residual"].float().square() * hole).sum((0, 2, 3)) / hole.sum()).sqrt()

    def batch(self, generators: list[np.random.Generator], step: int, batch_size: int) -> dict[str, torch.Tensor]:
        """One example a generator, from the pool of this step; a pool serves pool_passes passes of whole batches."""
        number = step // max(1, self.config.pool_size * self.config.pool_passes // batch_size)
        if number != self.number:
            self.examples = {}  # room for the next
            examples = self.build(POOL, number, self.config.pool_size)
            scaled = examples["residual"].float() / self.residual_std.view(1, -1, 1, 1)
            self.examples, self.number = {**examples, "residual": scaled.half()}, number
        index = torch.tensor([int(rng.integers(len(self.examples["residual"]))) for rng in generators])
        return {key: value[index].float() for key, value in self.examples.items()}

    def held_examples(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(image, mask, landmarks, identity of the visible part) of photos [N, 3, 256, 256] under fixed masks."""
        holes = self.source.held_holes(len(image), self.config.max_ratio)
        mask = torch.from_numpy(holes[:, None]).float()
        embeds, points = self.faces.read(image, mask)
        return image, mask, points, embeds
