"""Where the photos and teachers for testing lie."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import idinpaint


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data/ and models/; the test is skipped, with the way out, when it is not there."""
    folder = Path(os.environ.get("IDINPAINT_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no data folder at {folder}; set IDINPAINT_SHARED to the folder that holds data/ and models/")
    return folder


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """accelerate keeps the first run's precision for the whole process; a user starts each run in its own."""
    yield
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def restorer() -> idinpaint.Restorer:
    """The bundled model, loaded once; a test that changes it puts it back."""
    return idinpaint.Restorer.from_pretrained(device="cpu")
