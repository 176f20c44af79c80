"""The steps of a run: micro-batches, updates, average, checkpoints. On one process, DDP or FSDP, by accelerate.

A run trains one network or several, each with an optimizer; the first is averaged, validated and its result.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from checkpoints import Checkpoints, Ema, gather_model, gather_optimizer, load_initial, scatter_model, scatter_optimizer
from loop_config import LoopConfig
from run_log import RunLog, make_accelerator
from sampling import Draw

from idinpaint.types import InputError

Batch = dict[str, torch.Tensor]
Terms = dict[str, torch.Tensor | float]
Networks = Mapping[str, torch.nn.Module]
LossFunction = Callable[[torch.nn.Module, Batch, int], tuple[torch.Tensor, Terms]]
# (networks, batch, step) -> the name of one network, its loss and terms to log, of one after the other: each is updated
# before the next is asked for.
Losses = Callable[[Networks, Batch, int], Iterator[tuple[str, torch.Tensor, Terms]]]
# Settings that may change between the starts of a run.
FREE = ("output_dir", "train_data_dir", "splits_dir", "resume_from_checkpoint", "log_steps", "threads", "report_to")
FREE += ("tracker_project_name", "init_sha256", "checkpointing_steps", "checkpoints_total_limit", "validation_steps")


def optimizer_file(network: str) -> str:
    """Name of a network's optimizer in a checkpoint."""
    return "optimizer" if network == "model" else network


def checkpoint_gradients(model: torch.nn.Module) -> None:
    """Switch on the gradient checkpointing of every diffusers or transformers part that has it."""
    able = [m for m in model.modules() if getattr(m, "_supports_gradient_checkpointing", False)]
    if not able:
        raise InputError(f"gradient_checkpointing: {type(model).__name__} has none; set it to false")
    for part in able:
        part.enable_gradient_checkpointing()


