"""One file that holds a training set: aligned photos as AVIF, who is on them, landmarks, masks; see
training/pack_data.py, which writes it. A zip without compression, so that a photo is read alone."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from idinpaint.types import CROP_SIZE, InputError

SUFFIX = ".facepack"


def is_packed(path: str | Path) -> bool:
    """Whether a data path means one packed file."""
    return Path(path).suffix == SUFFIX


class PackedFaces:
    """The table of a pack. names, people (empty: unknown) and splits ("train" or "val") of N photos; landmarks
    [N, 68, 2] float32 (x, y) in px of the 256 px photo. Raises InputError for a file that is no pack."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                table = json.loads(archive.read("table.json"))
                with np.load(io.BytesIO(archive.read("arrays.npz"))) as arrays:
                    self.landmarks = arrays["landmarks"].astype(np.float32)
                    self._masks, self._mask_shape = arrays["masks"], tuple(arrays["mask_shape"])
            self.names, self.people, self.splits = table["names"], table["people"], table["splits"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a packed data set ({error}); write it with training/pack_data.py") from error

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, split: str) -> list[int]:
        """Places of the photos of a split."""
        return [index for index, name in enumerate(self.splits) if name == split]

    def masks(self) -> np.ndarray:
        """Training masks [M, 256, 256] bool, True = hole."""
        bits = np.unpackbits(self._masks, axis=1)[:, : int(np.prod(self._mask_shape[1:]))]
        return bits.reshape(self._mask_shape).astype(bool)

    def photos(self, rows: Sequence[int], workers: int = 4) -> np.ndarray:
        """[N, 256, 256, 3] uint8 RGB of the given rows."""

        def read(data: bytes) -> np.ndarray:
            with Image.open(io.BytesIO(data), formats=("AVIF",)) as image:
                return np.asarray(image.convert("RGB"))

        out = np.empty((len(rows), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        with zipfile.ZipFile(self.path) as archive, ThreadPoolExecutor(workers) as pool:
            files = (archive.read(f"photos/{row:05d}.avif") for row in rows)
            for index, pixels in enumerate(pool.map(read, files)):
                out[index] = pixels
        return out
