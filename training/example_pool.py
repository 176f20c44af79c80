"""Examples for the diffusion: what the frozen networks make of photos and masks, computed ahead of the steps.

A pool is a function of (seed, its number). With several processes each makes a part of it, and all gather the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils import gather
from face_conditions import draw_identity, people_of, skin_of
from identity_terms import align_faces, load_frozen, load_prior
from loop_config import process_state
from run_log import progress
from sampling import MEASURE, POOL, stream
from train_prior import jitter

from idinpaint.data.photos import PhotoEntry, load_training_masks
from idinpaint.faces.parsing import PARSING_CLASSES
from idinpaint.imaging.masks import feature_block, random_mask
from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import build_conditions, stage_one
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.tensors import to_tensor

if TYPE_CHECKING:
    from train_diffusion import DiffusionConfig

CHUNK = 16  # examples that pass the frozen networks together, always as many, so that a pool is the same everywhere
KEYS = ("residual", "channels", "touched", "points", "id_embed", "image", "mask")


class ExamplePool:
    """Frozen networks and the examples that they make of photos and masks."""

    def __init__(
        self, config: DiffusionConfig, entries: list[PhotoEntry], photos: np.ndarray, device: torch.device
    ) -> None:
        self.config, self.photos, self.device = config, photos, device
        self.masks = load_training_masks(config.train_data_dir, config.splits_dir)
        self.autoencoder = load_frozen(FaceAutoencoder(), config.autoencoder, device, "detail.")
        self.prior = load_prior(config.prior, device)
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device)
        self.identity = load_frozen(IdentityNet(), config.identity, device)
        classes = len(PARSING_CLASSES)
        self.parser = load_frozen(FaceMaps(classes), config.parsing, device) if config.skin_weight else None
        self.keys = (*KEYS, "skin") if self.parser is not None else KEYS
        self.same_person = people_of(entries)
        empty = torch.zeros(32, 1, 256, 256)
        starts = progress(range(0, len(photos), 32), -(-len(photos) // 32), "reading the photos' identities")
        parts = (to_tensor(photos[i : i + 32]) for i in starts)
        self.embeddings = torch.cat([self._embed(part, empty[: len(part)])[0] for part in parts])
        self.number, self.examples = -1, {}
        if config.residual_std:
            self.residual_std = torch.tensor(config.residual_std)
        else:
            self.residual_std = self._measure(self.build(MEASURE, 0, 256))

    @torch.no_grad()
    def _embed(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The identity of the visible part [B, D] and predicted landmarks [B, 68, 2] in crop px."""
        image = image.to(self.device) * (1 - mask.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16):
            points = expected_points(self.landmarker(image, mask.to(self.device)))[0].float() * 4 + 1.5
            return self.identity(align_faces(image, points)).float().cpu(), points.cpu()

    @torch.no_grad()
    def _chunk(self, generators: list[np.random.Generator]) -> tuple[torch.Tensor, ...]:
        """One example a generator, in the order of `keys`."""
        index = [int(rng.integers(len(self.photos))) for rng in generators]
        pairs = zip(generators, index, strict=True)
        image = to_tensor(np.stack([jitter(rng, self.photos[i]) for rng, i in pairs])).to(self.device)
        mask = torch.from_numpy(np.stack([self._hole(rng) for rng in generators])[:, None]).float().to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            made = build_conditions(self.autoencoder, stage_one(self.prior, image * (1 - mask), mask), image, mask)
            target = self.autoencoder.encode(image)
        visible, points = self._embed(image, mask)
        shares = (self.config.reference_share, self.config.drop_identity)
        rows = zip(generators, index, visible, strict=True)
        embeds = [draw_identity(rng, self.embeddings, self.same_person[i], v, *shares) for rng, i, v in rows]
        residual = target.float() - made.prior_latents.float()
        values = (residual, made.channels, made.touched, points, torch.stack(embeds), image, mask)
        return values if self.parser is None else (*values, skin_of(self.parser, image))

    def _hole(self, rng: np.random.Generator) -> np.ndarray:
        """A training mask; a share `feature_masks` hides a whole feature, of which only the identity can tell."""
        if self.config.feature_masks and rng.random() < self.config.feature_masks:
            return feature_block(rng, 256)
        return random_mask(rng, 256, self.masks, self.config.max_ratio)

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
        rng = np.random.default_rng(1)
        holes = np.stack([random_mask(rng, 256, self.masks, self.config.max_ratio) for _ in image])
        mask = torch.from_numpy(holes[:, None]).float()
        embeds, points = self._embed(image, mask)
        return image, mask, points, embeds
