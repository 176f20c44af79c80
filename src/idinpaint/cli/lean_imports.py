"""diffusers without what it only looks for: peft, transformers, scipy and torch's compiler are two thirds of what a
cold start imports, and painting with the bundled model uses nothing of them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

# What diffusers imports when it is there.
UNUSED = ("peft", "transformers", "scipy", "onnxruntime", "onnx", "flax", "bitsandbytes")
COMPILER = "torch._dynamo"
TRANSFORMERS = "diffusers.models.transformers"  # a hundred models, of which a UNet takes two blocks


def _no_compiler() -> ModuleType:
    """Stands in for torch.compile's module while diffusers is imported and its models are loaded: its decorators leave
    functions as they are, and no module has been compiled."""

    def unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
        return unchanged if function is None else function

    module = ModuleType(COMPILER)
    module.allow_in_graph = module.disable = unchanged
    module.eval_frame = SimpleNamespace(OptimizedModule=type("OptimizedModule", (), {}))
    return module


def _unfilled() -> ModuleType:
    """Stands in for diffusers' package of transformers: whoever asks for a file of it gets that file alone."""
    package, diffusers = ModuleType(TRANSFORMERS), find_spec("diffusers")
    places = [] if diffusers is None else diffusers.submodule_search_locations
    package.__path__ = [f"{place}/models/transformers" for place in places]
    return package


@contextmanager
def without_unused() -> Iterator[None]:
    """Inside the block these packages count as not installed, unless somebody has loaded them, or diffusers, already:
    it looks for them once, and imports its parts later.

    The garbage collector rests meanwhile, and passes over for good what is there by then: hardly anything that is
    imported ever goes, and looking through it all once more at the process's end takes a fifth of a second.

    Only for a process of our own: diffusers, once imported so, offers no LoRA and no text encoders in that process.
    """
    instead: dict[str, Any] = dict.fromkeys(UNUSED)  # None: importlib finds no such package
    instead |= {COMPILER: _no_compiler(), TRANSFORMERS: _unfilled()}
    hidden = {name: module for name, module in instead.items() if not {name, "diffusers"} & sys.modules.keys()}
    sys.modules.update(hidden)
    all_packages, metadata.packages_distributions = metadata.packages_distributions, dict  # reads every package's files
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        metadata.packages_distributions = all_packages
        for name, module in hidden.items():
            if sys.modules.get(name, name) is module:
                del sys.modules[name]
