"""The settings that every recipe shares, under the names of diffusers' training scripts, and their check."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from places import find_file, find_path

from idinpaint.imaging.encoders import check_writable
from idinpaint.types import InputError

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "comet_ml": "comet_ml"}  # report_to -> its package


@dataclass
class LoopConfig:
    """Settings of the loop; every recipe's dataclass extends this one."""

    # File settings that a run reads, each with the settings of which one must be on for that; none: always.
    FILES: ClassVar[dict[str, Sequence[str]]] = {}
    SHARED: ClassVar[tuple[str, ...]] = ()  # settings that count samples of the whole batch
    DATA: ClassVar[bool] = True  # reads train_data_dir
    RESULT: ClassVar[str] = ""  # the file in output_dir that a next phase starts from

    output_dir: str = "runs/unnamed"
    train_data_dir: str = field(default_factory=lambda: os.environ.get("IDINPAINT_DATA", ""))
    splits_dir: str = "configs/splits"
    init_from: str | None = None  # safetensors file to start from
    init_sha256: str | None = None  # of that file; None: whatever it holds
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
    report_to: str = "tensorboard"  # or wandb, comet_ml, none
    tracker_project_name: str = "idinpaint"  # of wandb and comet_ml
    log_steps: int = 50
    threads: int = 1  # CPU threads a process; 0 leaves torch's choice

    def result_file(self) -> str:
        """Name of the file in output_dir that a next phase starts from."""
        return self.RESULT

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then half a cosine down to 2 % of the peak."""
        if step < self.lr_warmup_steps:
            return self.learning_rate * (step + 1) / self.lr_warmup_steps
        share = (step - self.lr_warmup_steps) / max(1, self.max_train_steps - self.lr_warmup_steps)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))

    def adam(self, network: str) -> dict[str, Any]:
        """Settings of a network's optimizer."""
        return {"lr": self.learning_rate, "weight_decay": self.weight_decay}

    def prepare(self) -> None:
        """Check all that can be told before anything is loaded, and find the files: their settings become paths that
        can be opened. Raises InputError. Recipes add their own checks; doing it twice does no harm."""
        check_loop(self)
        if self.DATA:
            find_places(self)


def process_state() -> PartialState:
    """Rank and device of this process.

    A bare PartialState() forgets ACCELERATE_USE_CPU, and without an accelerator it makes of N processes N times one.
    """
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def check_loop(config: LoopConfig) -> None:
    """Raises InputError for a setting that the loop cannot follow."""
    for name in ("train_batch_size", "gradient_accumulation_steps", "checkpointing_steps", "log_steps"):
        if getattr(config, name) < 1:
            raise InputError(f"{name}: {getattr(config, name)} is less than 1")
    for name, allowed in (("report_to", (*TRACKERS, "none")), ("mixed_precision", ("no", "fp16", "bf16"))):
        if getattr(config, name) not in allowed:
            raise InputError(f"{name}: {getattr(config, name)} is not one of {', '.join(allowed)}")
    if config.mixed_precision == "fp16" and process_state().device.type in ("cpu", "mps"):
        raise InputError("mixed_precision: fp16 wants a GPU; use bf16 or no")
    package = TRACKERS.get(config.report_to)
    if package is not None and find_spec(package) is None:
        raise InputError(f"report_to: {package} is not installed; pip install {package}, or report_to=none")
    if package == "wandb" and int(os.environ.get("RANK", "0")) == 0:
        _check_wandb()
    parts = config.gradient_accumulation_steps * int(os.environ.get("WORLD_SIZE", "1"))
    for name in config.SHARED:
        if min(getattr(config, name), config.train_batch_size * parts) % parts:
            raise InputError(
                f"{name}: {getattr(config, name)} samples for {parts} micro-batches; a multiple of {parts}"
            )


def _check_wandb() -> None:
    """Raises InputError when a run could not be logged there: told now, not when the photos are loaded."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    import wandb

    try:
        there = wandb.login(prompt=False)
    except TypeError:  # releases before 0.31 ask, unless the key is there
        there = bool(wandb.api.api_key)
    except Exception as error:  # no network, a key that is refused
        raise InputError(f"report_to: wandb does not answer ({' '.join(str(error).split())[:160]})") from error
    if not there:
        raise InputError("report_to: wandb has no key; `wandb login`, WANDB_API_KEY, or WANDB_MODE=offline")


def find_places(config: LoopConfig) -> None:
    """Make paths of the settings that name files. Raises InputError when the data, a file that will be read, or a
    folder to write to is not there."""
    if not config.train_data_dir:
        raise InputError(
            "train_data_dir: no data folder is named; set IDINPAINT_DATA=DATA, --train_data_dir=DATA or the recipe's "
            "train_data_dir to the raw data sets, or to what `idinpaint prepare` wrote"
        )
    if not Path(config.train_data_dir).is_dir():
        raise InputError(f"{config.train_data_dir}: no such folder; set train_data_dir to where the photos lie")
    if (splits := find_path(config.splits_dir)) is None:
        raise InputError(f"{config.splits_dir}: no such folder; set splits_dir to configs/splits of the repository")
    config.splits_dir = str(splits)
    for name, switches in config.FILES.items():
        wanted = not switches or any(getattr(config, switch) for switch in switches)
        if wanted and getattr(config, name) is not None:
            setattr(config, name, str(find_file(name, getattr(config, name), config.train_data_dir)))
    check_writable(Path(config.output_dir) / "config.yaml")
