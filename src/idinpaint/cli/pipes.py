"""`-` as a photo or a result: standard input and output."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from idinpaint.imaging.formats import BY_NAME
from idinpaint.imaging.photo import open_image
from idinpaint.types import InputError

PIPE = Path("-")


def piped(args: argparse.Namespace) -> bool:
    """Whether `restore` reads its photo from, or writes its result to, a pipe."""
    return PIPE in (args.image, args.output)


def through_pipes(args: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """run(args) with files in the place of the pipes; what is said goes to stderr when the result goes to stdout.

    The result has the photo's format where that can be written, else PNG. InputError, one line that names `-`.
    """
    if args.image != PIPE and args.image.is_dir():
        raise InputError(f"-o -: {args.image} is a folder; standard output takes one photo")
    if args.mask is not None and str(args.mask) == "-":
        raise InputError("--mask -: the mask must be a file; standard input is the photo's")
    with tempfile.TemporaryDirectory(prefix="idinpaint-") as name:
        folder, given = Path(name), argparse.Namespace(**vars(args))
        if args.image == PIPE:
            given.image = folder / "standard input"
            with given.image.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            if args.output != PIPE:
                return run(given)
            given.output = folder / f"standard output{_ending(given.image)}"
            with contextlib.redirect_stdout(sys.stderr):
                status = run(given)
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}/", "")) from error
        sys.stdout.buffer.write(given.output.read_bytes())
        sys.stdout.buffer.flush()
        return status


def _ending(path: Path) -> str:
    """The file name ending for a result like this photo."""
    image: Image.Image = open_image(path)
    return next(iter(BY_NAME[image.format].suffixes), ".png")
