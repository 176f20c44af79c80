"""Writing files: is a path writable, 16-bit PNG and TIFF (which Pillow cannot write in
colour), and the one way a file appears: written beside its target, then moved over it."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from idinpaint.imaging.formats import check_codec, output_format
from idinpaint.imaging.tiff_strips import CODES, PREDICTED, compressed
from idinpaint.types import InputError

XMP_KEYWORD = "XML:com.adobe.xmp"  # of the PNG text chunk that holds it


def check_writable(path: str | Path) -> None:
    """Raises InputError unless a file could be created at `path`; creates nothing."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, a file name is needed")
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is no regular file (a device, pipe or socket), name a file")
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
    check_codec(path, output_format(path), write=True)
    check_writable(path)


def write_atomic(path: str | Path, write: Callable[[BinaryIO], None]) -> None:
    """Calls `write` with a binary file in the target's folder and moves it over `path`: all or nothing.

    Missing folders are made, and taken away again when it fails; a link is written through; an existing file keeps
    its mode. InputError when the system refuses (no permission, disk full) or the target is no regular file.
    """
    path, target = Path(path), Path(os.path.realpath(path))
    check_writable(path)
    missing = [folder for folder in target.parents if not folder.exists()]  # innermost first
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=target.parent)  # O_EXCL, follows no link
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
                os.fsync(file.fileno())
            os.replace(temporary, target)
            missing = []
            _sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        remove_empty(missing)


def remove_empty(folders: Iterable[Path]) -> None:
    """Takes folders away, innermost first, up to one into which something has come."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            break


def _umask() -> int:
    """The process's mask of modes, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` last through a power cut; file systems that cannot sync a folder are left alone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that may be written but not listed
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


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
    compression: str = "raw",
) -> None:
    """uint8 or uint16 [H, W, C], C as in write_png16 (4 = CMYK when `cmyk`); one strip. compression: a key of CODES.

    Written here because Pillow cannot: colour with 16 bits, or EXIF sub-directories beside compression.
    """
    height, width, channels = samples.shape
    data = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder("<"), copy=False))
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    for tag, value in tiff_tags(exif).items():
        ifd[tag] = value
    ifd[TiffImagePlugin.IMAGEWIDTH], ifd[TiffImagePlugin.IMAGELENGTH] = width, height
    ifd[TiffImagePlugin.BITSPERSAMPLE] = (8 * data.itemsize,) * channels
    ifd[TiffImagePlugin.COMPRESSION] = CODES[compression]
    ifd[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 5 if cmyk else 1 if channels <= 2 else 2
    ifd[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    ifd[TiffImagePlugin.PLANAR_CONFIGURATION] = 1
    ifd[TiffImagePlugin.ROWSPERSTRIP] = height
    if compression in PREDICTED:
        ifd[TiffImagePlugin.PREDICTOR] = 2
    strip = compressed(data, compression)
    ifd[TiffImagePlugin.STRIPBYTECOUNTS] = len(strip)
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
    file.write(strip)


# The only tags that an output keeps: description, camera, orientation, resolution, software, dates, artist and
# copyright; of EXIF exposure, dates, lens and size; of GPS everything but its two free-form texts. Whatever else a
# file carries (maker notes, comments, layers, private tags) may hold the undamaged picture.
_KEPT_TAGS = frozenset({0x010E, 0x010F, 0x0110, 0x0112, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298})
_KEPT_EXIF = frozenset(
    {0x829A, 0x829D, 0x8822, 0x8827, 0x8830, 0x8831, 0x8832, 0x9000, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012}
    | {*range(0x9201, 0x920B), 0x9290, 0x9291, 0x9292, 0xA001, 0xA002, 0xA003, 0xA20E, 0xA20F, 0xA210, 0xA215}
    | {0xA217, *range(0xA401, 0xA40B), 0xA40C, 0xA431, 0xA432, 0xA433, 0xA434, 0xA435}
)
_KEPT_GPS = frozenset(range(0, 32)) - {27, 28}
_LONGEST_VALUE = 1000  # bytes or characters; no picture fits, a copyright notice does
_SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS


def photo_tags(exif: Image.Exif, rotated: bool) -> Image.Exif:
    """A copy of the kept tags (see _KEPT_TAGS) with orientation 1; `rotated`: width and height swapped."""
    clean = Image.Exif()
    for tag, value in exif.items():
        if tag in _KEPT_TAGS and _short(value):
            clean[tag] = value
    for tag, kept in zip(_SUB_DIRECTORIES, (_KEPT_EXIF, _KEPT_GPS), strict=True):
        values = {key: value for key, value in exif.get_ifd(tag).items() if key in kept and _short(value)}
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


def _short(value: object) -> bool:
    """Whether a tag's value is too small to hold a picture."""
    if isinstance(value, str | bytes):
        return len(value) <= _LONGEST_VALUE
    return not isinstance(value, dict) and (not isinstance(value, tuple | list) or len(value) <= 16)


def tiff_tags(exif: Image.Exif | None) -> dict[int, object]:
    """The EXIF data as TIFF tags, sub-directories as dicts."""
    if not exif:
        return {}
    tags: dict[int, object] = {tag: value for tag, value in exif.items() if tag not in _SUB_DIRECTORIES}
    for tag in _SUB_DIRECTORIES:
        if values := dict(exif.get_ifd(tag)):
            tags[tag] = values
    return tags
