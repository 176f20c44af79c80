"""Photos in and out, as a photographer expects: upright, at their own depth and colour mode, with ICC and EXIF.

All processing sees `Photo.rgb` (uint8). When the result is saved, only the pixels under the mask are taken
from it; the known samples are written back from the native data, untouched by any conversion.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from idinpaint.imaging.colour_modes import convert, eight_bits, png_header
from idinpaint.imaging.compositing import nearest_known
from idinpaint.imaging.containers import check_shape, encoding, mend_exif, quiet, resolution, sound_exif
from idinpaint.imaging.encoders import (
    XMP_KEYWORD,
    check_output,
    photo_tags,
    write_atomic,
    write_png16,
    write_tiff,
)
from idinpaint.imaging.formats import Format, branded, check_codec, output_format, read_formats
from idinpaint.imaging.read_checks import dropped_channels, plain_samples, refuse_odd_tiff
from idinpaint.imaging.tiff_strips import kept_compression
from idinpaint.types import LUMA, InputError

__all__ = ["Photo", "check_output", "load_photo", "open_image", "save_photo"]

MAX_PIXELS = 175_000_000  # larger files are refused: a few kB of PNG can claim gigabytes


@dataclass
class Photo:
    """A photo as read. rgb: uint8 [H, W, 3], upright; notices: what a reader should know of the conversion.

    native: the file's own colour samples when they are not 8-bit RGB, uint8 or uint16 [H, W, C], upright;
    space: rgb, grey or cmyk; alpha: [H, W] at the native depth; cmyk_profile: whether ICC was used for rgb;
    compression: of a TIFF, as Pillow names it, lossy ones too.
    """

    rgb: np.ndarray
    path: Path
    space: str = "rgb"
    native: np.ndarray | None = None
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    cmyk_profile: bool = False
    exif: Image.Exif | None = None
    dpi: tuple[float, float] | None = None
    compression: str = "raw"
    notices: list[str] = field(default_factory=list)

    @property
    def samples(self) -> np.ndarray:
        """The native colour samples, uint8 or uint16 [H, W, C]."""
        return self.rgb if self.native is None else self.native

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px, upright."""
        return self.rgb.shape[1], self.rgb.shape[0]


