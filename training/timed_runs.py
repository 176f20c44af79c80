"""Runs that last for some minutes: the clock, rates that follow it, a log, and weights that appear whole."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from checkpoints import cast, clear_leftovers, save_state
from launching import parse

from idinpaint.config import build_config, parse_overrides, read_values
from idinpaint.imaging.folder_lock import locked

LARGEST = 15_000_000  # bytes of one written file


class Clock:
    """The share of a stage's seconds that is used."""

    def __init__(self, seconds: float) -> None:
        self.start, self.seconds = time.monotonic(), max(seconds, 1e-3)

    def used(self) -> float:
        """In [0, 1]."""
        return min(1.0, (time.monotonic() - self.start) / self.seconds)


def rate(peak: float, step: int, warmup: int, used: float) -> float:
    """Linear warm-up by steps, then half a cosine by the time used, down to 2 % of the peak."""
    return peak * min(1.0, (step + 1) / max(1, warmup)) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * used)))


def write_weights(folder: Path, name: str, state: dict[str, torch.Tensor]) -> None:
    """fp16 safetensors, split where one file would be larger than LARGEST; each file appears whole."""
    state = {k: v.contiguous().cpu() for k, v in cast(state, torch.float16).items()}
    parts: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for key, value in state.items():
        if size + value.nbytes > LARGEST and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][key] = value
        size += value.nbytes
    for index, part in enumerate(parts):
        path = folder / (f"{name}-{index + 1}.safetensors" if len(parts) > 1 else f"{name}.safetensors")
        save_state(part, path)


def log(folder: Path, row: dict) -> None:
    """One line of figures, on the terminal and in log.jsonl."""
    short = {k: round(float(v), 4) if isinstance(v, float | torch.Tensor) else v for k, v in row.items()}
    print(json.dumps(short), flush=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as handle:
        handle.write(json.dumps(short) + "\n")


def run_alone(kind: type, main: Callable[[Any], None]) -> None:
    """main(config) for the command line's config of a dataclass `kind`, checked, alone in its output folder."""
    path, _, given = parse(kind)
    config = build_config(kind, {**read_values(path), **parse_overrides(given)}, str(path))
    config.prepare()
    with locked(config.output_dir):
        clear_leftovers(config.output_dir)
        main(config)
