"""Where the photos of a data set lie, who is on them and which split they belong to; reads names, opens no photo."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from idinpaint.data.photos import read_split
from idinpaint.imaging.formats import READ, is_picture
from idinpaint.types import InputError

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.05  # share of the people for the test split, and the same for validation, where no list says who
IDENTITY_FILE, MAPPING_FILE = "identity_CelebA.txt", "CelebA-HQ-to-CelebA-mapping.txt"
HQ_PHOTOS, HQ_PARTS, HQ_EXTRA = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno", "extra-img"
CELEBA_PHOTOS = ("img_align_celeba", "Img/img_align_celeba", "img_celeba", "Img/img_celeba")


@dataclass(frozen=True)
class Source:
    """One photo of SOURCE. path, skin: relative to SOURCE; skin: its annotated skin mask or empty.

    name: unique in the data set (`person/photo.jpg`); identity: empty when it is not known; split: one of SPLITS.
    """

    path: str
    name: str
    identity: str = ""
    skin: str = ""
    split: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


class PhotoSource:
    """A folder in one of three layouts: `celebamask-hq`, `celeba` (with identities) or `folder`.

    Raises InputError when the folder is missing or holds no photos, or when an identity file is damaged.
    """

    def __init__(self, root: str | Path, splits: str | Path | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root}: no such folder; name the folder where the photos lie")
        self.identities: dict[str, str] = {}
        celeba = next((self.root / f for f in CELEBA_PHOTOS if os.path.isdir(self.root / f)), None)
        identity_file = next(
            (p for p in (self.root / IDENTITY_FILE, self.root / "Anno" / IDENTITY_FILE) if p.is_file()), None
        )
        if (self.root / HQ_PHOTOS).is_dir():
            self.layout = "celebamask-hq"
            self.folders = [self.root / f for f in (HQ_PHOTOS, HQ_EXTRA) if (self.root / f).is_dir()]
            if identity_file and (self.root / MAPPING_FILE).is_file():
                self.identities = _mapped(self.root / MAPPING_FILE, _read_identities(identity_file))
        elif identity_file:
            self.layout, self.folders = "celeba", [celeba or self.root]
            self.identities = _read_identities(identity_file)
        else:
            self.layout, self.folders = "folder", [celeba or self.root]
        self.lists = self._read_lists(Path(splits)) if splits is not None else {}
        if next(self._photos(), None) is None:
            wanted = " ".join(sorted(READ))
            raise InputError(f"{root}: no photos there ({wanted}), neither in it nor in its sub-folders")

    def _photos(self) -> Iterator[Source]:
        """Every photo in sorted order, without its split. One folder's names are in memory at a time."""
        for folder in self.folders:
            prefix = "" if self.layout != "celebamask-hq" or folder.name == HQ_PHOTOS else f"{folder.name}/"
            people = [] if self.layout == "celebamask-hq" else sorted(e.name for e in _scan(folder) if _is_folder(e))
            for person in ["", *people]:
                inside = folder / person
                names = (e.name for e in _scan(inside) if is_picture(e.name) and not _is_folder(e))
                for name in sorted(names, key=_natural):
                    path = (inside / name).relative_to(self.root).as_posix()
                    identity = self.identities.get(name, "") if self.layout != "folder" else person
                    skin = self._skin_of(name) if not prefix and self.layout == "celebamask-hq" else ""
                    yield Source(path, f"{prefix}{person}/{name}" if person else prefix + name, identity, skin)

    def _skin_of(self, name: str) -> str:
        """CelebAMask-HQ keeps the parts of 2,000 photos in each folder."""
        number = Path(name).stem
        if not number.isdigit():
            return ""
        path = f"{HQ_PARTS}/{int(number) // 2000}/{int(number):05d}_skin.png"
        return path if (self.root / path).is_file() else ""

    def __iter__(self) -> Iterator[Source]:
        """Every photo with its split."""
        for source in self._photos():
            yield Source(**{**source.as_dict(), "split": self.split_of(source)})

    def split_of(self, source: Source) -> str:
        """By the lists where they name the person or the photo; else by a hash, where a split has no list."""
        keys = {f"person {source.identity}", f"photo {Path(source.name).stem}"}
        for split in ("test", "validation"):
            if keys & self.lists.get(split, set()):
                return split
        share = share_of(source.identity or source.name)
        if share < HELD_OUT and "test" not in self.lists:
            return "test"
        return "validation" if share >= 1 - HELD_OUT and "validation" not in self.lists else "train"

    def _read_lists(self, folder: Path) -> dict[str, set[str]]:
        """`<set>_test.txt` and `<set>_val.txt`: people for celeba*, else photos; photos pull in their people.

        Sets: celeba* wherever the people are CelebA's; celebamask for CelebAMask-HQ; else the name of SOURCE.
        """
        if not folder.is_dir():
            raise InputError(f"--splits {folder}: no such folder; it holds files such as celeba_id256_test.txt")
        found: dict[str, set[str]] = {}
        for ending, split in (("test", "test"), ("val", "validation")):
            for path in sorted(folder.glob(f"*_{ending}.txt")):
                if not self._applies(path.stem.removesuffix(f"_{ending}")):
                    continue
                by_photo = path.name.startswith("celebamask_")
                kinds = ("photo",) if by_photo else ("person",) if self.layout != "folder" else ("photo", "person")
                found.setdefault(split, set()).update(f"{k} {line}" for line in read_split(path) for k in kinds)
        for names in found.values():
            if self.identities:
                photos = (s for s in self._photos() if f"photo {Path(s.name).stem}" in names and s.identity)
                names.update([f"person {s.identity}" for s in photos])
        return found

    def _applies(self, name: str) -> bool:
        if name == "celebamask":
            return self.layout == "celebamask-hq"
        if self.layout == "folder":
            return name == self.root.resolve().name
        return bool(self.identities) and name.startswith("celeba_")


def share_of(key: str) -> float:
    """A fixed number in [0, 1) for a person or a photo: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogateescape")).digest()[:8], "big") / 2**64


def _natural(name: str) -> tuple[bool, int, str]:
    """9.jpg comes before 10.jpg."""
    stem = Path(name).stem
    return (False, int(stem), name) if stem.isdecimal() and stem.isascii() else (True, 0, name)


def _scan(folder: Path) -> Iterator[Any]:
    """Visible entries of a folder. InputError when it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _is_folder(entry: Any) -> bool:
    """False for a loop of links too, which is then one unreadable photo among others."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _columns(path: Path, count: int) -> Iterator[list[str]]:
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                parts = line.split()
                if parts and len(parts) != count:
                    raise InputError(
                        f"{path}: line {number} has {len(parts)} words, {count} are expected; fetch it again"
                    )
                if parts:
                    yield parts
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from error


def _read_identities(path: Path) -> dict[str, str]:
    """`000001.jpg 2880` a line -> photo name -> person."""
    return dict(_columns(path, 2))


def _mapped(path: Path, identities: dict[str, str]) -> dict[str, str]:
    """`idx orig_idx orig_file` a line: CelebA-HQ's number and CelebA's file -> CelebA-HQ's photo name -> person."""
    rows = (row for row in _columns(path, 3) if row[0].isdigit())
    return {f"{int(number)}.jpg": identities[file] for number, _, file in rows if file in identities}
