"""diffusers without the packages that it only looks for: peft, transformers and scipy are a third of what a cold start
imports, and painting with the bundled model uses nothing of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What diffusers imports when it is there.
UNUSED = ("peft", "transformers", "scipy", "onnxruntime", "onnx", "flax", "bitsandbytes")


@contextmanager
def without_unused() -> Iterator[None]:
    """Inside the block these packages count as not installed, unless somebody has loaded them, or diffusers, already:
    it looks for them once, and imports its parts later.

    Only for a process of our own: diffusers, once imported so, offers no LoRA and no text encoders in that process.
    """
    hidden = [name for name in UNUSED if name not in sys.modules and "diffusers" not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: importlib finds no such package
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
