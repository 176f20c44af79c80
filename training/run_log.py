"""What a run leaves behind: resolved config, commit and environment, log.jsonl, TensorBoard, pictures; and progress."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, ProjectConfiguration
from checkpoints import written
from PIL import Image
from tqdm import tqdm

from idinpaint.models.tensors import to_uint8
from idinpaint.types import InputError

PACKAGES = ("torch", "accelerate", "diffusers", "transformers", "peft", "safetensors", "numpy")
PACKAGES += ("opencv-python-headless",)


def _git(*arguments: str) -> str | None:
    """What git says of the training code's repository, None outside of one."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe(accelerator: Accelerator) -> dict[str, Any]:
    """Commit and environment of this start, JSON-ready."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    device = accelerator.device
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(changes) if changes is not None else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "distributed": accelerator.distributed_type.value,
        "mixed_precision": accelerator.mixed_precision,
    }


def make_accelerator(config: Any) -> Accelerator:
    """The accelerator of a run: the recipe's precision and its trackers."""
    # The loop itself accumulates; a number in accelerate's own config must not divide the loss a second time.
    plugin = GradientAccumulationPlugin(num_steps=1)
    return Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_plugin=plugin,
        log_with=None if config.report_to == "none" else config.report_to,
        project_config=ProjectConfiguration(project_dir=config.output_dir, logging_dir=config.output_dir),
    )


def progress(items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
    """The items again, under a bar on a terminal; elsewhere one line says what takes its time. First process only."""
    if int(os.environ.get("RANK", "0")):
        return items
    if not sys.stderr.isatty():
        print(f"{what}: {total} batches", file=sys.stderr, flush=True)
    return tqdm(items, total=total, desc=what, dynamic_ncols=True, disable=None)  # None: off where it is no terminal


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def picture_grid(columns: Sequence[torch.Tensor], gap: int = 4) -> np.ndarray:
    """Pictures [N, 3, H, W] in [-1, 1], one sequence a column -> one RGB picture uint8, a row a sample."""
    cells = [np.pad(to_uint8(c), ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255) for c in columns]
    rows = np.concatenate(cells, axis=2)  # (N, H + gap, columns * (W + gap), 3)
    return np.concatenate(list(rows))[:-gap, :-gap]


class RunLog:
    """The first process's log; `start` is the step that the run goes on from, later rows are dropped."""

    def __init__(self, config: Any, accelerator: Accelerator, start: int, batch: int) -> None:
        self.batch = batch  # images a step
        self.folder, self.start, self.limit = Path(config.output_dir), start, config.max_train_steps
        self.folder.mkdir(parents=True, exist_ok=True)
        plain = yaml.safe_load(json.dumps(asdict(config)))  # tuples become lists
        write_text(self.folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
        self._describe(plain, accelerator)
        self._drop_later_rows()
        self.accelerator = accelerator
        self._start_trackers(config)
        size = {"total": self.limit * batch, "initial": start * batch, "unit": " images"}
        self.bar = tqdm(**size, dynamic_ncols=True, disable=None)

    def _describe(self, config: dict[str, Any], accelerator: Accelerator) -> None:
        """run.json: the newest start's config and commit, and every start's step, command and environment."""
        path = self.folder / "run.json"
        earlier = json.loads(path.read_text())["starts"] if path.exists() and self.start else []
        row = {"step": self.start, "command": sys.argv, "seed": config["seed"], **describe(accelerator)}
        write_text(path, json.dumps({"config": config, "commit": row["commit"], "starts": [*earlier, row]}, indent=1))

    def _drop_later_rows(self) -> None:
        """A killed run may have logged steps after its last checkpoint; they will come again."""
        path = self.folder / "log.jsonl"
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                kept += [line] if json.loads(line)["step"] <= self.start else []
            except ValueError:
                continue  # the line that the kill cut off
        write_text(path, "".join(f"{line}\n" for line in kept))

    def _start_trackers(self, config: Any) -> None:
        """Open what report_to names. Raises InputError when it cannot be (no key, no network)."""
        if config.report_to == "none":
            return
        project = config.tracker_project_name
        options: dict[str, Any] = {"wandb": {"dir": str(self.folder), "name": self.folder.name}}
        if config.report_to == "tensorboard":  # into the run's own folder
            project = "tensorboard"
            options = {"tensorboard": {"purge_step": self.start + 1 if self.start else None}}
        try:
            self.accelerator.init_trackers(project, init_kwargs=options)
        except Exception as error:  # each service has kinds of its own
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"report_to: {config.report_to} does not start ({reason}); or report_to=none") from error

    def advance(self, step: int, loss: float) -> None:
        """One step is done."""
        self.bar.update(step * self.batch - self.bar.n)
        self.bar.set_postfix(step=step, loss=f"{loss:.4f}", refresh=False)

    def row(self, step: int, values: dict[str, float], images_per_s: float | None = None) -> None:
        """One line of figures; with a speed also what time is left."""
        row: dict[str, Any] = {"step": step}
        if images_per_s is not None:
            left = (self.limit - step) * self.batch / images_per_s
            row |= {"images_per_s": round(images_per_s, 1), "eta": time.strftime("%H:%M:%S", time.gmtime(left))}
            if left >= 86400:
                row["eta"] = f"{left / 86400:.1f} days"
        row |= {key: float(f"{value:.6g}") for key, value in values.items()}
        if self.bar.disable:
            print(json.dumps(row), flush=True)
        elif images_per_s is None:  # the bar shows the rest
            self.bar.write(json.dumps(row))
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
        self.accelerator.log({key: value for key, value in row.items() if key not in ("step", "eta")}, step=step)

    def picture(self, step: int, pixels: np.ndarray) -> None:
        """Keep a validation grid [H, W, 3] uint8 as validation/step-N.png, and show it in TensorBoard."""
        path = self.folder / "validation" / f"step-{step:07d}.png"
        with written(path) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({"validation": pixels[None]}, step=step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({"validation": [Image.fromarray(pixels)]}, step=step)

    def close(self) -> None:
        """Close the trackers and end the progress bar."""
        for tracker in self.accelerator.trackers:  # end_training() would wait for the other processes
            tracker.finish()
        self.bar.close()
