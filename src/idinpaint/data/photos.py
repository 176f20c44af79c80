"""Photos, masks and identities for training: folder readers and identity-disjoint splits.

Photos of raw folders are held in memory as uint8 (196 KB each at 256 px): right for the thousands of photos of the
bundled recipes. For larger sets let `train_data_dir` name what `idinpaint prepare` wrote (a prepared folder, or a
folder of several): the same functions then read it memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from idinpaint.data.prepared import PreparedFaces, PreparedPhotos, has_split, prepared_folders, prepared_rows
from idinpaint.imaging.formats import branded, check_codec, is_picture
from idinpaint.types import CROP_SIZE, InputError


def read_split(path: str | Path) -> list[str]:
    """Return the entries of a split file: one a line, `#` starts a comment."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read the split file ({error.strerror})") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class PhotoEntry:
    """One photo on disk; `person` is empty when the identity is unknown; key is its name in landmark files.

    row: in the `split` of the prepared folder `path`; -1 when path is a photo.
    """

    path: Path
    person: str = ""
    key: str = ""
    row: int = -1
    split: str = "train"


def list_identity_folders(root: str | Path, exclude: Iterable[str] = ()) -> list[PhotoEntry]:
    """Photos of `root/<identity>/<photo>`, without the excluded identities, in sorted order."""
    skip = set(exclude)
    entries = []
    for folder in sorted(p for p in _existing(root).iterdir() if p.is_dir() and p.name not in skip):
        for path in sorted(folder.iterdir()):
            if is_picture(path):
                entries.append(PhotoEntry(path, folder.name, f"{folder.name}/{path.name}"))
    return entries


def list_photos(root: str | Path, exclude: Iterable[str] = ()) -> list[PhotoEntry]:
    """Photos of a flat folder, without the excluded file stems, in sorted order."""
    skip = set(exclude)
    return [
        PhotoEntry(path, "", path.name)
        for path in sorted(_existing(root).iterdir())
        if is_picture(path) and path.stem not in skip
    ]


def _existing(root: str | Path) -> Path:
    if not Path(root).is_dir():
        raise InputError(f"{root}: no such folder; set the config's data folder to where the photos lie")
    return Path(root)


def training_photos(data: str | Path, splits: str | Path) -> list[PhotoEntry]:
    """Every aligned portrait that the generators may train on: all sets less the test and validation parts.

    data: a prepared folder or a folder of such, whose train splits are taken (people of two sets are kept apart), or
    the raw data sets.
    """
    if folders := prepared_folders(data):
        return _prepared(folders, "train")
    data, splits = Path(data), Path(splits)
    held_people = read_split(splits / "celeba_id256_test.txt") + read_split(splits / "celeba_id256_val.txt")
    entries = list_identity_folders(data / "celeba_id256", held_people)
    celebamask = data / "CelebAMask-HQ"
    entries += list_photos(celebamask / "CelebA-HQ-img", read_split(splits / "celebamask_test.txt"))
    entries += list_photos(celebamask / "extra-img")
    entries += list_photos(data / "ffhq256")
    return entries


def _prepared(folders: Iterable[Path], split: str) -> list[PhotoEntry]:
    return [
        PhotoEntry(folder, f"{folder.name}/{person}" if person else "", name, row, split)
        for folder in folders
        for row, (name, person) in enumerate(PreparedFaces(folder, split).names())
    ]


def validation_photos(data: str | Path, splits: str | Path) -> list[PhotoEntry]:
    """Portraits of the validation people, for figures and pictures during a training.

    Of prepared data its validation split, else its test split; where it has neither (few people: a hash decides), every
    eighth training photo, which says nothing about other people.
    """
    if folders := prepared_folders(data):
        for split in ("validation", "test"):
            if held := [folder for folder in folders if has_split(folder, split)]:
                return _prepared(held, split)
        return _prepared(folders, "train")[::8]
    people = set(read_split(Path(splits) / "celeba_id256_val.txt"))
    return [entry for entry in list_identity_folders(Path(data) / "celeba_id256") if entry.person in people]


