"""The one door: a path, a PIL image or an array becomes upright RGB uint8, or a bool mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from idinpaint.types import InputError


def as_rgb(image: Any) -> np.ndarray:
    """Path, PIL image, Photo or array [H, W], [H, W, 3] uint8 -> [H, W, 3] uint8 RGB. Raises InputError otherwise."""
    if isinstance(image, str | Path):
        from idinpaint.imaging.photo import load_photo

        return load_photo(image).rgb
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    array = np.asarray(getattr(image, "rgb", image))
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise InputError(f"image array is {array.dtype} {array.shape}; give uint8 [H, W, 3] RGB")
    return np.ascontiguousarray(array) if array.ndim == 3 else np.repeat(array[..., None], 3, -1)


def as_mask(mask: Any, shape: tuple[int, int], photo: np.ndarray | None = None) -> np.ndarray:
    """Path, PIL image or array [H, W] (bool, or numbers with their middle as the threshold) -> [H, W] bool, 1 = hole.

    photo: uint8 [H, W, 3]; a file that is a marked copy of it gives its marks.
    Raises InputError for another size, an empty or a full mask.
    """
    if isinstance(mask, str | Path):
        from idinpaint.imaging.mask_io import load_mask

        return load_mask(mask, (shape[1], shape[0]), photo=photo)[0]
    array = np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
    if array.ndim != 2 or array.shape != shape:
        raise InputError(f"mask array is {array.shape}, the image is {shape}; give a mask of the image's size")
    if array.dtype != bool:
        array = array > (127 if array.dtype == np.uint8 and array.max() > 1 else 0.5)
    if not array.any():
        raise InputError("the mask is empty: nothing is to be filled; white (1) marks the hole")
    if array.all():
        raise InputError("the mask covers the whole image: nothing is known; white (1) marks the hole")
    return array
