"""What every training script imports: settings, `train`, and the way a script starts and ends.

A batch is a pure function of (seed, step), however it is split over processes and micro-batches (sampling.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from checkpoints import save_weights
from loop_config import LoopConfig, process_state
from sampling import Draw
from trainer import Batch, LossFunction, Terms, Trainer

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
    """Train and return the averaged model; goes on from the newest checkpoint of `output_dir`.

    make_batch: part of a batch -> tensors, everything random drawn from the part's generators. loss_function: loss, a
    mean over the samples it gets, and terms to log. validate: figures to log; picture: a grid [H, W, 3] uint8 at fixed
    photos, masks and noise; both get the averaged model. batch_means: names of batch tensors whose mean over the whole
    batch the loss needs, given as `mean_NAME`.
    Raises InputError when the loss or the gradient is no longer finite; the last checkpoint stays.
    """
    trainer = Trainer(config, build_model)

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
        trainer.run(make_batch, loss_function, look, batch_means)
        return trainer.average()
    finally:
        if trainer.log is not None:
            trainer.log.close()


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
    """Entry point of a training script: one clear line and status 2 for bad input or a missing file."""
    try:
        main(parse_arguments(config_class))
    except InputError as error:
        message = str(error)
    except FileNotFoundError as error:
        message = f"{error.filename or error}: no such file; check the config's paths"
    else:
        return
    rank = int(os.environ.get("RANK", "0"))
    print(f"error: {message}" if rank == 0 else f"error in process {rank}: {message}", file=sys.stderr)
    raise SystemExit(2)
