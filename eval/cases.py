"""What the benchmark scores: its config and its test cases (photo, mask, other photos of the person)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from idinpaint.data import PhotoEntry, list_identity_folders, read_split
from idinpaint.types import CROP_SIZE, InputError

SPLITS = Path(__file__).resolve().parents[1] / "configs" / "splits"
MAX_REFERENCES = 5  # other photos of the person set aside for `+refN` methods


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is scored. max_images counts per bin; steps None leaves the restorer's default."""

    methods: tuple[str, ...] = ("telea", "prior", "diffusion")
    bins: tuple[str, ...] = ("10-20", "20-30", "30-40")
    max_images: int = 40
    seed: int = 0
    num_samples: int = 4
    steps: int | None = None
    alignment: str = "given"
    model: str = "default"
    device: str = "auto"
    other_photos: int = 3
    bootstrap: int = 2000


@dataclass(frozen=True)
class Item:
    """One test case. photo: uint8 [256, 256, 3] RGB; mask: bool [256, 256]; others: the person's scored photos;
    references: photos that a `+refN` method may see, none of which is scored."""

    bin: str
    index: int
    entry: PhotoEntry
    mask_name: str
    photo: np.ndarray
    mask: np.ndarray
    others: tuple[Path, ...]
    references: tuple[Path, ...]
    seed: int


def read_rgb(path: Path) -> np.ndarray:
    """Aligned photo as uint8 [256, 256, 3]. Raises InputError for an unreadable file or another size."""
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path}: not a readable photo ({error})") from error
    if pixels.shape != (CROP_SIZE, CROP_SIZE, 3):
        raise InputError(f"{path}: the benchmark wants aligned {CROP_SIZE} px photos, got {pixels.shape[:2]}")
    return pixels


def read_mask(path: Path, size: int = CROP_SIZE) -> np.ndarray:
    """Mask as bool [size, size], white = hole, NEAREST. Raises InputError when missing."""
    if not path.is_file():
        raise InputError(f"{path}: no such mask; --data must be the folder with nvidia_irregular_masks/")
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((size, size), Image.Resampling.NEAREST)) > 127


def plan_photos(data: Path, seed: int) -> list[tuple[PhotoEntry, tuple[Path, ...]]]:
    """All test photos with the person's other photos: round k holds the k-th photo of every person, shuffled.

    A longer list starts with the shorter one, so raising max_images keeps the rows that are there.
    """
    people: dict[str, list[PhotoEntry]] = {name: [] for name in read_split(SPLITS / "celeba_id256_test.txt")}
    for entry in list_identity_folders(data / "celeba_id256"):
        if entry.person in people:
            people[entry.person].append(entry)
    rng = np.random.default_rng(seed)
    shuffled = {name: [photos[i] for i in rng.permutation(len(photos))] for name, photos in sorted(people.items())}
    order = [sorted(shuffled)[i] for i in rng.permutation(len(shuffled))]
    plan = []
    for turn in range(max(map(len, shuffled.values()))):
        for name in order:
            photos = shuffled[name]
            if turn < len(photos):
                rest = photos[turn + 1 :] + photos[:turn]
                plan.append((photos[turn], tuple(other.path for other in rest)))
    return plan


def plan_items(config: BenchmarkConfig, data: Path) -> list[Callable[[], Item]]:
    """One loader per test case. Every bin has the same photos in the same order; masks repeat only when used up."""
    if not (data / "celeba_id256").is_dir():
        raise InputError(f"{data}/celeba_id256: no such folder; pass --data the folder of the data sets")
    photos = plan_photos(data, config.seed)
    names = read_split(SPLITS / "nvidia_masks_test.txt")
    if config.max_images > len(photos):
        raise InputError(f"max_images={config.max_images}: the test split has {len(photos)} photos")

    def load(bin_name: str, index: int, mask_name: str) -> Item:
        entry, rest = photos[index]
        return Item(
            bin=bin_name,
            index=index,
            entry=entry,
            mask_name=mask_name,
            photo=read_rgb(entry.path),
            mask=read_mask(data / "nvidia_irregular_masks" / mask_name),
            others=rest[: config.other_photos],
            references=rest[config.other_photos : config.other_photos + MAX_REFERENCES],
            seed=config.seed * 1_000_003 + index,
        )

    loaders = []
    for bin_name in config.bins:
        masks = sorted(name for name in names if name.split("/")[0] == bin_name)
        if not masks:
            known = sorted({name.split("/")[0] for name in names})
            raise InputError(f"bins: `{bin_name}` has no test masks; known: {', '.join(known)}")
        order = np.random.default_rng([config.seed, int(bin_name.split("-")[0])]).permutation(len(masks))
        for index in range(config.max_images):
            loaders.append(functools.partial(load, bin_name, index, masks[order[index % len(masks)]]))
    return loaders
