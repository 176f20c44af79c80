"""The settings that every recipe shares, under the names of diffusers' training scripts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from idinpaint.types import InputError


@dataclass
class LoopConfig:
    """Settings of the loop; every recipe's dataclass extends this one."""

    output_dir: str = "runs/unnamed"
    train_data_dir: str = "../shared/data"
    splits_dir: str = "configs/splits"
    init_from: str | None = None  # safetensors file to start from
    resume_from_checkpoint: str | None = "latest"  # latest, a checkpoint's folder, or none
    seed: int = 0
    max_train_steps: int = 1000
    train_batch_size: int = 16  # samples a process takes at once
    gradient_accumulation_steps: int = 1  # such batches before a step
    gradient_checkpointing: bool = False
    learning_rate: float = 1e-3
    lr_warmup_steps: int = 100
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0  # 0: no clipping
    use_ema: bool = True
    ema_decay: float = 0.999
    mixed_precision: str = "bf16"
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = 2
    validation_steps: int = 0  # 0: with every checkpoint
    report_to: str = "tensorboard"  # or none
    log_steps: int = 50
    threads: int = 1  # CPU threads a process; 0 leaves torch's choice


def process_state() -> PartialState:
    """Rank and device of this process.

    A bare PartialState() forgets ACCELERATE_USE_CPU, and without an accelerator it makes of N processes N times one.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / config.lr_warmup_steps
    share = (step - config.lr_warmup_steps) / max(1, config.max_train_steps - config.lr_warmup_steps)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def check_loop(config: LoopConfig) -> None:
    """Raises InputError for a setting that the loop cannot follow."""
    for name in ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "log_steps"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}: {getattr(config, name)} is less than 1")
    for name, allowed in (("report_to", ("tensorboard", "none")), ("mixed_precision", ("no", "fp16", "bf16"))):
        if getattr(config, name) not in allowed:
            raise InputError(f"{name}: {getattr(config, name)} is not one of {', '.join(allowed)}")
