"""The picture formats: a row each says how its files are named, read and written. A new format is a new row here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, features

from idinpaint.types import InputError

QUALITY = 95  # of lossy outputs


@dataclass(frozen=True)
class Format:
    """name: Pillow's; suffixes: lower case, of files that are read and written, the usual one first; also_read: of
    files that are only read; media: MIME type, where Content Credentials may name it as a source; signed: whether an
    output can carry them; longest: px of a side, the format's own limit; lossy: a hard edge is read with rings; cmyk,
    deep (16 bits), alpha, dpi, exif, xmp: what an output keeps; options: of Pillow's encoder; plugin: what makes
    Pillow know it; feature: what Pillow may be built without; lacking: what is said where one of the two is missing;
    brands: by which an ISO media file says that it is one."""

    name: str
    suffixes: tuple[str, ...] = ()
    also_read: tuple[str, ...] = ()
    media: str = ""
    signed: bool = False
    longest: int | None = None
    lossy: bool = False
    cmyk: bool = False
    deep: bool = False
    alpha: bool = True
    dpi: bool = True
    exif: bool = True
    xmp: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    plugin: str = ""
    feature: str = ""
    lacking: str = ""
    brands: tuple[bytes, ...] = ()


# Pillow opens these alone: its other readers start programs (EPS: Ghostscript) or are rarely tested.
TABLE = (
    Format("PNG", (".png",), media="image/png", signed=True, deep=True, options={"compress_level": 4}),
    Format(
        "JPEG", (".jpg", ".jpeg"), (".jfif", ".jpe"), "image/jpeg", signed=True, longest=65_500, lossy=True, cmyk=True,
        alpha=False, options={"quality": QUALITY, "subsampling": 0},
    ),
    Format("MPO", also_read=(".mpo",), lossy=True),  # a phone's JPEG with a depth map behind; the JPEG reader opens it
    Format("TIFF", (".tif", ".tiff"), media="image/tiff", signed=True, cmyk=True, deep=True),
    Format(
        "WEBP", (".webp",), media="image/webp", signed=True, longest=16_383, lossy=True, dpi=False,
        options={"lossless": True, "exact": True},
    ),
    Format("BMP", (".bmp",), alpha=False, exif=False, xmp=False),
    Format("GIF", also_read=(".gif",), media="image/gif"),
    Format("JPEG2000", also_read=(".jp2",)),
    Format("PPM", also_read=(".ppm", ".pgm")),
    Format("TGA", also_read=(".tga",)),
    Format(
        "AVIF", (".avif",), media="image/avif", lossy=True, dpi=False,
        options={"quality": QUALITY, "subsampling": "4:4:4"}, feature="avif", brands=(b"avif", b"avis"),
        lacking="AVIF cannot be {verb} by this Pillow; pip install --upgrade pillow",
    ),
    Format(
        "HEIF", (".heic", ".heif"), dpi=False, options={"quality": QUALITY, "chroma": 444},
        plugin="pillow_heif.register_heif_opener",
        lacking="HEIC cannot be {verb} without pillow-heif; pip install 'idinpaint[heif]'",
        brands=(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"),
    ),
)  # fmt: skip
BY_NAME = {row.name: row for row in TABLE}
WRITTEN = {suffix: row for row in TABLE for suffix in row.suffixes}  # by suffix
READ = {suffix: row for row in TABLE for suffix in (*row.suffixes, *row.also_read)}


def is_picture(path: str | Path) -> bool:
    """Whether a file of that name is taken for a photo or a mask; its bytes are looked at when it is opened."""
    return Path(path).suffix.lower() in READ


def can_write(path: str | Path) -> bool:
    """Whether the file name's ending stands for a format that is written."""
    return Path(path).suffix.lower() in WRITTEN


def output_format(path: str | Path) -> Format:
    """The format that the extension stands for; InputError for one that is not written."""
    suffix = Path(path).suffix
    if not can_write(path):
        raise InputError(f"{path}: unknown output extension {suffix or '(none)'!r}; use one of {' '.join(WRITTEN)}")
    return WRITTEN[suffix.lower()]


def read_formats() -> list[str]:
    """Pillow's names of the table's formats, without those that this build of Pillow lacks (it raises KeyError)."""
    Image.init()
    return [row.name for row in TABLE if row.name in Image.OPEN]


def can_use(row: Format) -> bool:
    """Whether this installation has the format's codec; a plugin is told to Pillow here, and only when it is asked."""
    if row.feature and not features.check(row.feature):
        return False
    if row.plugin and row.name not in Image.OPEN:
        module, _, register = row.plugin.rpartition(".")
        try:
            getattr(importlib.import_module(module), register)()
        except ImportError:
            return False
    return True


def check_codec(path: str | Path, row: Format | None, write: bool = False) -> None:
    """InputError with the pip command when this installation lacks the format's codec."""
    if row is not None and not can_use(row):
        raise InputError(f"{path}: {row.lacking.format(verb='written' if write else 'read')}")


def branded(path: Path) -> Format | None:
    """The format that an ISO media file's first bytes name, by its main brand or, of AVIF, any; None for others."""
    with path.open("rb") as file:
        head = file.read(32)
    if head[4:8] != b"ftyp":
        return None
    if any(brand in head[16:] for brand in BY_NAME["AVIF"].brands):
        return BY_NAME["AVIF"]
    return next((row for row in TABLE if head[8:12] in row.brands), None)
