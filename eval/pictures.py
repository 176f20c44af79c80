"""Pictures as files and as parts of a page. uint8 [H, W, 3] RGB or [H, W] grey."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from idinpaint.imaging.encoders import write_atomic


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Through a temporary file."""
    write_atomic(path, lambda file: Image.fromarray(pixels).save(file, "PNG"))


def uri_of(content: bytes, kind: str) -> str:
    """A picture's file as part of the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(pixels: np.ndarray, kind: str) -> str:
    """kind: png, or jpeg of quality 90 (for eyes only: the metrics saw the array)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return uri_of(file.getvalue(), kind)
