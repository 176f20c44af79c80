"""What is random in training: every sample has a generator of its own, seeded by (seed, step, its place in the batch).

The whole batch of a step is train_batch_size x processes x gradient_accumulation_steps samples. However it is split,
the same samples with the same noise are drawn, so that two processes, one process with twice the batch and one with
two accumulated micro-batches train alike, and a killed run goes on as if nothing had happened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMScheduler

from idinpaint.types import InputError

# First word after the seed, so that no two uses share a stream.
SAMPLE, STEP, NETWORK, POOL, MEASURE = 1, 2, 3, 4, 5


def stream(seed: int, use: int, *numbers: int) -> np.random.Generator:
    """The generator of one use (SAMPLE, STEP, ...) at these numbers; at most two numbers."""
    return np.random.default_rng([seed, use, *numbers])


@dataclass(frozen=True)
class Draw:
    """The part of a step's whole batch that one process takes at once: samples `first` to `first + size - 1`."""

    seed: int
    step: int
    first: int
    size: int  # samples in this micro-batch
    total: int  # samples in the whole batch

    def generators(self) -> list[np.random.Generator]:
        """One fresh generator a sample."""
        return [stream(self.seed, SAMPLE, self.step, self.first + i) for i in range(self.size)]

    def common(self) -> np.random.Generator:
        """A generator for what all samples of the step share, such as the place of a window."""
        return stream(self.seed, STEP, self.step)

    def seed_torch(self) -> None:
        """Seed torch for what a network draws inside (dropout): repeatable, but not the same for every split."""
        torch.manual_seed(int(stream(self.seed, NETWORK, self.step, self.first).integers(2**31)))

    def chosen(self, count: int, name: str) -> torch.Tensor:
        """Places in this micro-batch of those among `count` samples of the whole batch, spread evenly: [n] int64.

        Every micro-batch holds as many, so that a mean over them is the mean over the whole batch. A count above the
        whole batch takes it all. Raises InputError (about the setting `name`) when they cannot be shared out.
        """
        count, parts = min(count, self.total), self.total // self.size
        if count % parts:
            raise InputError(
                f"{name}: {count} samples of the whole batch cannot be shared by {parts} micro-batches "
                f"(processes x gradient_accumulation_steps); set a multiple of {parts}"
            )
        places = range(self.first, self.first + self.size)
        taken = [n - self.first for n in places if (n + 1) * count // self.total > n * count // self.total]
        return torch.tensor(taken, dtype=torch.int64)


def standard_normal(generators: list[np.random.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Noise [B, *shape] float32, each sample's from its own generator."""
    return torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in generators]))


def make_scheduler() -> DDIMScheduler:
    """v-prediction with zero terminal SNR (Lin et al. 2023): sampling starts at pure noise, as training does."""
    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True,
    )  # fmt: skip