def open_image(path: str | Path) -> Image.Image:
    """Opens and decodes a picture file fully (not yet upright). InputError for whatever is wrong with it."""
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if path.is_dir():
            raise InputError(f"{path}: is a folder, a picture file is needed")
        if not path.is_file():
            raise InputError(f"{path}: is no regular file (a device, pipe or socket)")
        if path.stat().st_size == 0:
            raise InputError(f"{path}: is empty (0 bytes)")
        check_codec(path, branded(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=read_formats())
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            check_shape(path, image)
            with quiet():
                image.load()
            mend_exif(image)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: has more than {MAX_PIXELS // 10**6} megapixels; refused, scale it down") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not a picture that can be read (JPEG, PNG, TIFF, WebP and BMP can)") from None
    except PermissionError:
        raise InputError(f"{path}: cannot be read (permission denied)") from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory") from None
    except Exception as error:  # Pillow's decoders raise anything on damaged files
        detail = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is damaged or cut short ({detail})") from None
    return image


def load_photo(path: str | Path) -> Photo:
    """Reads a photo; InputError, one line that names the file, when that is not possible."""
    image = open_image(path := Path(path))
    info, orientation = image.info, image.getexif().get(0x0112, 1)
    photo = Photo(np.empty(0), path, icc=info.get("icc_profile") or None, dpi=resolution(info))
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # phones put a depth map into an MPO
        photo.notices.append(f"{path.name}: has several pages or frames; the first is used")
    try:
        if exif := sound_exif(image):
            photo.exif = photo_tags(exif, rotated=orientation in (5, 6, 7, 8))
    except Exception:  # a broken EXIF block must not cost the photo
        photo.notices.append(f"{path.name}: its EXIF data is damaged and is dropped")
    refuse_odd_tiff(path, image, deep=_bits(image) > 8)
    if _bits(image) > 8 and image.mode in ("I;16", "I;16B", "I;16L", "I", "RGB", "RGBA"):
        _read_16bit(photo, image)
    else:
        _read_8bit(photo, image)
    photo.compression = image.info.get("compression", "raw") if image.format == "TIFF" else "raw"
    if (depth := image.info.get("bit_depth", 8)) > 8:
        photo.notices.append(f"{path.name}: {depth}-bit {image.format} is reduced to 8 bits")
    photo.notices += dropped_channels(path, image, int(photo.alpha is not None))
    image.close()
    _turn_upright(photo, orientation)
    return photo


def _bits(image: Image.Image) -> int:
    """Bits a sample in the file; Pillow itself reads 16-bit colour as 8-bit."""
    if image.format == "PNG":
        return png_header(image.filename)[24]
    if image.format == "TIFF":
        return max(np.atleast_1d(image.tag_v2.get(258, 8)))
    return 16 if image.mode.startswith("I") else 8


def _read_16bit(photo: Photo, image: Image.Image) -> None:
    """Grey, grey + alpha, RGB or RGBA with 16 bits a sample, through cv2 (its order is turned into RGB here)."""
    with quiet():
        data = cv2.imdecode(np.fromfile(photo.path, np.uint8), cv2.IMREAD_UNCHANGED)
    if data is None or data.dtype != np.uint16:
        raise InputError(f"{photo.path}: 16-bit data of this kind ({image.mode}) is not supported; convert it")
    data = plain_samples(image, data.reshape(*data.shape[:2], -1))
    grey_png = image.format == "PNG" and png_header(photo.path)[25] in (0, 4)
    if data.shape[2] in (2, 4):
        photo.alpha = np.ascontiguousarray(data[..., -1])
        data = data[..., :-1]
    if data.shape[2] == 1 or grey_png:
        photo.space, photo.native = "grey", np.ascontiguousarray(data[..., :1])
    else:
        photo.native = np.ascontiguousarray(data[..., ::-1])
    eight = ((photo.native.astype(np.uint32) + 128) // 257).astype(np.uint8)
    photo.rgb = np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3)))


def _read_8bit(photo: Photo, image: Image.Image) -> None:
    """Every other mode; what has no 8-bit equivalent is refused."""
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        photo.space = "grey"
        grey = image.convert("LA" if transparent else "L")
        samples = np.asarray(grey).reshape(grey.height, grey.width, -1)
        photo.native = np.ascontiguousarray(samples[..., :1])
        photo.rgb = np.repeat(photo.native, 3, axis=2)
    elif image.mode == "CMYK":
        photo.space, photo.native = "cmyk", np.array(image)
        managed = convert(image, photo.icc, to_rgb=True)
        photo.cmyk_profile = managed is not None
        photo.rgb = np.array(managed or image.convert("RGB"))
        if _bits(image) > 8:
            photo.notices.append(f"{photo.path.name}: 16-bit CMYK is reduced to 8 bits")
        return
    elif image.mode in ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "YCbCr", "HSV"):
        samples = np.asarray(image.convert("RGBA" if transparent else "RGB"))
        photo.rgb = np.ascontiguousarray(samples[..., :3])
    else:
        raise InputError(f"{photo.path}: pixels of mode {image.mode} are not supported; convert it to 8 or 16-bit RGB")
    if transparent:
        photo.alpha = np.ascontiguousarray(samples[..., -1])


def _turn_upright(photo: Photo, orientation: int) -> None:
    """Applies the EXIF orientation (1 to 8) to all arrays."""
    flips = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}  # quarter turns, mirror
    if orientation not in flips:
        return
    turns, mirror = flips[orientation]
    for name in ("rgb", "native", "alpha"):
        data = getattr(photo, name)
        if data is not None:
            data = np.rot90(data, turns)
            setattr(photo, name, np.ascontiguousarray(data[:, ::-1] if mirror else data))
    if turns % 2 and photo.dpi:
        photo.dpi = photo.dpi[::-1]


