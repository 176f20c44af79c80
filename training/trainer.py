"""The steps of a run: micro-batches, update, average, checkpoints. On one process, DDP or FSDP, by accelerate."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from checkpoints import (
    Checkpoints,
    Ema,
    gather_model,
    gather_optimizer,
    load_initial,
    scatter_model,
    scatter_optimizer,
)
from loop_config import LoopConfig, check_loop, learning_rate
from run_log import RunLog, make_accelerator
from sampling import Draw

from idinpaint.types import InputError

Batch = dict[str, torch.Tensor]
Terms = dict[str, torch.Tensor | float]
LossFunction = Callable[[torch.nn.Module, Batch, int], tuple[torch.Tensor, Terms]]


def checkpoint_gradients(model: torch.nn.Module) -> None:
    """Switch on the gradient checkpointing of every diffusers or transformers part that has it."""
    able = [m for m in model.modules() if getattr(m, "_supports_gradient_checkpointing", False)]
    if not able:
        raise InputError(f"gradient_checkpointing: {type(model).__name__} has none; set it to false")
    for part in able:
        part.enable_gradient_checkpointing()


class Trainer:
    """Model, average, optimizer and log of one run; `run` goes through the steps."""

    def __init__(self, config: LoopConfig, build_model: Callable[[], torch.nn.Module]) -> None:
        check_loop(config)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device
        self.parts = self.accelerator.num_processes * config.gradient_accumulation_steps
        self.batch_size = self.parts * config.train_batch_size
        self.checkpoints = Checkpoints(config.output_dir, config.checkpoints_total_limit)
        path = self.checkpoints.find(config.resume_from_checkpoint)
        model = build_model()
        if config.init_from and path is None:
            load_initial(model, config.init_from)
        self.result = copy.deepcopy(model).requires_grad_(False).eval()  # takes the average, for validation and the end
        if config.gradient_checkpointing:
            checkpoint_gradients(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.model.train()
        self.ema = Ema(self.model) if config.use_ema else None
        self.start = self._resume(path) if path else 0
        self.last = path
        self.log = (
            RunLog(config, self.accelerator, self.start, self.batch_size) if self.accelerator.is_main_process else None
        )

    def _resume(self, path: Path) -> int:
        weights, optimizers, info = Checkpoints.load(path)
        try:
            if self.ema is not None:  # the average goes through the model, because it may be sharded as the model is
                scatter_model(self.accelerator, self.model, weights.get("ema", weights["model"]))
                self.ema = Ema(self.model)
            scatter_model(self.accelerator, self.model, weights["model"])
            scatter_optimizer(self.accelerator, self.model, self.optimizer, optimizers["optimizer"])
            if self.accelerator.scaler is not None and "scaler" in optimizers:
                self.accelerator.scaler.load_state_dict(optimizers["scaler"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: not a checkpoint of this model ({reason}); choose another output_dir") from error
        free = {"output_dir", "train_data_dir", "splits_dir", "resume_from_checkpoint", "log_steps", "threads"}
        free |= {
            "tracker_project_name",
            "init_sha256",
            *self.config.FILES,
            "report_to",
            "checkpointing_steps",
            "checkpoints_total_limit",
            "validation_steps",
        }
        now = {**asdict(self.config), "whole batch": self.batch_size}
        changed = [
            f"{key} {old} -> {now[key]}"
            for key, old in info.get("config", {}).items()
            if key in now and key not in free and list(np.atleast_1d(old)) != list(np.atleast_1d(now[key]))
        ]
        if changed and self.accelerator.is_main_process:
            print(f"warning: {path} was written with other settings: {', '.join(changed)}", file=sys.stderr)
        return int(info["step"])

    def _averaged(self) -> dict[str, torch.Tensor]:
        with self.ema.applied(self.model) if self.ema is not None else nullcontext():
            return gather_model(self.accelerator, self.model)

    def average(self) -> torch.nn.Module:
        """The averaged network as a plain module on the device. Every process must call it."""
        state = self._averaged()
        if state:  # under FSDP only the first process has it
            self.result.load_state_dict(state)
        return self.result.to(self.device)

    def micro_batches(
        self, step: int, make_batch: Callable[[Draw], Batch], batch_means: tuple[str, ...]
    ) -> list[Batch]:
        """This process's share of the step's batch; `mean_NAME` holds the mean of NAME over the whole batch."""
        config, index = self.config, self.accelerator.process_index
        batches = []
        for part in range(config.gradient_accumulation_steps):
            first = (part * self.accelerator.num_processes + index) * config.train_batch_size
            batches.append(make_batch(Draw(config.seed, step, first, config.train_batch_size, self.batch_size)))
        for name in batch_means:
            mean = torch.stack([batch[name].float().mean() for batch in batches]).mean().to(self.device)
            mean = self.accelerator.reduce(mean, "mean")
            for batch in batches:
                batch[f"mean_{name}"] = mean
        return batches

    def step(self, step: int, batches: list[Batch], loss_function: LossFunction) -> dict[str, float]:
        """Forward, backward, update. Returns the figures of the whole batch; raises InputError when not finite."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        sums: dict[str, torch.Tensor] = {}
        for part, batch in enumerate(batches):
            first = (part * accelerator.num_processes + accelerator.process_index) * config.train_batch_size
            Draw(config.seed, step, first, config.train_batch_size, self.batch_size).seed_torch()
            batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
            last = part == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                with accelerator.autocast():
                    loss, terms = loss_function(self.model, batch, step)
                accelerator.backward(loss / len(batches))
            for key, value in {"loss": loss, **terms}.items():
                value = torch.as_tensor(value, device=self.device).detach().float() / len(batches)
                sums[key] = sums[key] + value if key in sums else value
        norm = accelerator.clip_grad_norm_(self.model.parameters(), config.max_grad_norm or math.inf)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        values = accelerator.reduce(torch.stack([*sums.values(), norm.float()]), "mean").tolist()
        figures = dict(zip([*sums, "grad_norm"], values, strict=True))
        scaled = accelerator.scaler is not None  # fp16: a step with infinite gradients is skipped, its scale halved
        for key in ("loss",) if scaled else ("loss", "grad_norm"):
            if not math.isfinite(figures[key]):
                kept = f"{self.last} is kept" if self.last else "no checkpoint was written yet"
                raise InputError(
                    f"step {step + 1}: {key} is {figures[key]}; {kept}; "
                    "lower learning_rate and run the same command again"
                )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model, min(config.ema_decay, (1 + step) / (10 + step)))
        return figures

    def save(self, step: int) -> None:
        """Write a checkpoint. Every process must call it."""
        weights = {"model": gather_model(self.accelerator, self.model), "ema": self._averaged()}
        optimizers = {"optimizer": gather_optimizer(self.accelerator, self.model, self.optimizer)}
        if self.accelerator.scaler is not None:
            optimizers["scaler"] = self.accelerator.scaler.state_dict()
        self.last = self.checkpoints.folder / f"checkpoint-{step}"
        if self.accelerator.is_main_process:
            info = {"config": {**asdict(self.config), "whole batch": self.batch_size}}
            self.checkpoints.save(step, weights, optimizers, info)
        self.accelerator.wait_for_everyone()

    def run(
        self,
        make_batch: Callable[[Draw], Batch],
        loss_function: LossFunction,
        validate: Callable[[int], None],
        batch_means: tuple[str, ...],
    ) -> None:
        """Every step from the start to the end, with rows, validation and checkpoints at their intervals."""
        config, log = self.config, self.log
        clock, seen, count = time.monotonic(), {}, 0
        for step in range(self.start, config.max_train_steps):
            figures = self.step(step, self.micro_batches(step, make_batch, batch_means), loss_function)
            count, done = count + 1, step + 1
            for key, value in figures.items():  # not every term is there at every step
                seen.setdefault(key, []).append(value)
            if log is not None:
                log.advance(done, figures["loss"])
            if log is not None and done % config.log_steps == 0:
                row = {key: sum(values) / len(values) for key, values in seen.items()}
                row["lr"] = learning_rate(config, step)
                log.row(done, row, count * self.batch_size / (time.monotonic() - clock))
                clock, seen, count = time.monotonic(), {}, 0
            ended, saves = done == config.max_train_steps, done % config.checkpointing_steps == 0
            validates = done % config.validation_steps == 0 if config.validation_steps else saves
            if validates or ended:
                validate(done)  # before the checkpoint: a kill between the two repeats it
            if saves or ended:
                self.save(done)
            if validates or saves:
                clock, seen, count = time.monotonic(), {}, 0