class Trainer:
    """Networks, average, optimizers and log of one run; `run` goes through the steps."""

    def __init__(self, config: LoopConfig, build: Callable[[], dict[str, torch.nn.Module]]) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device
        self.batch_size = self.accelerator.num_processes * config.gradient_accumulation_steps * config.train_batch_size
        self.checkpoints = Checkpoints(config.output_dir, config.checkpoints_total_limit)
        path = self.checkpoints.find(config.resume_from_checkpoint)
        networks = build()
        self.main = next(iter(networks))
        if config.init_from and path is None:
            load_initial(networks[self.main], config.init_from)
        # takes the average, for validation and the end
        self.result = copy.deepcopy(networks[self.main]).requires_grad_(False).eval()
        self.networks: dict[str, torch.nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, network in networks.items():
            if config.gradient_checkpointing:
                checkpoint_gradients(network)
            trained = [p for p in network.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, **config.adam(name))
            self.networks[name], self.optimizers[name] = self.accelerator.prepare(network.train(), optimizer)
        self.ema = Ema(self.networks[self.main]) if config.use_ema else None
        self.start = self._resume(path) if path else 0
        self.last = path
        main_process = self.accelerator.is_main_process
        self.log = RunLog(config, self.accelerator, self.start, self.batch_size) if main_process else None

    def _resume(self, path: Path) -> int:
        weights, optimizers, info = Checkpoints.load(path)
        main = self.networks[self.main]
        try:
            if self.ema is not None:  # the average goes through the model, because it may be sharded as the model is
                scatter_model(self.accelerator, main, weights.get("ema", weights[self.main]))
                self.ema = Ema(main)
            for name, network in self.networks.items():
                scatter_model(self.accelerator, network, weights[name])
                scatter_optimizer(self.accelerator, network, self.optimizers[name], optimizers[optimizer_file(name)])
            if self.accelerator.scaler is not None and "scaler" in optimizers:
                self.accelerator.scaler.load_state_dict(optimizers["scaler"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: not a checkpoint of this model ({reason}); choose another output_dir") from error
        free = {*FREE, *self.config.FILES}
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
        with self.ema.applied() if self.ema is not None else nullcontext():
            return gather_model(self.accelerator, self.networks[self.main])

    def average(self) -> torch.nn.Module:
        """The averaged network as a plain module on the device. Every process must call it."""
        state = self._averaged()
        if state:  # under FSDP only the first process has it
            self.result.load_state_dict(state)
        return self.result.to(self.device)

    def draw(self, step: int, part: int) -> Draw:
        """This process's part of the step's batch, in a micro-batch."""
        size, first = self.config.train_batch_size, part * self.accelerator.num_processes
        first = (first + self.accelerator.process_index) * size
        return Draw(self.config.seed, step, first, size, self.batch_size)

    def micro_batches(
        self, step: int, make_batch: Callable[[Draw], Batch], batch_means: tuple[str, ...]
    ) -> list[Batch]:
        """This process's share of the step's batch; `mean_NAME` holds the mean of NAME over the whole batch."""
        batches = [make_batch(self.draw(step, part)) for part in range(self.config.gradient_accumulation_steps)]
        for name in batch_means:
            mean = torch.stack([batch[name].float().mean() for batch in batches]).mean().to(self.device)
            mean = self.accelerator.reduce(mean, "mean")
            for batch in batches:
                batch[f"mean_{name}"] = mean
        return batches

    def step(self, step: int, batches: list[Batch], losses: Losses) -> dict[str, float]:
        """Forward, backward, update of one network after the other. Returns the figures of the whole batch: `loss` is
        the first network's, another's has its name. Raises InputError when one is not finite."""
        for group in [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]:
            group["lr"] = self.config.rate(step)
        batches = [{k: v.to(self.device, non_blocking=True) for k, v in batch.items()} for batch in batches]
        streams = [losses(self.networks, batch, step) for batch in batches]
        figures = {"loss": math.nan}
        while found := self._backward(step, streams):
            figures |= self._update(step, *found)
        if self.ema is not None:
            self.ema.update(min(self.config.ema_decay, (1 + step) / (10 + step)))
        return figures

    def _backward(self, step: int, streams: list[Iterator]) -> tuple[str, dict[str, torch.Tensor]] | None:
        """The gradients of the next network: its name, and the means of its loss and terms over the micro-batches."""
        name, means = "", {}
        for part, stream in enumerate(streams):
            self.draw(step, part).seed_torch()
            with ExitStack() as waiting:
                for network in self.networks.values() if part < len(streams) - 1 else ():
                    waiting.enter_context(self.accelerator.no_sync(network))
                with self.accelerator.autocast():
                    found = next(stream, None)
                if found is None:
                    continue
                name, loss, terms = found
                self.accelerator.backward(loss / len(streams))
            for key, value in {"loss" if name == self.main else name: loss, **terms}.items():
                value = torch.as_tensor(value, device=self.device).detach().float() / len(streams)
                means[key] = means[key] + value if key in means else value
        return (name, means) if name else None

    def _update(self, step: int, name: str, means: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of a network's optimizer. Returns the figures, over all processes."""
        config, accelerator = self.config, self.accelerator
        norm = accelerator.clip_grad_norm_(self.networks[name].parameters(), config.max_grad_norm or math.inf)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        values = accelerator.reduce(torch.stack([*means.values(), norm.float()]), "mean").tolist()
        figures = dict(zip([*means, "grad_norm" if name == self.main else f"{name}_grad_norm"], values, strict=True))
        scaled = accelerator.scaler is not None  # fp16: a step with infinite gradients is skipped, its scale halved
        for key in (next(iter(means)),) if scaled else (next(iter(means)), list(figures)[-1]):
            if not math.isfinite(figures[key]):
                kept = f"{self.last} is kept" if self.last else "no checkpoint was written yet"
                raise InputError(
                    f"step {step + 1}: {key} is {figures[key]}; {kept}; "
                    "lower learning_rate and run the same command again"
                )
        self.optimizers[name].step()
        self.optimizers[name].zero_grad(set_to_none=True)
        return figures

    def save(self, step: int) -> None:
        """Write a checkpoint. Every process must call it."""
        weights = {name: gather_model(self.accelerator, network) for name, network in self.networks.items()}
        weights["ema"] = self._averaged()
        optimizers = {}
        for name, network in self.networks.items():
            optimizers[optimizer_file(name)] = gather_optimizer(self.accelerator, network, self.optimizers[name])
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
        losses: Losses,
        validate: Callable[[int], None],
        batch_means: tuple[str, ...],
    ) -> None:
        """Every step from the start to the end, with rows, validation and checkpoints at their intervals."""
        config, log = self.config, self.log
        clock, seen, count = time.monotonic(), {}, 0
        for step in range(self.start, config.max_train_steps):
            figures = self.step(step, self.micro_batches(step, make_batch, batch_means), losses)
            count, done = count + 1, step + 1
            for key, value in figures.items():  # not every term is there at every step
                seen.setdefault(key, []).append(value)
            if log is not None:
                log.advance(done, figures["loss"])
            if log is not None and done % config.log_steps == 0:
                row = {key: sum(values) / len(values) for key, values in seen.items()}
                row["lr"] = config.rate(step)
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
