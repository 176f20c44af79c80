"""Weights and checkpoints on disk, and the moving average of the weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import state_dict as sharded

from idinpaint.exits import signals_held
from idinpaint.models.weights import sha256_of
from idinpaint.types import InputError

State = dict[str, torch.Tensor]
WHOLE = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
SUMS = "SHA256SUMS"  # of a checkpoint, in the format of sha256sum


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """A temporary place beside `path`, for a file or a folder, that becomes `path` in the end: whole or not at all.

    InputError when the system refuses (disk full); nothing is left.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    _remove(temporary)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with signals_held():
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch says a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be written ({reason}); the files before it are kept") from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """A file or folder that may be there."""
    with signals_held():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def cast(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> State:
    """The state dict with its floating-point tensors as `dtype`."""
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}


def save_state(state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Write tensors as safetensors. Raises InputError when they cannot be written."""
    with written(path) as temporary:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, temporary)


def save_folder(model: Any, path: str | Path) -> None:
    """`save_pretrained` of a network or a pipeline. InputError when it cannot be written."""
    with written(path) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)


def clear_leftovers(folder: str | Path) -> None:
    """Takes away what a run that was killed left half-written; only while no other run writes there."""
    for rest in [*Path(folder).glob("*.tmp"), *Path(folder).glob("*.part"), *Path(folder).glob("validation/*.tmp")]:
        _remove(rest)


def save_weights(model: torch.nn.Module, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a module's state dict as safetensors, its floating-point tensors as `dtype`."""
    state = model.state_dict()
    save_state(state if dtype is None else cast(state, dtype), path)


def load_initial(model: torch.nn.Module, path: str) -> None:
    """Load a state dict. Parts that the file lacks keep their initialisation; each is named in the log.

    Raises InputError when the file is missing, or holds something that the model lacks, or of another shape.
    """
    try:
        state = cast(load_file(path), torch.float32)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot read the initial weights ({error}); change init_from") from error
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"{path}: not weights of this model ({str(error).splitlines()[-1].strip()})") from error
    if unexpected:
        raise InputError(f"{path}: not weights of this model (it has {unexpected[0]}); change init_from")
    if missing:
        print(json.dumps({"init_from": path, "new": sorted({key.rsplit(".", 1)[0] for key in missing})}), flush=True)


class Ema:
    """Moving average of a module's trained parameters; sharded ones stay sharded.

    Buffers and frozen parameters are used as they are: under LoRA the average costs next to nothing.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.shadow = [p.detach().clone() for p in self.trained]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """shadow = decay * shadow + (1 - decay) * parameters."""
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.trained], 1 - decay)

    @torch.no_grad()
    def _swap(self) -> None:
        for shadow, parameter in zip(self.shadow, self.trained, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the module's parameters are the average."""
        self._swap()
        try:
            yield
        finally:
            self._swap()


def gather_model(accelerator: Accelerator, model: torch.nn.Module) -> State:
    """A copy of the whole state dict on the CPU; every process must call it (under FSDP only the first gets it)."""
    return {key: value.detach().cpu().clone() for key, value in accelerator.get_state_dict(model).items()}


def scatter_model(accelerator: Accelerator, model: torch.nn.Module, state: State) -> None:
    """The reverse of gather_model; every process gives the whole state."""
    if accelerator.distributed_type == DistributedType.FSDP:
        sharded.set_model_state_dict(model, state, options=WHOLE)
    else:
        accelerator.unwrap_model(model).load_state_dict(state)


