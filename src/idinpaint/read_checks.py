"""What is not opened at all: formats outside of a list, TIFFs that would be read wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from idinpaint.types import InputError

# What Pillow may open (its JPEG reader takes MPO too): its other readers start programs (EPS: Ghostscript) or are
# rarely tested.
READ_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM", "TGA", "AVIF")


def read_formats() -> list[str]:
    """READ_FORMATS without those that this build of Pillow lacks (it raises KeyError for them)."""
    Image.init()
    return [name for name in READ_FORMATS if name in Image.OPEN]


def refuse_odd_tiff(path: Path, image: Image.Image, deep: bool) -> None:
    """InputError for TIFFs whose samples would be read or written back changed; deep: more than 8 bits."""
    if image.format != "TIFF":
        return
    tags = image.tag_v2
    if 1 in np.atleast_1d(tags.get(338, 0)) or image.mode in ("RGBa", "La"):
        raise InputError(f"{path}: TIFF with associated (premultiplied) alpha is not supported; save it unassociated")
    if deep and tags.get(284, 1) != 1:
        raise InputError(f"{path}: 16-bit TIFF in planes is not supported; save it with interleaved channels")
    if deep and tags.get(262) == 0:
        raise InputError(f"{path}: 16-bit TIFF with white as zero is not supported; save it with black as zero")
