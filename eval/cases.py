"""What the benchmark scores: its config and its test cases (photo, mask, other photos of the person)."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from shifts import SHIFTS

from idinpaint.data.photos import PhotoEntry, list_identity_folders, list_photos, read_split
from idinpaint.imaging.masks import blocks, feature_block, half, scratches, strokes
from idinpaint.types import CROP_SIZE, InputError

SPLITS = Path(__file__).resolve().parents[1] / "configs" / "splits"
MAX_REFERENCES = 5  # other photos of the person set aside for `+refN` methods
# Drawn masks, beside the files of the per cent bins.
MASK_KINDS = {"block": blocks, "scratch": scratches, "stroke": strokes, "feature": feature_block, "half": half}


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is scored. max_images counts per bin; steps None leaves the restorer's default.

    bins: `10-20` (the held-out mask files of that per cent of hole), or a drawn kind (MASK_KINDS), each also with
    `@SHIFT` (shifts.SHIFTS). photos: a folder of aligned 256 px photos, or of one folder a person, in place of the
    test split. guidance: of the diffusion on the identity, None for the model's own. gans: generators as NAME=FOLDER,
    each a method NAME. distinct_photos: the bins share no photo, so that N bins of n show N x n photos.
    """

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
    photos: str | None = None
    guidance: float | None = None
    gans: tuple[str, ...] = ()
    distinct_photos: bool = False


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

    @property
    def id(self) -> str:
        """Name of the case in exported files, predictions and cached features."""
        return f"{self.bin}_{self.index:04d}"

    @property
    def masked(self) -> np.ndarray:
        """What a method may see: the photo with its hole zeroed."""
        return holed(self.photo, self.mask)

    @property
    def original_id(self) -> str:
        """Name of the untouched photo in cached features: with its shift, without its mask."""
        shift = self.bin.partition("@")[2]
        return f"{self.entry.person}/{self.entry.path.name}" + (f"@{shift}" if shift else "")


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


