"""A TIFF's lossless compressions. Pillow compresses, but cannot write 16-bit colour: its encoder is given bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# Pillow's names -> the tag's numbers.
CODES = {"raw": 1, "tiff_lzw": 5, "tiff_adobe_deflate": 8, "tiff_deflate": 32946, "packbits": 32773}
PREDICTED = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate")  # written as differences along the rows (predictor 2)


def kept_compression(name: str) -> str:
    """The compression that the result of a file compressed so has: the same, or LZW where that would lose something."""
    return name if name in CODES else "tiff_lzw"


def compressed(data: np.ndarray, name: str) -> bytes:
    """The samples [H, W, C], any type, in file order, as one strip."""
    data = np.ascontiguousarray(data)
    if name == "raw":
        return data.tobytes()
    if name in PREDICTED:
        difference = data.copy()
        difference[:, 1:] -= data[:, :-1]  # modulo the type's range
        data = difference
    rows = data.view(np.uint8).reshape(data.shape[0], -1)
    file = io.BytesIO()
    # As a grey picture of the same bytes: the encoder then knows bytes only.
    Image.fromarray(rows).save(file, "TIFF", compression=name, tiffinfo={278: len(rows)})
    with Image.open(file) as image:
        places, counts = image.tag_v2[273], image.tag_v2[279]
    whole = file.getvalue()
    if len(places) != 1:
        raise ValueError(f"{len(places)} strips instead of one")
    return whole[places[0] : places[0] + counts[0]]
