"""What a decoded or encoded picture file must keep to: sides, modes, tags and resolution that the rest can take."""

from __future__ import annotations

import math
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from idinpaint.imaging.formats import WRITTEN
from idinpaint.types import InputError

LONGEST_SIDE = 32_766  # px; OpenCV's warps address pixels by 16-bit numbers
MOST_ASPECT = 32  # long side over short; thinner strips are no portraits, and the search for faces grows with them
MOST_DPI = 100_000
_STDERR = threading.RLock()  # the descriptor belongs to the whole process


def check_shape(path: Path, image: Image.Image) -> None:
    """InputError for sides, proportions or a mode (LAB has no conversion) that cannot be worked on.

    Pillow's own errors when a further page is damaged come through.
    """
    _ = getattr(image, "n_frames", 1)  # it looks at every page's header, and remembers
    long, short = max(image.size), max(min(image.size), 1)
    if long > LONGEST_SIDE:
        raise InputError(f"{path}: is {image.width}x{image.height}, sides up to {LONGEST_SIDE} px can be worked on")
    if long > MOST_ASPECT * short:
        raise InputError(f"{path}: is {image.width}x{image.height}, a strip thinner than {MOST_ASPECT}:1; crop it")
    if image.mode == "LAB":
        raise InputError(f"{path}: pixels of mode LAB are not supported; convert it to RGB or grey")


def mend_exif(image: Image.Image) -> None:
    """Takes EXIF data that cannot be read away from the image; `sound_exif` then tells."""
    try:
        exif = image.getexif()
        for tag in (0x8769, 0x8825):
            exif.get_ifd(tag)
    except Exception:  # Pillow's parsers raise anything on damaged data
        for name in ("exif", "Raw profile type exif"):
            image.info.pop(name, None)
        image._exif = Image.Exif()
        image._exif._loaded = True  # else it is read again
        image.info["damaged_exif"] = True


def sound_exif(image: Image.Image) -> Image.Exif:
    """The EXIF data; ValueError when mend_exif took damaged data away."""
    if image.info.get("damaged_exif"):
        raise ValueError("damaged EXIF")
    return image.getexif()


def resolution(info: dict) -> tuple[float, float] | None:
    """Dots per inch across and down, of Pillow's `info`; None where there is none that makes sense."""
    try:
        values = tuple(float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    sound = len(values) == 2 and all(math.isfinite(value) and 1 < value <= MOST_DPI for value in values)
    return values if sound else None


def check_fits(size: tuple[int, int], *outputs: Path | None) -> None:
    """InputError when an output's format cannot hold a picture of (width, height) px. Others than pictures pass."""
    for path in outputs:
        row = WRITTEN.get(path.suffix.lower()) if path else None
        if row is not None and row.longest is not None and max(size) > row.longest:
            limit = f"{row.name} holds sides up to {row.longest} px"
            raise InputError(f"{path}: {limit}, the photo is {size[0]}x{size[1]}; use PNG")


@contextmanager
def encoding(path: str | Path) -> Iterator[None]:
    """What an encoder refuses (tags too long for the format, odd numbers) becomes an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, SystemError, struct.error) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be written in this format ({reason}); use PNG") from error


@contextmanager
def quiet() -> Iterator[None]:
    """The process's stderr goes nowhere: libtiff, libpng and OpenCV talk there past Python; we say it in one line."""
    with _STDERR:
        try:
            before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # stderr is closed, so nothing is heard
            yield
            return
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            os.close(nowhere)
