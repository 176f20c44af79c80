"""The networks of a command, loaded at their first use, so that bad input is told before torch is imported."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from idinpaint.cli.lean_imports import without_unused
from idinpaint.judging.controller import load_controller
from idinpaint.types import InputError


class Models:
    """Loads the Restorer, or the finder of damage, when it is asked for."""

    def __init__(self, args: argparse.Namespace, progress: Callable[[str], None]) -> None:
        names = ("device", "dtype", "gan", "landmarks", "identity", "judge")
        self.model, self.settings = args.model, {name: getattr(args, name) for name in names if hasattr(args, name)}
        self.progress, self.controller = progress, getattr(args, "controller", None)
        if self.controller is not None:
            load_controller(self.controller)  # told now, not after the loading of the models
        self._restorer: Any = None
        self._finder: Any = None

    def restorer(self, painters: bool = True) -> Any:
        """The Restorer; painters: False for one that analyses and verifies only, for good. InputError for a wrong
        model, device or installation."""
        if self._restorer is None:
            self.progress("loading the models")
            os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
            with _told(), self._lean():
                from idinpaint.restorer import Restorer

                self._restorer = Restorer.from_pretrained(self.model, painters=painters, **self.settings)
            if self.controller is not None:
                self._restorer.use_controller(self.controller)
        return self._restorer

    def _lean(self) -> AbstractContextManager[None]:
        """Another model may read prompts, another encoder or landmarker may stand on scipy: they get everything."""
        bundled = ("bundled", "auto", "sface")
        plain = all(self.settings.get(name, "auto") in bundled for name in ("landmarks", "identity", "judge"))
        return without_unused() if plain and self.model == "default" and not self.settings.get("gan") else nullcontext()

    def finder(self) -> Any:
        """The DamageFinder. InputError as above."""
        if self._finder is None:
            with _told():
                from idinpaint.damage.finder import load_finder

                self._finder = load_finder(self.model, self.settings.get("device", "auto"))
        return self._finder


@contextmanager
def _told() -> Iterator[None]:
    """A package that is missing is the user's matter; what libraries warn of is their developers'."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise InputError(f"a package cannot be loaded: {error}; see idinpaint doctor") from error
