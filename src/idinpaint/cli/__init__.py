"""The command line. `main` runs one command; nothing of it is loaded before that."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command of `idinpaint` and returns the exit status; argv: its words, those of the process by default."""
    from idinpaint.cli.command_line import main as run

    return run(argv)
