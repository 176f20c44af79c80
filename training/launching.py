"""How a training script was started: the launcher's own settings, and flags as diffusers' scripts take them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from idinpaint.exits import TERMINATED, Terminated, unwinding
from idinpaint.types import InputError

GRACE = 60.0  # seconds to end in after the launcher has gone


def launcher_words() -> list[str]:
    """The words of the `accelerate launch` that started this process, up to the script; empty for another start."""
    import psutil  # a dependency of accelerate

    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return []
    if "accelerate" not in " ".join(words):
        return []
    script = Path(sys.argv[0]).name
    place = next((i for i, word in enumerate(words) if Path(word).name == script), len(words))
    return [part for word in words[:place] for part in word.split("=", 1)]


def launcher_option(name: str) -> str | None:
    """The value of `accelerate launch --name VALUE`, None when it was not given."""
    words = launcher_words()
    asked = [b for a, b in zip(words, words[1:], strict=False) if a.replace("-", "_") == f"__{name}"]
    return asked[-1] if asked else None


def launcher_precision() -> str | None:
    """The mixed precision that the launcher was asked for by flag, config file or environment; None: by nobody.

    `accelerate launch` sets its variable always, so that alone does not say whether somebody asked.
    """
    if not launcher_words():
        return os.environ.get("ACCELERATE_MIXED_PRECISION")
    if (asked := launcher_option("mixed_precision")) is not None:
        return asked
    from accelerate.commands.config.config_args import default_config_file

    path = launcher_option("config_file") or default_config_file
    try:
        said = (yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}).get("mixed_precision")
    except (OSError, AttributeError, yaml.YAMLError):
        return None
    return "no" if said is False else said  # YAML reads a bare no as a boolean


def end_with_launcher(every: float = 1.0) -> None:
    """Send this process SIGTERM once the launcher that started it has gone; without a launcher nothing is watched.

    `accelerate launch` passes no signal on: killed, it would leave the training running.
    """
    parent = os.getppid()
    if not launcher_words() and "TORCHELASTIC_RUN_ID" not in os.environ:  # the latter: torchrun
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)  # the main thread may hang in a collective that waits for processes that are gone
        os._exit(TERMINATED)

    threading.Thread(target=watch, daemon=True).start()


def run_guarded(work: Callable[[], None]) -> None:
    """Ends the process with one clear line: status 2 for bad input, a missing file or a full disk, and for signals
    with theirs, when temporary files have been taken away. `accelerate launch` is watched meanwhile."""
    try:
        with unwinding():
            end_with_launcher()
            work()
            return
    except InputError as error:
        message, status = str(error), 2
    except FileNotFoundError as error:
        message, status = f"{error.filename or error}: no such file; check the config's paths", 2
    except OSError as error:  # a full disk, no permission
        message, status = f"{error.filename or 'files'}: {error.strerror or error}; the last checkpoint is kept", 2
    except (Terminated, KeyboardInterrupt) as error:
        name, status = ("terminated", TERMINATED) if isinstance(error, Terminated) else ("interrupted", 130)
        message = f"{name}; the same command goes on from the last checkpoint"
    rank = int(os.environ.get("RANK", "0"))
    print(f"error: {message}" if rank == 0 else f"error in process {rank}: {message}", file=sys.stderr, flush=True)
    raise SystemExit(status)


def warn_of_missing_processes() -> None:
    """Say so when `accelerate launch -q --num_processes N` started just one: with `--cpu` it does, and tells nobody."""
    asked = launcher_option("num_processes") if int(os.environ.get("WORLD_SIZE", "1")) == 1 else None
    if asked and asked.isdigit() and int(asked) > 1:
        print(
            f"warning: accelerate launch was asked for {asked} processes and started one (with --cpu it always "
            f"does); for {asked}: ACCELERATE_USE_CPU=true torchrun --nproc_per_node {asked} {sys.argv[0]} ...",
            file=sys.stderr,
        )


def parser_for(config_class: type) -> argparse.ArgumentParser:
    """`--config FILE [--phase NAME] [--set key=value]...`, and `--key value` for every setting of the recipe."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--phase", metavar="NAME", help="of a recipe with several; the first that is not done")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    flags = parser.add_argument_group("settings, as in the recipe's file")
    for field in fields(config_class):
        flags.add_argument(f"--{field.name}", nargs="?", const="true", metavar="V", dest=f"setting {field.name}")
    return parser


def given_settings(arguments: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """key=value of every --set, then of every --key; `rest`, which no flag knows, is left for load_config to name."""
    flags = {name.removeprefix("setting "): value for name, value in vars(arguments).items() if " " in name}
    given = [*arguments.overrides, *(f"{name}={value}" for name, value in flags.items() if value is not None)]
    unknown: list[str] = []
    for word in rest:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            unknown.append(f"{name}={value}")
    return given + unknown


def parse(config_class: type, words: Sequence[str] | None = None) -> tuple[str, str | None, list[str]]:
    """(the recipe's file, the phase that was asked for, settings as key=value, the launcher's precision first)."""
    parser = parser_for(config_class)
    arguments, rest = parser.parse_known_args(words)
    if (stray := [word for word in rest if not word.startswith("--")]) == list(rest) and stray:
        parser.error(f"unrecognized arguments: {' '.join(stray)}")
    given: list[Any] = given_settings(arguments, rest)
    precision = launcher_precision()
    return arguments.config, arguments.phase, [*([f"mixed_precision={precision}"] if precision else []), *given]
