"""`--data` of every evaluation: the data folder, IDINPAINT_DATA's unless it is given."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_data(parser: argparse.ArgumentParser, what: str = "the data folder", needed: bool = True) -> None:
    """Adds --data; it has to be given where the environment names no folder."""
    named = os.environ.get("IDINPAINT_DATA")
    default = Path(named) if named else None
    parser.add_argument(
        "--data", type=Path, default=default, required=needed and not named, help=f"{what} (IDINPAINT_DATA)"
    )
