"""What the command lines share: common options, one line for bad input, files written whole, the commit."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

WEIGHTS_HELP = "folder of the metric networks; default: metric_weights/ beside the data, else the cache"


def add_data(parser: argparse.ArgumentParser, what: str = "folder of the data sets", needed: bool = True) -> None:
    """Adds --data; it has to be given where the environment names no folder."""
    named = os.environ.get("IDINPAINT_DATA")
    default = Path(named) if named else None
    parser.add_argument(
        "--data", type=Path, default=default, required=needed and not named, help=f"{what} (IDINPAINT_DATA)"
    )


def part_of(text: str) -> tuple[int, int]:
    """An argparse type: I/N, the I-th of N parts."""
    first, _, count = text.partition("/")
    if not (first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text}: write it as 1/2, the first of two parts")
    return int(first), int(count)


# Options that several scripts have.
SHARED: dict[str, dict[str, Any]] = {
    "--output": {"type": Path, "required": True, "help": "the run's folder"},
    "--metric-weights": {"type": Path, "help": WEIGHTS_HELP},
    "--set": {"action": "append", "default": [], "metavar": "KEY=VALUE", "dest": "overrides"},
    "--part": {"type": part_of, "metavar": "I/N", "help": "rows only, of every N-th image"},
    "--predictions": {"action": "append", "default": [], "metavar": "NAME=DIR"},
    "--model": {"default": "default", "help": "default, or a model folder"},
    "--device": {"default": "auto"},
    "--seed": {"type": int, "default": 0},
    "--samples": {"type": int, "default": 4, "help": "candidates"},
    "--steps": {"type": int},
    "--minutes": {"type": float, "default": 8.0, "help": "stop after that; the same command goes on"},
}


def parser_of(words: str, *shared: str) -> argparse.ArgumentParser:
    """A parser with the shared options, `--data` first among them. words: the script's docstring."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared(parser, *shared)
    return parser


def add_shared(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds shared options to a parser, say of a subcommand."""
    for name in names:
        if name == "--data":
            add_data(parser)
        else:
            parser.add_argument(name, **SHARED[name])


def run_main(work: Callable[[argparse.Namespace], int | None], args: argparse.Namespace) -> int:
    """work(args)'s exit status, 0 for None; bad input is one line that names the script, and 2."""
    try:
        return work(args) or 0
    except InputError as error:
        print(f"{Path(work.__code__.co_filename).stem}: {error}", file=sys.stderr)
        return 2


def write_text(path: Path, text: str) -> None:
    """Through a temporary file."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, values: Any, **options: Any) -> None:
    """Indented, with a line end; options: of json.dumps."""
    write_text(path, json.dumps(values, indent=1, **options) + "\n")


def commit() -> str:
    """The commit of this checkout, or unknown."""
    root = Path(__file__).resolve().parents[1]
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown"
