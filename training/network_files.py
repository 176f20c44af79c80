"""Networks put together from files: frozen ones for conditions and losses, and parts of a run's folder, joined where
they were split, loaded where a network has grown since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from checkpoints import cast, save_state
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from idinpaint.models.pconv import PConvPrior
from idinpaint.types import InputError

Folders = Sequence[Path]
LARGEST = 15_000_000  # bytes of one written file


def load_frozen(net: nn.Module, path: str | Path, device: torch.device, leave_out: str = "\0") -> nn.Module:
    """The network with the weights of a safetensors file, in eval mode, without gradients of its own.

    leave_out: start of the names of weights that are passed over, of a part that the network is built without.
    Raises InputError when the file is missing or holds another network.
    """
    try:
        state = cast(load_file(path), torch.float32)
        net.load_state_dict({key: value for key, value in state.items() if not key.startswith(leave_out)})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not weights of {type(net).__name__} ({reason}); check the recipe's paths") from error
    return net.eval().requires_grad_(False).to(device)


def load_prior(path: str | Path, device: torch.device) -> PConvPrior:
    """The stage-one prior of a folder in diffusers' layout, in eval mode without gradients, float32.

    Raises InputError when there is none.
    """
    try:
        prior = PConvPrior.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not the folder of a stage-one prior ({reason}); check the recipe's paths") from error
    return prior.eval().requires_grad_(False).float().to(device)


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