def save_photo(
    photo: Photo, rgb: np.ndarray, mask: np.ndarray, path: str | Path, xmp: bytes | None = None
) -> list[str]:
    """Writes `photo` with the pixels under the mask taken from `rgb`; returns notices of what was converted.

    rgb: uint8 [H, W, 3]; mask: bool [H, W]. The format follows the extension; depth, colour mode, alpha, ICC
    and EXIF (orientation reset) are kept where the format has them; xmp is written where the format has it.
    All or nothing; InputError when it fails.
    """
    kind = output_format(path)
    if rgb.shape != photo.rgb.shape or mask.shape != rgb.shape[:2]:
        raise ValueError(f"photo {photo.rgb.shape}, rgb {rgb.shape} and mask {mask.shape} do not fit together")
    notices: list[str] = []
    samples, space, icc = photo.samples.copy(), photo.space, photo.icc
    alpha = None if photo.alpha is None else nearest_known(photo.alpha, mask)
    samples[mask] = _to_native(photo, rgb[mask])
    if space == "cmyk" and not kind.cmyk:
        notices.append(f"{kind.name} has no CMYK: written as RGB")
        samples, space = np.where(mask[..., None], rgb, photo.rgb), "rgb"
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if photo.cmyk_profile else None
    if samples.dtype == np.uint16 and not kind.deep:
        notices.append(f"{kind.name} has no 16 bits: written with 8")
        samples, alpha = eight_bits(samples), None if alpha is None else eight_bits(alpha)
    if alpha is not None and not kind.alpha:
        notices.append(f"{kind.name} has no transparency: alpha is dropped")
        alpha = None
    if alpha is not None:
        samples = np.dstack([samples, alpha])
    if kind.name == "TIFF" and kept_compression(photo.compression) != photo.compression:
        notices.append(f"its TIFF compression {photo.compression} is not written: LZW instead")
    with encoding(path):
        write_atomic(path, lambda file: _encode(file, kind, samples, space, icc, photo, xmp))
    return notices


def _to_native(photo: Photo, pixels: np.ndarray) -> np.ndarray:
    """uint8 RGB [n, 3] in the photo's colour mode and depth, [n, C]."""
    if not len(pixels):
        return np.zeros((0, photo.samples.shape[2]), photo.samples.dtype)
    if photo.space == "cmyk":
        image = Image.fromarray(pixels[None])
        managed = convert(image, photo.icc, to_rgb=False) if photo.cmyk_profile else None
        return np.asarray(managed or image.convert("CMYK"))[0]
    if photo.space == "grey":
        pixels = np.rint(pixels @ np.array(LUMA)).astype(np.uint8)[:, None]
    return pixels.astype(np.uint16) * 257 if photo.samples.dtype == np.uint16 else pixels


def _encode(
    file: BinaryIO, kind: Format, samples: np.ndarray, space: str, icc: bytes | None, photo: Photo, xmp: bytes | None
) -> None:
    """Writes [H, W, C] samples (alpha last) as `kind`, with ICC, EXIF and XMP."""
    exif = photo.exif
    if kind.name == "TIFF":
        rgba = samples[..., [0, 0, 0, 1]] if samples.shape[2] == 2 else samples  # few programs read grey + alpha
        write_tiff(
            file,
            rgba,
            icc,
            exif,
            photo.dpi,
            cmyk=space == "cmyk",
            xmp=xmp,
            compression=kept_compression(photo.compression),
        )
        return
    if samples.dtype == np.uint16:
        write_png16(file, samples, icc, exif.tobytes().removeprefix(b"Exif\0\0") if exif else None, xmp)
        return
    mode = "CMYK" if space == "cmyk" else {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    size = samples.shape[1::-1]
    image = Image.frombuffer(mode, size, np.ascontiguousarray(samples), "raw", mode, 0, 1)
    options = {"icc_profile": icc, **kind.options}
    if photo.dpi and kind.dpi:
        options["dpi"] = photo.dpi
    if exif and kind.exif:
        options["exif"] = exif
    if xmp and kind.name == "PNG":  # the others take it as it is
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt(XMP_KEYWORD, xmp.decode())
    elif xmp and kind.xmp:
        options["xmp"] = xmp
    image.save(file, kind.name, **options)