def gather_optimizer(accelerator: Accelerator, model: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """The whole state of a prepared optimizer; every process must call it."""
    if accelerator.distributed_type == DistributedType.FSDP:
        return sharded.get_optimizer_state_dict(model, optimizer.optimizer, options=WHOLE)
    return optimizer.state_dict()


def scatter_optimizer(accelerator: Accelerator, model: torch.nn.Module, optimizer: Any, state: dict[str, Any]) -> None:
    """The reverse of gather_optimizer."""
    if accelerator.distributed_type == DistributedType.FSDP:
        sharded.set_optimizer_state_dict(model, optimizer.optimizer, state, options=WHOLE)
    else:
        optimizer.load_state_dict(state)


class Checkpoints:
    """`folder/checkpoint-N`: NAME.safetensors for each state, NAME.bin for each optimizer, state.json, SHA256SUMS.

    Written whole or not at all; the newest `total_limit` are kept (None: all).
    """

    def __init__(self, folder: str | Path, total_limit: int | None = 2) -> None:
        if total_limit is not None and total_limit < 1:
            raise InputError(
                f"checkpoints_total_limit: {total_limit} keeps nothing to resume from; set 1 or more, or null"
            )
        self.folder, self.total_limit = Path(folder), total_limit

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(self.folder.glob("checkpoint-*[0-9]"), key=step_of)

    def find(self, resume_from: str | None) -> Path | None:
        """The checkpoint that `resume_from` means: "latest" (None when there is none), a path, or None to start anew.

        Raises InputError when the path is no checkpoint, or when the folder holds later ones than the run will start
        from: rotation could not tell them from the new ones.
        """
        found = self.all()
        if resume_from == "latest":
            return found[-1] if found else None
        path = None
        if resume_from not in (None, "none"):
            path = Path(resume_from) if Path(resume_from).is_dir() else self.folder / str(resume_from)
            if not (path / "state.json").is_file():
                raise InputError(
                    f"{resume_from}: no such checkpoint; set resume_from_checkpoint to latest, none or a folder"
                )
        if found and step_of(found[-1]) > (step_of(path) if path else 0):
            raise InputError(
                f"{found[-1]}: lies after the step to start from; set resume_from_checkpoint=latest to go on from it, "
                "move it away, or choose another output_dir"
            )
        return path

    def save(
        self, step: int, weights: Mapping[str, State], optimizers: Mapping[str, dict[str, Any]], info: dict[str, Any]
    ) -> None:
        """Write checkpoint-`step` and remove what is beyond the limit. `info` goes into state.json.

        Raises InputError when it cannot be written (disk full); the checkpoints before it are kept.
        """
        target = self.folder / f"checkpoint-{step}"
        with written(target) as temporary:
            temporary.mkdir()
            for name, state in weights.items():
                save_state(state, temporary / f"{name}.safetensors")
            for name, state in optimizers.items():
                torch.save(state, temporary / f"{name}.bin")
            (temporary / "state.json").write_text(json.dumps({"step": step, **info}, indent=1))
            sums = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(temporary.iterdir())]
            (temporary / SUMS).write_text("".join(sums))
        for old in self.all()[: -self.total_limit] if self.total_limit else []:
            doomed = old.with_name(old.name + ".tmp")  # a kill here must not leave half a checkpoint under its name
            with signals_held():
                os.replace(old, doomed)
                shutil.rmtree(doomed)

    @staticmethod
    def load(path: Path) -> tuple[dict[str, State], dict[str, dict[str, Any]], dict[str, Any]]:
        """(states by name, optimizers by name, info) of a checkpoint. Raises InputError when it cannot be read."""
        try:
            _check_sums(path)
            info = json.loads((path / "state.json").read_text())
            weights = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
            optimizers = {
                file.stem: torch.load(file, map_location="cpu", weights_only=True)
                for file in sorted(path.glob("*.bin"))
            }
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(
                f"{path}: not a readable checkpoint ({error}); remove it to resume from the one before"
            ) from error
        return weights, optimizers, info


def _check_sums(folder: Path) -> None:
    """ValueError when a file is not the one that was written. Checkpoints of earlier releases have no sums."""
    sums = folder / SUMS
    for line in sums.read_text().splitlines() if sums.exists() else []:
        digest, _, name = line.partition("  ")
        if Path(name).name != name or sha256_of(folder / name) != digest:
            raise ValueError(f"{name or line}: sha256 differs")


def step_of(path: Path) -> int:
    """checkpoint-120 -> 120."""
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
