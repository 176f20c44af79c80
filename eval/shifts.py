"""Distribution shift: what old or poor photos have and the training photos lack, applied to an aligned test photo."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Shift = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # uint8 [H, W, 3] RGB -> the same shape and type


def blur(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian of sigma 2 px."""
    return cv2.GaussianBlur(photo, (0, 0), 2.0)


def noise(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation 15 grey levels."""
    return np.clip(np.rint(photo + rng.normal(0, 15, photo.shape)), 0, 255).astype(np.uint8)


def jpeg(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """JPEG of quality 20."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=20)
    with Image.open(file) as image:
        return np.array(image.convert("RGB"))


def low_light(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third of the light (gamma 2.2) with noise of 4 grey levels."""
    dark = 255 * (photo / 255.0) * (1 / 3) ** (1 / 2.2)
    return np.clip(np.rint(dark + rng.normal(0, 4, photo.shape)), 0, 255).astype(np.uint8)


def grey(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rec. 601 luma in all three channels."""
    return np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)


SHIFTS: dict[str, Shift] = {"blur": blur, "noise": noise, "jpeg": jpeg, "lowlight": low_light, "grey": grey}