def with_landmarks(entries: Sequence[PhotoEntry], data: str | Path) -> tuple[list[PhotoEntry], list[np.ndarray]]:
    """(those of the entries whose landmarks are known, their points [68, 2] in px of the 256 px photo)."""
    if all(entry.row >= 0 for entry in entries):
        return list(entries), [row.landmarks for row in prepared_rows(_where(entries))]
    points = load_landmarks(data)
    known = [entry for entry in entries if entry.key in points]
    return known, [points[entry.key] for entry in known]


def with_labels(entries: Sequence[PhotoEntry]) -> tuple[list[PhotoEntry], list[np.ndarray]]:
    """(prepared entries, their parsing labels [256, 256] uint8): the annotated ones where there are any, else all, with
    the labels that the bundled network predicted. Raises InputError for data prepared without labels."""
    rows = list(prepared_rows(_where(entries)))
    if any(row.labels is None for row in rows):
        raise InputError(
            f"{entries[0].path}: was prepared without parsing labels; run `idinpaint prepare` into a new folder"
        )
    annotated = any(row.annotated for row in rows)
    pairs = [(entry, row.labels) for entry, row in zip(entries, rows, strict=True) if row.annotated or not annotated]
    return [entry for entry, _ in pairs], [labels for _, labels in pairs]


def _where(entries: Sequence[PhotoEntry]) -> list[tuple[Path, str, int]]:
    return [(entry.path, entry.split, entry.row) for entry in entries]


def load_photos(entries: Sequence[PhotoEntry], size: int = CROP_SIZE) -> np.ndarray | PreparedPhotos:
    """Read photos as [N, size, size, 3] uint8 RGB; prepared ones stay on disk and are decoded when indexed.

    Raises InputError that names an unreadable file.
    """
    if entries and all(entry.row >= 0 for entry in entries):
        return PreparedPhotos(_where(entries), size)

    def read(entry: PhotoEntry) -> np.ndarray:
        try:
            check_codec(entry.path, branded(entry.path))
            with Image.open(entry.path) as image:
                image = image.convert("RGB")
                if image.size != (size, size):
                    image = image.resize((size, size), Image.Resampling.LANCZOS)
                return np.asarray(image)
        except OSError as error:
            raise InputError(f"{entry.path}: not a readable photo ({error}); remove or replace it") from error

    out = np.empty((len(entries), size, size, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        for index, pixels in enumerate(pool.map(read, entries)):
            out[index] = pixels
    return out


def load_training_masks(
    data: str | Path, splits: str | Path, max_bin: int = 50, size: int = CROP_SIZE
) -> list[np.ndarray]:
    """NVIDIA irregular masks up to `max_bin` % hole that are not in the test list, each [size, size] bool.

    None where prepared data lies without them: `random_mask` then draws all masks.
    """
    root = Path(data) / "nvidia_irregular_masks"
    if not root.is_dir() and prepared_folders(data):
        return []
    _existing(root)
    held = set(read_split(Path(splits) / "nvidia_masks_test.txt"))
    masks = []
    for path in sorted(root.glob("*/*.png")):
        name = f"{path.parent.name}/{path.name}"
        if name not in held and int(path.parent.name.split("-")[1]) <= max_bin:
            with Image.open(path) as image:
                masks.append(np.asarray(image.convert("L").resize((size, size), Image.Resampling.NEAREST)) > 127)
    return masks


def load_landmarks(data: str | Path) -> dict[str, np.ndarray]:
    """Photo key -> [68, 2] float32 (x, y) in px of the 256 px photo, for the sets that ship MediaPipe points."""
    from idinpaint.faces.alignment import mp468_to_68

    points: dict[str, np.ndarray] = {}
    for name, scale in (("celeba_id256_landmarks_mp468.npz", 1.0), ("CelebAMask-HQ/landmarks_mp468.npz", CROP_SIZE)):
        with np.load(Path(data) / name) as table:
            for key, mesh in zip(table["names"], mp468_to_68(table["lm"]).astype(np.float32), strict=True):
                points[str(key)] = mesh * scale
    return points
