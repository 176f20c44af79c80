"""Stage names while work goes on: one changing line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Call it with a stage name. On a terminal it writes to stderr; otherwise, when `plain`, lines to stdout."""

    def __init__(self, total: int = 1, plain: bool = True) -> None:
        self.total, self.plain = total, plain
        self.terminal = sys.stderr.isatty()
        self.prefix = ""
        self.start = time.monotonic()

    def photo(self, number: int, name: str) -> None:
        """Begins photo `number` of `total`."""
        self.start = time.monotonic()
        self.prefix = f"[{number}/{self.total}] {name}: " if self.total > 1 else ""

    def __call__(self, stage: str) -> None:
        """Shows a stage name."""
        text = f"{self.prefix}{stage} ..."
        if self.terminal:
            seconds = time.monotonic() - self.start
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{f'{text} {seconds:.0f} s'[:width]}")
            sys.stderr.flush()
        elif self.plain:
            print(text, flush=True)

    def clear(self) -> None:
        """Takes the line off the terminal, before anything else is printed."""
        if self.terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class StageClock:
    """Names the stages to `progress` and keeps their seconds; `with clock(stage): ...`."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        self.progress, self.seconds = progress, {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """One stage; the seconds of stages of one name add up."""
        if self.progress:
            self.progress(stage)
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
