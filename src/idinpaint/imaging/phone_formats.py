"""HEIC and AVIF, the formats of phones: what opens and writes them, and what to install where it is missing."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, features

from idinpaint.types import InputError

QUALITY = 95
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")
PIP = "pip install 'idinpaint[heif]'"


def register() -> bool:
    """Whether HEIC can be read and written: by pillow-heif, which Pillow is told of here."""
    if "HEIF" in Image.OPEN:
        return True
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def check_codec(path: str | Path, kind: str | None, write: bool = False) -> None:
    """InputError with the pip command when this installation lacks the codec. kind: HEIF, AVIF or another format."""
    verb = "written" if write else "read"
    if kind == "HEIF" and not register():
        raise InputError(f"{path}: HEIC cannot be {verb} without pillow-heif; {PIP}")
    if kind == "AVIF" and not features.check("avif"):
        raise InputError(f"{path}: AVIF cannot be {verb} by this Pillow; pip install --upgrade pillow")


def kind_of(path: Path) -> str | None:
    """HEIF or AVIF by the file's first bytes, None for anything else."""
    with path.open("rb") as file:
        head = file.read(32)
    if head[4:8] != b"ftyp":
        return None
    if head[8:12] in AVIF_BRANDS or any(brand in head[16:] for brand in AVIF_BRANDS):
        return "AVIF"
    return "HEIF" if head[8:12] in HEIF_BRANDS else None
