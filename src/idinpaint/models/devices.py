"""Where the networks run, and in which precision.

The one rule: a network works in the floating dtype of its weights, takes any other, and gives back the dtype that it
was given; pixels, noise and latents are float32 between networks. What decides (landmarks, parsing, identity) is loaded
as float32 whatever the painting's precision, so that no decision depends on it.
"""

from __future__ import annotations

from typing import Any

from idinpaint.types import InputError

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def devices_here() -> list[str]:
    """Names of the devices that torch sees: cpu, then cuda:0, cuda:1, ... or mps."""
    import torch

    names = ["cpu"]
    if torch.accelerator.is_available():
        kind, count = torch.accelerator.current_accelerator().type, torch.accelerator.device_count()
        names += [kind] if count == 1 else [f"{kind}:{index}" for index in range(count)]
    return names


def pick_device(device: Any = "auto") -> str:
    """auto (CUDA where there is one, else the CPU), a name as cpu, cuda, cuda:1 or mps, or a torch.device -> its name.

    Raises InputError, with the devices that are there, for another.
    """
    import torch

    if str(device) == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError):
        asked = None
    if asked is not None and asked.type == "cpu":
        return "cpu"
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if asked is None or accelerator is None or asked.type != accelerator.type:
        raise _not_here(device)
    if asked.index is not None and asked.index >= torch.accelerator.device_count():
        raise _not_here(device)
    return str(asked)


def _not_here(device: Any) -> InputError:
    return InputError(f"--device {device}: not on this machine; use auto or {' or '.join(devices_here())}")


def device_type(device: str) -> str:
    """cuda:1 -> cuda."""
    return device.partition(":")[0]


def pick_dtype(dtype: Any, device: str) -> Any:
    """auto, fp32, bf16, fp16 or a floating torch.dtype -> torch.dtype. auto: float16, which is what the bundled weights
    are stored in, on CUDA, float32 elsewhere. Raises InputError for another."""
    import torch

    if dtype == "auto":
        return torch.float16 if device_type(device) == "cuda" else torch.float32
    known = {name: getattr(torch, kind) for name, kind in DTYPES.items()}
    if dtype in known:
        return known[dtype]
    if dtype in known.values():
        return dtype
    raise InputError(f"--dtype {dtype}: use auto, {', '.join(DTYPES)}")
