"""Writing files: which formats exist, is a path writable, 16-bit PNG and TIFF (which Pillow cannot write in
colour), and the one way a file appears: written beside its target, then moved over it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from idinpaint.types import InputError

XMP_KEYWORD = "XML:com.adobe.xmp"  # of the PNG text chunk that holds it

# Extension -> Pillow's format name.
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
}


def output_format(path: str | Path) -> str:
    """Pillow's name of the format that the extension stands for; InputError for an unknown one."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        known = " ".join(FORMATS)
        raise InputError(f"{path}: unknown output extension {path.suffix or '(none)'!r}; use one of {known}")
    return FORMATS[path.suffix.lower()]


def check_writable(path: str | Path) -> None:
    """Raises InputError unless a file could be created at `path`; creates nothing."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, a file name is needed")
        folder = path.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        usable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:  # a name too long, a loop of links
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    if not usable:
        raise InputError(f"{path}: cannot be written, {folder} is not a writable folder")


def check_output(path: str | Path) -> None:
    """Raises InputError unless a picture can be written to `path`: known extension, writable folder."""
    output_format(path)
    check_writable(path)


def write_atomic(path: str | Path, write: Callable[[BinaryIO], None]) -> None:
    """Calls `write` with a binary file in the target's folder and moves it over `path`: all or nothing.

    Missing folders are made. InputError when the system refuses (no permission, disk full).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                write(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_png16(
    file: BinaryIO, samples: np.ndarray, icc: bytes | None, exif: bytes | None, xmp: bytes | None = None
) -> None:
    """uint16 [H, W, C], C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. exif: TIFF bytes without the "Exif" prefix."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, width * channels * 2)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # each row minus the one above (PNG filter "up"), modulo 256
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    if icc:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        _chunk(file, b"eXIf", exif)
    if xmp:
        _chunk(file, b"iTXt", XMP_KEYWORD.encode() + b"\0\0\0\0\0" + xmp)
    _chunk(file, b"IDAT", zlib.compress(filtered, 4))
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def write_tiff(
    file: BinaryIO,
    samples: np.ndarray,
    icc: bytes | None = None,
    exif: Image.Exif | None = None,
    dpi: tuple[float, float] | None = None,
    cmyk: bool = False,
    xmp: bytes | None = None,
) -> None:
    """uint8 or uint16 [H, W, C], C as in write_png16 (4 = CMYK when `cmyk`); uncompressed, one strip.

    Written here because Pillow cannot: colour with 16 bits, or EXIF sub-directories beside compression.
    """
    height, width, channels = samples.shape
    data = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder("<"), copy=False))
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    for tag, value in tiff_tags(exif).items():
        ifd[tag] = value
    ifd[TiffImagePlugin.IMAGEWIDTH], ifd[TiffImagePlugin.IMAGELENGTH] = width, height
    ifd[TiffImagePlugin.BITSPERSAMPLE] = (8 * data.itemsize,) * channels
    ifd[TiffImagePlugin.COMPRESSION] = 1
    ifd[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 5 if cmyk else 1 if channels <= 2 else 2
    ifd[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    ifd[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    ifd[TiffImagePlugin.ROWSPERSTRIP] = height
    ifd[TiffImagePlugin.STRIPBYTECOUNTS] = data.nbytes
    ifd[TiffImagePlugin.STRIPOFFSETS] = 0  # from the end of the directory; save() adds where that is
    if dpi:
        ifd[TiffImagePlugin.X_RESOLUTION], ifd[TiffImagePlugin.Y_RESOLUTION] = dpi
        ifd[TiffImagePlugin.RESOLUTION_UNIT] = 2  # inch
    if channels in (2, 4) and not cmyk:
        ifd[TiffImagePlugin.EXTRASAMPLES] = 2  # unassociated alpha
    if icc:
        ifd.tagtype[TiffImagePlugin.ICCPROFILE] = 7  # undefined bytes
        ifd[TiffImagePlugin.ICCPROFILE] = icc
    if xmp:
        ifd.tagtype[700] = 1  # bytes
        ifd[700] = xmp
    file.seek(ifd.save(file))
    file.write(data.data)


# Tags that describe how a file stores its samples: they belong to the file read, not to the photo.
_STRUCTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 290, 291, 292, 293, 301, 317}
    | {318, 319, 320, 322, 323, 324, 325, 330, 332, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518}
    | {519, 520, 521, 529, 530, 531, 532, 34675}
)
_SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS


def photo_tags(exif: Image.Exif, rotated: bool) -> Image.Exif:
    """A copy without the tags of file structure and with orientation 1; `rotated`: width and height swapped."""
    clean = Image.Exif()
    for tag, value in exif.items():
        if tag not in _STRUCTURE and tag not in _SUB_DIRECTORIES and tag != 0xA005:
            clean[tag] = value
    for tag in _SUB_DIRECTORIES:
        values = dict(exif.get_ifd(tag))
        if values:
            clean.get_ifd(tag).update(values)
    if 0x0112 in clean:
        clean[0x0112] = 1
    size = clean.get_ifd(0x8769)
    if rotated and 0xA002 in size and 0xA003 in size:
        size[0xA002], size[0xA003] = size[0xA003], size[0xA002]
    reloaded = Image.Exif()  # only then does it list its sub-directories among its tags
    reloaded.load(clean.tobytes())
    return reloaded


def tiff_tags(exif: Image.Exif | None) -> dict[int, object]:
    """The EXIF data as TIFF tags, sub-directories as dicts."""
    if not exif:
        return {}
    tags: dict[int, object] = {tag: value for tag, value in exif.items() if tag not in _SUB_DIRECTORIES}
    for tag in _SUB_DIRECTORIES:
        if values := dict(exif.get_ifd(tag)):
            tags[tag] = values
    return tags
