"""Reading what `idinpaint prepare` wrote: memory-mapped by `datasets`, and decoded when asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from idinpaint.imaging.encoders import write_atomic
from idinpaint.models.weights import sha256_of
from idinpaint.types import CROP_SIZE, InputError

MARKER, FINISHED = "prepare.json", "summary.json"


def prepared_folders(data: str | Path) -> list[Path]:
    """`data` itself when it was prepared, else its prepared sub-folders, sorted; empty for raw photos.

    Raises InputError for a folder whose preparation has not ended.
    """
    data = Path(data)
    children = sorted(p for p in data.iterdir() if p.is_dir()) if data.is_dir() else []
    found = [folder for folder in (data, *children) if (folder / MARKER).is_file()]
    for folder in found:
        if not (folder / FINISHED).is_file():
            raise InputError(f"{folder}: is not prepared to the end; run the same `idinpaint prepare` again")
    return found


def has_split(folder: Path, split: str) -> bool:
    """Whether a prepared folder has photos of a split: train, validation or test."""
    return any(folder.glob(f"data/{split}-*.parquet"))


@dataclass(frozen=True)
class FaceRow:
    """One prepared face: image [256, 256, 3] uint8, landmarks [68, 2] crop px, id_embed [D], skin_mask [256, 256] bool,
    labels [256, 256] uint8, places in PARSING_CLASSES (None in data prepared before they were kept).

    identity is empty when it is not known; annotated: labels and skin are the data set's own, not predicted.
    """

    name: str
    identity: str
    image: np.ndarray
    landmarks: np.ndarray
    id_embed: np.ndarray
    skin_mask: np.ndarray
    labels: np.ndarray | None = None
    annotated: bool = False


class PreparedFaces(Sequence):
    """Faces of one split of a prepared folder: train, validation or test.

    `datasets` turns the Parquet files into one Arrow file (beside them, or in its own cache where the folder cannot
    be written) once, and maps it into memory: what is held does not grow with the number of photos.
    Raises InputError when `datasets` is not installed, the folder has no such split, or a shard is not as it was
    written.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        try:
            import datasets
        except ImportError as error:
            raise InputError(f"{folder}: reading it needs `datasets`; pip install 'idinpaint[train]'") from error
        self.folder = Path(folder)
        files = sorted(map(str, self.folder.glob(f"data/{split}-*.parquet")))
        if not files:
            raise InputError(f"{folder}: holds no photos of the split {split}")
        cache = self.folder / ".cache"
        try:
            cache.mkdir(exist_ok=True)
            own = {"cache_dir": str(cache)}
        except OSError:  # a read-only copy
            own = {}
        _check_shards(self.folder, files, cache / "checked.json")
        self.table = datasets.Dataset.from_parquet(files, split=split, **own)
        for column in {"image", "skin_mask", "parsing"} & set(self.table.column_names):
            self.table = self.table.cast_column(column, datasets.Image(decode=False))
        self.pictures = self.table.select_columns(["image"])

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> FaceRow:
        row = self.table[int(index)]
        return FaceRow(
            name=row["name"],
            identity=row["identity"],
            image=_decode(row["image"], "RGB"),
            landmarks=np.asarray(row["landmarks"], np.float32),
            id_embed=np.asarray(row["id_embed"], np.float32),
            skin_mask=_decode(row["skin_mask"], "L") > 127,
            labels=_decode(row["parsing"], "L") if "parsing" in row else None,
            annotated=row["skin_source"] == "annotated",
        )

    def names(self) -> Iterator[tuple[str, str]]:
        """(name, identity) of every row, without its pictures."""
        for batch in self.table.select_columns(["name", "identity"]).iter(1000):
            yield from zip(batch["name"], batch["identity"], strict=True)

    def image(self, index: int) -> np.ndarray:
        """[256, 256, 3] uint8 of one row."""
        return _decode(self.pictures[int(index)]["image"], "RGB")


class PreparedPhotos:
    """The pictures of chosen rows, indexed like an array [N, size, size, 3] uint8 and decoded when asked.

    rows: (prepared folder, split, row of it) for each picture.
    """

    def __init__(self, rows: Sequence[tuple[Path, str, int]], size: int = CROP_SIZE) -> None:
        self.size = size
        tables = sorted({(folder, split) for folder, split, _ in rows})
        self.tables = [PreparedFaces(folder, split) for folder, split in tables]
        places = {table: place for place, table in enumerate(tables)}
        where = [(places[folder, split], row) for folder, split, row in rows]
        self.where = np.array(where, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.where)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array."""
        return len(self), self.size, self.size, 3

    def __getitem__(self, index: Any) -> np.ndarray:
        chosen = self.where[index]
        if chosen.ndim == 1:
            return self._one(*chosen)
        return np.stack([self._one(*c) for c in chosen]) if len(chosen) else np.empty((0, *self.shape[1:]), np.uint8)

    def _one(self, table: int, row: int) -> np.ndarray:
        pixels = self.tables[table].image(row)
        if pixels.shape[0] == self.size:
            return pixels
        return np.array(Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.LANCZOS))


def prepared_rows(rows: Sequence[tuple[Path, str, int]]) -> Iterator[FaceRow]:
    """The rows at (prepared folder, split, row)."""
    tables = {key: PreparedFaces(*key) for key in sorted({(folder, split) for folder, split, _ in rows})}
    for folder, split, row in rows:
        yield tables[folder, split][row]


def _check_shards(folder: Path, files: Sequence[str], noted: Path) -> None:
    """InputError for a file whose sha256 is not that of the summary. `noted`: size and date of those that agreed."""
    wanted, before = (_read_json(path) for path in (folder / FINISHED, noted))
    wanted, seen = wanted.get("sha256", {}), dict(before)
    for path in map(Path, files):
        state = [path.stat().st_size, path.stat().st_mtime_ns]
        if path.stem not in wanted or seen.get(path.name) == state:
            continue
        if sha256_of(path) != wanted[path.stem]:
            raise InputError(f"{path}: is not as it was written (sha256); run the same `idinpaint prepare` again")
        seen[path.name] = state
    if seen != before and noted.parent.is_dir():
        write_atomic(noted, lambda file: file.write(json.dumps(seen).encode()))


def _read_json(path: Path) -> dict[str, Any]:
    """Empty where there is no such file, or nothing of use in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _decode(picture: dict[str, Any], mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(picture["bytes"])) as image:
        return np.array(image.convert(mode))
