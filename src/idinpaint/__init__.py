"""Restore damaged portraits and keep the person. Public entry point: `Restorer`."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Restorer", "__version__"]


def __getattr__(name: str):
    # Lazy, so that `idinpaint --help` and bad-input messages do not wait for torch.
    if name == "Restorer":
        from idinpaint.restorer import Restorer

        return Restorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
