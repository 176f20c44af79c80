"""The loop that every training script shares: accelerate, EMA, checkpoints that resume, one log line a while.

A batch is a pure function of (seed, step, process), so that a killed run goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from idinpaint.types import InputError


@dataclass
class LoopConfig:
    """Settings of the loop; every recipe's dataclass extends this one."""

    output_dir: str = "runs/unnamed"
    train_data_dir: str = "../shared/data"
    splits_dir: str = "configs/splits"
    init_from: str | None = None  # safetensors file to start from
    seed: int = 0
    max_train_steps: int = 1000
    train_batch_size: int = 16
    learning_rate: float = 1e-3
    lr_warmup_steps: int = 100
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: str = "bf16"
    checkpointing_steps: int = 500
    log_steps: int = 50
    threads: int = 1  # CPU threads a process; 0 leaves torch's choice


Batch = dict[str, torch.Tensor]
LossFunction = Callable[[torch.nn.Module, Batch, int], tuple[torch.Tensor, dict[str, float]]]


def batch_rng(config: LoopConfig, step: int, process: int) -> np.random.Generator:
    """The generator from which everything random in one step of one process is drawn."""
    return np.random.default_rng([config.seed, step, process])


def save_weights(model: torch.nn.Module, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a state dict as safetensors through a temporary file."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if dtype is not None:
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary)
    os.replace(temporary, path)


def load_initial(model: torch.nn.Module, path: str) -> None:
    """Load a state dict. Parts that the file lacks keep their initialisation; each is named in the log.

    Raises InputError when the file holds something that the model lacks, or of another shape.
    """
    state = {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path}: not weights of this model ({str(error).splitlines()[-1].strip()})") from error
    if unexpected:
        raise InputError(f"{path}: not weights of this model (it has {unexpected[0]}); change init_from")
    if missing:
        print(json.dumps({"init_from": path, "new": sorted({key.rsplit(".", 1)[0] for key in missing})}), flush=True)


class Checkpoints:
    """`output_dir/checkpoint-N`, written whole or not at all; the two newest are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Path | None:
        found = sorted(self.folder.glob("checkpoint-*[0-9]"), key=lambda p: int(p.name.split("-")[1]))
        return found[-1] if found else None

    def save(self, step: int, model: torch.nn.Module, ema: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        temporary = self.folder / f"checkpoint-{step}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_weights(model, temporary / "model.safetensors")
        save_weights(ema, temporary / "ema.safetensors")
        torch.save(optimizer.state_dict(), temporary / "optimizer.bin")
        target = self.folder / f"checkpoint-{step}"
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        for old in sorted(self.folder.glob("checkpoint-*[0-9]"), key=lambda p: int(p.name.split("-")[1]))[:-2]:
            shutil.rmtree(old)

    def load(self, model: torch.nn.Module, ema: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore the newest checkpoint; return its step, 0 when there is none."""
        path = self.newest()
        if path is None:
            return 0
        model.load_state_dict(load_file(path / "model.safetensors"))
        ema.load_state_dict(load_file(path / "ema.safetensors"))
        optimizer.load_state_dict(torch.load(path / "optimizer.bin", weights_only=True))
        return int(path.name.split("-")[1])


def learning_rate(config: LoopConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < config.lr_warmup_steps:
        return config.learning_rate * (step + 1) / config.lr_warmup_steps
    share = (step - config.lr_warmup_steps) / max(1, config.max_train_steps - config.lr_warmup_steps)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


@torch.no_grad()
def _update_ema(ema: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    for old, new in zip(ema.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for old, new in zip(ema.buffers(), model.buffers(), strict=True):
        old.copy_(new)


def _describe_run(config: LoopConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    description: dict[str, Any] = {"config": asdict(config), "commit": commit, "torch": torch.__version__}
    (folder / "run.json").write_text(json.dumps(description, indent=1))


def train(
    config: LoopConfig,
    build_model: Callable[[], torch.nn.Module],
    make_batch: Callable[[np.random.Generator, int], Batch],
    loss_function: LossFunction,
    validate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
) -> torch.nn.Module:
    """Train and return the EMA model. Resumes from the newest checkpoint of `output_dir`.

    Raises InputError when the loss is no longer finite; the last checkpoint stays.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    folder = Path(config.output_dir)
    model, ema = build_model(), build_model()
    if config.init_from:
        load_initial(model, config.init_from)
    ema.load_state_dict(model.state_dict())
    ema.requires_grad_(False).eval().to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoints = Checkpoints(folder)
    start = checkpoints.load(model, ema, optimizer)
    if accelerator.is_main_process:
        _describe_run(config, folder)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    clock, sums, count = time.time(), {}, 0
    for step in range(start, config.max_train_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        rng = batch_rng(config, step, accelerator.process_index)
        torch.manual_seed(int(rng.integers(2**31)))
        batch = {key: value.to(accelerator.device) for key, value in make_batch(rng, step).items()}
        with accelerator.autocast():
            loss, terms = loss_function(model, batch, step)
        if not torch.isfinite(loss):
            raise InputError(f"step {step}: loss is {loss.item()}; lower learning_rate and start again from {folder}")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        plain = accelerator.unwrap_model(model)
        _update_ema(ema, plain, min(config.ema_decay, (1 + step) / (10 + step)))
        count += 1
        for key, value in {"loss": float(loss.detach()), **terms}.items():
            sums[key] = sums.get(key, 0.0) + value
        done = step + 1
        if done % config.log_steps == 0 and accelerator.is_main_process:
            rate = count * config.train_batch_size * accelerator.num_processes / (time.time() - clock)
            row = {"step": done, "images_per_s": round(rate, 1), **{k: round(v / count, 5) for k, v in sums.items()}}
            _log(folder, row)
            clock, sums, count = time.time(), {}, 0
        if (done % config.checkpointing_steps == 0 or done == config.max_train_steps) and accelerator.is_main_process:
            checkpoints.save(done, plain, ema, optimizer)
            if validate is not None:
                _log(folder, {"step": done, **validate(ema)})
            clock, sums, count = time.time(), {}, 0
    return ema


def _log(folder: Path, row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row) + "\n")


def parse_arguments(config_class: type) -> Any:
    """`--config FILE [--set key=value]...` -> an instance of the recipe's dataclass."""
    import argparse

    from idinpaint.config import load_config

    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    return load_config(config_class, arguments.config, arguments.overrides)


def run_script(main: Callable[[Any], None], config_class: type) -> None:
    """Entry point of a training script: one clear line and status 2 for bad input."""
    import sys

    try:
        main(parse_arguments(config_class))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
