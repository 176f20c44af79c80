"""Weights of parts in folders: found, joined where they were split, loaded where a network has grown since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from checkpoints import cast
from safetensors.torch import load_file
from torch import nn

from idinpaint.types import InputError

Folders = Sequence[Path]


def load_state(folders: Folders, name: str, needed: bool = True) -> dict[str, torch.Tensor]:
    """All tensors of NAME.safetensors, or of NAME-1.safetensors, NAME-2 ... in one dict, float32; from the first of the
    folders that has them. Without any: InputError, or nothing where it isn't needed."""
    for folder in folders:
        paths = [p for p in (folder / f"{name}.safetensors",) if p.is_file()]
        paths = paths or sorted(folder.glob(f"{name}-[0-9].safetensors"))
        if paths:
            break
    else:
        if not needed:
            return {}
        raise InputError(f"{folders[-1]}: no {name}.safetensors; run training/import_bundle.py --output {folders[-1]}")
    state: dict[str, torch.Tensor] = {}
    for path in paths:
        state |= load_file(path)
    return cast(state, torch.float32)


def load_some(net: nn.Module, state: dict[str, torch.Tensor], new: tuple[str, ...]) -> None:
    """Load a state dict that may lack parts whose names start with one of `new`: they keep their start."""
    missing, unexpected = net.load_state_dict(state, strict=False)
    lost = [key for key in missing if not key.startswith(new)]
    if lost or unexpected:
        raise InputError(f"weights of another {type(net).__name__}: {(lost + list(unexpected))[:3]}")


def part_of(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The entries under `prefix.`, without it."""
    return {k.removeprefix(f"{prefix}."): v for k, v in state.items() if k.startswith(f"{prefix}.")}
