"""CMYK to sRGB and back by its profile, 16 bits to 8, and what a PNG says of its depth."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms


def convert(image: Image.Image, icc: bytes | None, to_rgb: bool) -> Image.Image | None:
    """CMYK <-> sRGB through the CMYK profile `icc`; None when there is none that works."""
    if not icc:
        return None
    try:
        cmyk, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
        profiles = (cmyk, srgb) if to_rgb else (srgb, cmyk)
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        return ImageCms.profileToProfile(
            image, *profiles, renderingIntent=intent, outputMode="RGB" if to_rgb else "CMYK"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def eight_bits(samples: np.ndarray) -> np.ndarray:
    """uint16 -> uint8, rounded."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def png_header(path: str | Path) -> bytes:
    """The first 26 bytes."""
    with open(path, "rb") as file:
        return file.read(26)  # [24] bits a sample, [25] colour type
