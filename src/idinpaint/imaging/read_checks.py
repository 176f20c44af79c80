"""TIFFs that are not read, since they would be read wrongly, and what is left out of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from idinpaint.types import InputError


def refuse_odd_tiff(path: Path, image: Image.Image, deep: bool) -> None:
    """InputError for TIFFs whose samples would be read or written back changed; deep: more than 8 bits."""
    if image.format != "TIFF":
        return
    tags = image.tag_v2
    if 1 in np.atleast_1d(tags.get(338, 0)) or image.mode in ("RGBa", "La"):
        raise InputError(f"{path}: TIFF with associated (premultiplied) alpha is not supported; save it unassociated")
    if deep and tags.get(284, 1) != 1:
        raise InputError(f"{path}: 16-bit TIFF in planes is not supported; save it with interleaved channels")


def plain_samples(image: Image.Image, data: np.ndarray) -> np.ndarray:
    """uint16 [H, W, C] as OpenCV decodes a file -> black as zero, and without a TIFF's channel of unstated meaning."""
    if image.format != "TIFF":
        return data
    if image.tag_v2.get(262) == 0:
        data = 65535 - data
    return data[..., :-1] if data.shape[2] in (2, 4) and 2 not in np.atleast_1d(image.tag_v2.get(338, 0)) else data


def dropped_channels(path: Path, image: Image.Image, kept: int) -> list[str]:
    """A notice when a TIFF has more channels beside its colours than the `kept` ones."""
    extra = len(np.atleast_1d(image.tag_v2.get(338, ()))) if image.format == "TIFF" else 0
    return [f"{path.name}: has channels that are neither colour nor alpha; they are dropped"] if extra > kept else []