def holed(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What a method may see: uint8 [H, W, 3] with the hole, bool [H, W], zeroed."""
    return np.where(mask[..., None], 0, photo).astype(np.uint8)


def split_people(data: Path, split: str = "test") -> dict[str, list[PhotoEntry]]:
    """Person of a split of celeba_id256 -> their photos, in the split's order."""
    if not (data / "celeba_id256").is_dir():
        raise InputError(f"{data}/celeba_id256: no such folder; pass --data the folder of the data sets")
    people: dict[str, list[PhotoEntry]] = {n: [] for n in read_split(SPLITS / f"celeba_id256_{split}.txt")}
    for entry in list_identity_folders(data / "celeba_id256"):
        if entry.person in people:
            people[entry.person].append(entry)
    return people


def split_entries(data: Path, marks: Mapping[str, np.ndarray], split: str = "test") -> list[PhotoEntry]:
    """The photos of a split's people that have landmarks in `marks`, person by person."""
    return [entry for _, own in sorted(split_people(data, split).items()) for entry in own if entry.key in marks]


def people_of(data: Path, photos: str | None) -> dict[str, list[PhotoEntry]]:
    """Person -> photos: the test split's people, or everybody in a folder of the user's own photos."""
    if photos is None:
        return split_people(data)
    entries = list_identity_folders(photos)
    if not entries:  # a flat folder: as many people as photos, as far as is known
        entries = [PhotoEntry(e.path, e.path.stem, e.key) for e in list_photos(photos)]
    if not entries:
        raise InputError(f"photos={photos}: no photos there; give aligned {CROP_SIZE} px photos, one folder a person")
    people: dict[str, list[PhotoEntry]] = {}
    for entry in entries:
        people.setdefault(entry.person, []).append(entry)
    return people


@functools.cache
def same_person() -> dict[str, str]:
    """Test person -> the name to count them under, of labels that the data set gave to one person (PROTOCOL.md)."""
    lines = read_split(SPLITS / "celeba_id256_same_person.txt")
    return {name: line.split()[0] for line in lines for name in line.split()[1:]}


def plan_photos(data: Path, seed: int, photos: str | None = None) -> list[tuple[PhotoEntry, tuple[Path, ...]]]:
    """All test photos with the person's other photos: round k holds the k-th photo of every person, shuffled.

    A longer list starts with the shorter one, so raising max_images keeps the rows that are there.
    """
    people = people_of(data, photos)
    rng = np.random.default_rng(seed)
    shuffled = {name: [own[i] for i in rng.permutation(len(own))] for name, own in sorted(people.items())}
    order = [sorted(shuffled)[i] for i in rng.permutation(len(shuffled))]
    plan = []
    for turn in range(max(map(len, shuffled.values()))):
        for name in order:
            own = shuffled[name]
            if turn < len(own):
                rest = own[turn + 1 :] + own[:turn]
                plan.append((own[turn], tuple(other.path for other in rest)))
    return plan


def mask_names(base: str, config: BenchmarkConfig) -> list[str]:
    """The masks of a bin (without its shift) in the order of the photos: files, or KIND/NUMBER for drawn ones."""
    if base in MASK_KINDS:
        return [f"{base}/{index}" for index in range(config.max_images)]
    names = read_split(SPLITS / "nvidia_masks_test.txt")
    own = sorted(name for name in names if name.split("/")[0] == base)
    if not own:
        known = [*sorted({name.split("/")[0] for name in names}), *MASK_KINDS]
        raise InputError(f"bins: `{base}` has no test masks; known: {', '.join(known)}")
    order = np.random.default_rng([config.seed, int(base.split("-")[0])]).permutation(len(own))
    return [own[order[index % len(own)]] for index in range(config.max_images)]


def load_mask(name: str, data: Path, seed: int) -> np.ndarray:
    """bool [256, 256] of `10-20/FILE` or of a drawn `KIND/NUMBER`, between 0.5 and 60 % of the frame."""
    kind, _, number = name.partition("/")
    if kind not in MASK_KINDS:
        return read_mask(data / "nvidia_irregular_masks" / name)
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), int(number)])
    while True:
        mask = MASK_KINDS[kind](rng, CROP_SIZE)
        if 0.005 < mask.mean() < 0.6:
            return mask


def plan_items(config: BenchmarkConfig, data: Path) -> list[Callable[[], Item]]:
    """One loader per test case. Every bin has the same photos in the same order, or with distinct_photos each its own;
    masks repeat only when used up."""
    photos = plan_photos(data, config.seed, config.photos)
    stride = len(config.bins) if config.distinct_photos else 1
    if config.max_images * stride > len(photos):
        times = f" x {stride} bins" if stride > 1 else ""
        raise InputError(f"max_images={config.max_images}{times}: the test split has {len(photos)} photos")

    def load(bin_name: str, index: int, mask_name: str) -> Item:
        number = index * stride + (config.bins.index(bin_name) if config.distinct_photos else 0)
        entry, rest = photos[number]
        photo, shift = read_rgb(entry.path), bin_name.partition("@")[2]
        return Item(
            bin=bin_name,
            index=index,
            entry=entry,
            mask_name=mask_name,
            photo=SHIFTS[shift](photo, np.random.default_rng([config.seed, number])) if shift else photo,
            mask=load_mask(mask_name, data, config.seed),
            others=rest[: config.other_photos],
            references=rest[config.other_photos : config.other_photos + MAX_REFERENCES],
            seed=config.seed * 1_000_003 + number,
        )

    loaders = []
    for bin_name in config.bins:
        base, _, shift = bin_name.partition("@")
        if "@" in bin_name and shift not in SHIFTS:
            raise InputError(f"bins: `{bin_name}`: after the @ write one of {', '.join(SHIFTS)}")
        for index, mask_name in enumerate(mask_names(base, config)):
            loaders.append(functools.partial(load, bin_name, index, mask_name))
    return loaders
