"""What a call costs: seconds and peak memory."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def measured(cost: dict[str, float]):
    """Fills `seconds` and `peak_mb` of the block: CUDA's peak where there is a GPU, else the process's resident one."""
    import torch

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    resettable = _reset_resident_peak()
    start = time.perf_counter()
    yield
    if cuda:
        torch.cuda.synchronize()
    cost["seconds"] = time.perf_counter() - start
    if cuda and torch.cuda.max_memory_allocated():
        cost["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    else:
        cost["peak_mb"] = _resident_peak() if resettable else float("nan")


def _reset_resident_peak() -> bool:
    try:  # Linux: 5 resets the peak of /proc/self/status
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
