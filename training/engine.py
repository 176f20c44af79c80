"""What every training script imports: settings, `train`, and the way a script starts and ends.

A batch is a pure function of (seed, step), however it is split over processes and micro-batches (sampling.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from checkpoints import clear_leftovers, save_weights
from launching import parse, run_guarded, warn_of_missing_processes
from loop_config import LoopConfig, process_state
from recipes import check_start, load_phases, note_result
from sampling import Draw
from trainer import Batch, Losses, LossFunction, Networks, Terms, Trainer

from idinpaint.imaging.folder_lock import locked
from idinpaint.types import InputError

__all__ = ["Batch", "Draw", "LoopConfig", "Terms", "save_weights"]  # with what is defined below


def training_device() -> torch.device:
    """The device of this process, as `accelerate launch` set it."""
    return process_state().device


def main_process() -> bool:
    """True in the one process that writes files."""
    return process_state().is_main_process


def train(
    config: LoopConfig,
    build_model: Callable[[], torch.nn.Module],
    make_batch: Callable[[Draw], Batch],
    loss_function: LossFunction,
    validate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    picture: Callable[[torch.nn.Module], np.ndarray] | None = None,
    batch_means: tuple[str, ...] = (),
) -> torch.nn.Module:
    """Train one network and return its average. loss_function: loss, a mean over the samples it gets, and terms to log;
    for the rest see `train_networks`."""

    def losses(networks: Networks, batch: Batch, step: int) -> Iterator[tuple[str, torch.Tensor, Terms]]:
        yield "model", *loss_function(networks["model"], batch, step)

    return train_networks(config, lambda: {"model": build_model()}, make_batch, losses, validate, picture, batch_means)


def train_networks(
    config: LoopConfig,
    build: Callable[[], dict[str, torch.nn.Module]],
    make_batch: Callable[[Draw], Batch],
    losses: Losses,
    validate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    picture: Callable[[torch.nn.Module], np.ndarray] | None = None,
    batch_means: tuple[str, ...] = (),
    look_first: bool = False,
) -> torch.nn.Module:
    """Train several networks and return the first one's average; goes on from the newest checkpoint of `output_dir`.

    make_batch: part of a batch -> tensors, everything random drawn from the part's generators. validate: figures to
    log; picture: a grid [H, W, 3] uint8 at fixed photos, masks and noise; both get the averaged model, before the first
    step too where `look_first` is set. batch_means: names of batch tensors whose mean over the whole batch the loss
    needs, given as `mean_NAME`.
    Raises InputError when a loss or a gradient is no longer finite; the last checkpoint stays.
    """
    trainer = Trainer(config, build)

    def look(step: int) -> None:
        if validate is None and picture is None:
            return
        model = trainer.average()
        if trainer.log is not None:
            if validate is not None:
                trainer.log.row(step, validate(model))
            if picture is not None:
                trainer.log.picture(step, picture(model))
        trainer.accelerator.wait_for_everyone()

    try:
        if look_first and trainer.start == 0:
            look(0)
        trainer.run(make_batch, losses, look, batch_means)
        return trainer.average()
    finally:
        if trainer.log is not None:
            trainer.log.close()


@contextmanager
def owned(folder: str) -> Iterator[None]:
    """The run's folder for this run alone, without what a killed one left half-written. Raises InputError."""
    if not main_process():
        yield
        return
    with locked(folder):
        clear_leftovers(folder)
        yield


def run_recipe(main: Callable[[Any], None], config_class: type, words: Sequence[str] | None = None) -> None:
    """Run the phases of the recipe that the command line names, each that is not done yet, one after the other.

    Every phase is checked before the first begins; --phase NAME runs that one alone, also again.
    """
    warn_of_missing_processes()
    path, wanted, given = parse(config_class, words)
    phases = load_phases(config_class, path, given)
    if wanted is not None and wanted not in [phase.name for phase in phases]:
        raise InputError(f"--phase {wanted}: {path} has {', '.join(p.name for p in phases if p.name) or 'no phases'}")
    chosen = [phase for phase in phases if wanted in (None, phase.name)]
    for phase in chosen:
        phase.config.prepare()
    for phase in chosen:
        if wanted is None and phase.done:
            if main_process():
                print(f"phase {phase.name}: done already; --phase {phase.name} goes on with it", flush=True)
            continue
        if phase.name and main_process():
            print(f"phase {phase.name}: {phase.config.output_dir}", flush=True)
        check_start(phase)
        with owned(phase.config.output_dir):
            main(phase.config)
            if phase.name and main_process():
                note_result(phase.config)


def run_script(main: Callable[[Any], None], config_class: type) -> None:
    """Entry point of a training script; errors and signals as in `run_guarded`."""
    run_guarded(lambda: run_recipe(main, config_class))
