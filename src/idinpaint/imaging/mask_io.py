"""Reads a mask file into the one convention: True (white) = hole. Says what it had to assume."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from idinpaint.imaging.formats import BY_NAME
from idinpaint.imaging.mask_marks import FLAT_SHARE, coloured_strokes, flat_share, marks_by_difference
from idinpaint.imaging.photo import open_image
from idinpaint.types import InputError

THRESHOLD = 128  # of 255; at and above is hole
SOFT = (16, 239)  # values between are neither black nor white
LOSSY_RIM = 48  # a lossy file's rings round a hard edge stay below
INVERTED_RATIO = 0.60  # a hole larger than this that also takes nearly all of the border looks inverted
INVERTED_BORDER = 0.95


def load_mask(
    path: str | Path, size: tuple[int, int], invert: bool = False, photo: np.ndarray | None = None
) -> tuple[np.ndarray, list[str]]:
    """Reads a mask for an upright photo of size (width, height) px.

    Returns (mask bool [height, width], True = hole; notices in words). invert: white means known. photo: uint8
    [height, width, 3]; a marked copy of it counts as a mask of its marks. A soft rim belongs to the hole.
    InputError for files that cannot be read, another aspect ratio, a uniform grey, an empty or a full mask, and a
    photo whose marks are not found.
    """
    path = Path(path)
    notices: list[str] = []
    values, lossy = _grey_values(path, notices, photo)
    if values.min() == values.max() and SOFT[0] < values.min() < SOFT[1]:
        grey = int(values.min())
        raise InputError(f"{path}: the mask is one uniform grey ({grey}), neither hole (white) nor known (black)")
    soft = float(np.mean((values > SOFT[0]) & (values < SOFT[1])))
    if values.max() < THRESHOLD and values.max() > SOFT[0]:
        brightest = int(values.max())
        raise InputError(f"{path}: the brightest value of the mask is {brightest}, below half; draw the hole white")
    values = 255 - values if invert else values
    mask = with_soft_rim(values, LOSSY_RIM if lossy else SOFT[0])
    if soft > 0:
        notices.append(f"{path.name}: {100 * soft:.1f} % of the mask is grey; grey that touches the hole belongs to it")
    _refuse_trivial(path, mask)
    mask = _fit(path, mask, size, notices)
    _refuse_trivial(path, mask)
    if looks_inverted(mask):
        share = 100 * mask.mean()
        notices.append(f"{path.name}: {share:.0f} % is hole, with the border: if it looks inverted, use --invert-mask")
    return mask, notices


def with_soft_rim(values: np.ndarray, above: int) -> np.ndarray:
    """All from THRESHOLD up, and what is brighter than `above` and hangs together with it. uint8 -> bool [h, w]."""
    count, labels = cv2.connectedComponents((values > above).astype(np.uint8), connectivity=8)
    touched = np.zeros(count, bool)
    touched[labels[values >= THRESHOLD]] = True
    touched[0] = False
    return touched[labels]


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


def _grey_values(path: Path, notices: list[str], photo: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """(The mask file as uint8 [h, w], upright, transparency and colour resolved; whether its format is lossy)."""
    opened = open_image(path)
    lossy = BY_NAME[opened.format].lossy
    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(path, np.asarray(image).astype(np.float64)), lossy
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            return _from_alpha(path, rgba, notices), lossy
        image = image.convert("RGBA").convert("RGB")
    if image.mode not in ("1", "L"):
        found = _from_colours(path, np.asarray(image.convert("RGB")), photo, notices)
        if found is not None:
            return found, lossy
    values = np.asarray(image.convert("L"))
    if values.max() == 1:
        notices.append(f"{path.name}: the mask holds 0 and 1; hole = 1")
        values = values * np.uint8(255)
    return values, lossy


def _from_colours(path: Path, rgb: np.ndarray, photo: np.ndarray | None, notices: list[str]) -> np.ndarray | None:
    """Strokes in a colour on black or white, or on a copy of the photo, as uint8 [h, w]; None: an ordinary mask."""
    if photo is not None and photo.shape == rgb.shape:
        marks = marks_by_difference(rgb, photo)
        if marks is not None:
            if not marks.any():
                raise InputError(f"{path}: is the photo itself without marks; paint the damage in one strong colour")
            notices.append(
                f"{path.name}: is a marked copy of the photo; hole = what differs ({100 * marks.mean():.1f} %)"
            )
            return np.where(marks, 255, 0).astype(np.uint8)
    strokes = coloured_strokes(rgb)
    if strokes is not None:
        notices.append(f"{path.name}: the mask is in colour; hole = the coloured strokes")
        return strokes
    chroma = rgb.max(-1).astype(int) - rgb.min(-1)
    if np.mean(chroma > 24) > 0.1 and flat_share(rgb.reshape(-1, 3)) < FLAT_SHARE:
        hint = "give a black picture with the hole in white, or a copy of this very photo with painted marks"
        raise InputError(f"{path}: looks like a photo, not like a mask; {hint}")
    return None


def _scaled(path: Path, values: np.ndarray) -> np.ndarray:
    """16-bit, 32-bit or float values to uint8: the range is 1, 255 or 65535, by the largest value."""
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise InputError(f"{path}: the mask's values are outside of 0 to 65535; save it as 8-bit grey")
    top = next(top for top in (1, 255, 65535) if values.max() <= top)
    return np.rint(values * (255 / top)).astype(np.uint8)


def _from_alpha(path: Path, rgba: np.ndarray, notices: list[str]) -> np.ndarray:
    """Masks with transparency, four habits: white painted on a transparent layer (hole = painted); black and
    white with transparent parts (transparent = known); strokes of any colour on a transparent layer (hole =
    painted); a photo or a plain layer with the hole erased, known by its opaque border. -> uint8 [h, w]."""
    luma, alpha = np.asarray(Image.fromarray(rgba[..., :3]).convert("L")), rgba[..., 3]
    if alpha.max() == 0:
        raise InputError(f"{path}: the mask is wholly transparent")
    opaque = alpha >= 128 if (alpha >= 128).any() else alpha > 0
    visible = luma[opaque]
    shades = float(np.mean((visible > SOFT[0]) & (visible < SOFT[1])))
    if visible.max() >= THRESHOLD and shades < 0.2:
        notices.append(f"{path.name}: the mask has transparency; hole = what is white and opaque")
        return np.rint(luma.astype(np.float32) * alpha / 255).astype(np.uint8)
    border = np.concatenate([opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]]).mean()
    if border < 0.5 and flat_share(rgba[opaque][:, :3]) >= FLAT_SHARE:
        notices.append(f"{path.name}: strokes on a transparent layer; hole = what is painted")
        return np.rint(alpha * (255.0 / alpha.max())).astype(np.uint8)  # a brush of half opacity counts as whole
    notices.append(f"{path.name}: the mask has transparency; hole = what is transparent")
    return 255 - alpha
