"""Reads a mask file into the one convention: True (white) = hole. Says what it had to assume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from idinpaint.photo import open_image
from idinpaint.types import InputError

THRESHOLD = 128  # of 255; at and above is hole
SOFT = (16, 239)  # values between are neither black nor white
INVERTED_RATIO = 0.60  # a hole larger than this that also takes nearly all of the border looks inverted
INVERTED_BORDER = 0.95


def load_mask(path: str | Path, size: tuple[int, int], invert: bool = False) -> tuple[np.ndarray, list[str]]:
    """Reads a mask for an upright photo of size (width, height) px.

    Returns (mask bool [height, width], True = hole; notices in words). invert: white means known.
    InputError for files that cannot be read, another aspect ratio, a uniform grey, an empty or a full mask.
    """
    path = Path(path)
    notices: list[str] = []
    values = _grey_values(path, notices)
    if values.min() == values.max() and SOFT[0] < values.min() < SOFT[1]:
        grey = int(values.min())
        raise InputError(f"{path}: the mask is one uniform grey ({grey}), neither hole (white) nor known (black)")
    soft = float(np.mean((values > SOFT[0]) & (values < SOFT[1])))
    mask = values >= THRESHOLD
    if soft > 0:
        notices.append(f"{path.name}: {100 * soft:.1f} % of the mask is grey; cut at half ({THRESHOLD} of 255)")
    if values.max() < THRESHOLD and values.max() > SOFT[0]:
        brightest = int(values.max())
        raise InputError(f"{path}: the brightest value of the mask is {brightest}, below half; draw the hole white")
    if invert:
        mask = ~mask
    _refuse_trivial(path, mask)
    mask = _fit(path, mask, size, notices)
    _refuse_trivial(path, mask)
    if looks_inverted(mask):
        share = 100 * mask.mean()
        notices.append(f"{path.name}: {share:.0f} % is hole, with the border: if it looks inverted, use --invert-mask")
    return mask, notices


def looks_inverted(mask: np.ndarray) -> bool:
    """Whether most of the picture and nearly all of its border are hole."""
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return bool(mask.mean() > INVERTED_RATIO and border.mean() >= INVERTED_BORDER)


def _refuse_trivial(path: Path, mask: np.ndarray) -> None:
    if not mask.any():
        raise InputError(f"{path}: the mask is empty, nothing is to be restored (white = hole; --invert-mask turns it)")
    if mask.all():
        raise InputError(f"{path}: the mask covers the whole photo, nothing is known (--invert-mask turns it)")


def _fit(path: Path, mask: np.ndarray, size: tuple[int, int], notices: list[str]) -> np.ndarray:
    """NEAREST resize when the aspect ratio is the same to a pixel of the smaller picture; else InputError."""
    height, width = mask.shape
    if (width, height) == size:
        return mask
    ratio = width / size[0], height / size[1]
    smaller = min(width, height, *size)
    if abs(ratio[0] / ratio[1] - 1) > min(1 / smaller, 0.03):
        hint = "; turned by 90 degrees?" if abs(width * size[0] / (height * size[1]) - 1) < 0.01 else ""
        raise InputError(
            f"{path}: the mask is {width}x{height}, the photo {size[0]}x{size[1]}: another aspect ratio{hint}"
        )
    notices.append(f"{path.name}: resized from {width}x{height} to {size[0]}x{size[1]} (NEAREST)")
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _grey_values(path: Path, notices: list[str]) -> np.ndarray:
    """The mask file as uint8 [h, w], upright, with transparency resolved."""
    image = ImageOps.exif_transpose(open_image(path))
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(path, np.asarray(image).astype(np.float64))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        if alpha.min() < 255:
            return _from_alpha(path, np.asarray(rgba.convert("RGB").convert("L")), alpha, notices)
        image = rgba.convert("RGB")
    return np.asarray(image.convert("L"))


def _scaled(path: Path, values: np.ndarray) -> np.ndarray:
    """16-bit, 32-bit or float values to uint8: the range is 1, 255 or 65535, by the largest value."""
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise InputError(f"{path}: the mask's values are outside of 0 to 65535; save it as 8-bit grey")
    top = next(top for top in (1, 255, 65535) if values.max() <= top)
    return np.rint(values * (255 / top)).astype(np.uint8)


def _from_alpha(path: Path, luma: np.ndarray, alpha: np.ndarray, notices: list[str]) -> np.ndarray:
    """Masks with transparency, three habits: white painted on a transparent layer (hole = painted); black and
    white with transparent parts (transparent = known); a photo or a black layer with the hole erased."""
    if alpha.max() == 0:
        raise InputError(f"{path}: the mask is wholly transparent")
    visible = luma[alpha >= 128] if (alpha >= 128).any() else luma[alpha > 0]
    shades = float(np.mean((visible > SOFT[0]) & (visible < SOFT[1])))
    if visible.max() >= THRESHOLD and shades < 0.2:
        notices.append(f"{path.name}: the mask has transparency; hole = what is white and opaque")
        return np.rint(luma.astype(np.float32) * alpha / 255).astype(np.uint8)
    notices.append(f"{path.name}: the mask has transparency; hole = what is transparent")
    return 255 - alpha
