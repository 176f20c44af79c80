"""`base: small | sd` of a diffusion config: which recipe runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from engine import run_script

from idinpaint.config import parse_overrides, read_values
from idinpaint.types import InputError

BASES = ("small", "sd")


def asked_base(arguments: Sequence[str]) -> str:
    """The `base` of `--config FILE --set base=...`; small when nothing says otherwise or the file cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default="")
    parser.add_argument("--base")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    known = parser.parse_known_args(arguments)[0]
    try:
        said = {**read_values(known.config), **parse_overrides(known.overrides)}
    except InputError:
        said = {}  # run_script says what is wrong with it
    return str(known.base or said.get("base", "small"))


def run_chosen(small_main: Callable[[Any], None], small_config: type) -> None:
    """Entry point of train_diffusion.py."""
    base = asked_base(sys.argv[1:])
    if base not in BASES:  # before the config is read: its keys are another recipe's
        print(f"error: base: {base} is unknown; use one of {', '.join(BASES)}", file=sys.stderr)
        raise SystemExit(2)
    if base == "sd":
        from sd_recipe import SDConfig, main

        run_script(main, SDConfig)
    else:
        run_script(small_main, small_config)
