"""How well damage is found on held-out photos, and how much is found where there is none.

    python eval/damage_found.py DATA [--split val|test] [--size 512] [--photos N] [--thresholds 0.3 0.5] [--kinds]

Damaged: every photo of the split with drawn damage (idinpaint.damage.prints), precision, recall and F1 with 1 px of
tolerance over all pixels together; faint rims and damage that does not show count neither way. Undamaged: the same
photos as they are, the area that is found nevertheless, also of those with glasses, earrings and hats (annotated) and
of prints with writing (drawn). val: people of the validation list; test: CelebAMask-HQ's test list.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from cases import SPLITS
from command import parser_of, run_main, write_text
from PIL import Image

from idinpaint.damage.finder import load_finder, spots
from idinpaint.damage.prints import add_marks, damaged_print, print_look, scanned
from idinpaint.damage.synthetic import SHAPES
from idinpaint.data.photos import PhotoEntry, list_photos, read_split, validation_photos

GROUPS = {"glasses": "eye_g", "earrings": "ear_r", "necklace": "neck_l", "hat": "hat"}  # part of CelebAMask-HQ
SQUARE = np.ones((3, 3), np.uint8)  # 1 px of tolerance


def held_out(data: Path, split: str, photos: int) -> list[PhotoEntry]:
    """At most so many photos of a split, spread evenly."""
    if split == "val":
        entries = validation_photos(data, SPLITS)[::3]
    else:
        kept = set(read_split(SPLITS / "celebamask_test.txt"))
        entries = [e for e in list_photos(data / "CelebAMask-HQ" / "CelebA-HQ-img") if e.path.stem in kept]
    return entries[:: -(-len(entries) // photos)]


def read(entry: PhotoEntry, size: int) -> np.ndarray:
    """uint8 [size, size, 3]."""
    with Image.open(entry.path) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))


def counts(found: np.ndarray, mask: np.ndarray, certain: np.ndarray) -> np.ndarray:
    """(found and right, found, damage found, damage) in px, with 1 px of tolerance; bool [H, W] each."""
    near_truth = cv2.dilate((mask | ~certain).astype(np.uint8), SQUARE).astype(bool)
    near_found = cv2.dilate(found.astype(np.uint8), SQUARE).astype(bool)
    judged = found & (certain | near_truth)
    damage = mask & certain
    return np.array([(judged & near_truth).sum(), judged.sum(), (damage & near_found).sum(), damage.sum()], float)


def scores(total: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of the sums of `counts`."""
    precision, recall = total[0] / max(1, total[1]), total[2] / max(1, total[3])
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def undamaged(data: Path, entry: PhotoEntry, photo: np.ndarray, rng: np.random.Generator) -> Iterator[tuple]:
    """(group, print uint8 [H, W, 3]) of a photo without damage."""
    yield "all, as they are", photo
    folder = data / "CelebAMask-HQ" / "CelebAMask-HQ-mask-anno"
    for group, part in GROUPS.items():
        name = f"{int(entry.path.stem):05d}_{part}.png" if entry.path.stem.isdigit() else ""
        if name and (folder / str(int(entry.path.stem) // 2000) / name).is_file():
            yield group, photo
    yield "old prints", scanned(rng, print_look(rng, photo))
    yield "writing, margins", scanned(rng, add_marks(rng, print_look(rng, photo)))


def measure(data: Path, split: str, size: int, thresholds: list[float], photos: int) -> list[dict]:
    """One row a threshold."""
    finder, entries = load_finder(device="cpu"), held_out(data, split, photos)
    totals = {t: np.zeros(4) for t in thresholds}
    areas: dict[float, dict[str, list[float]]] = {t: {} for t in thresholds}
    for index, entry in enumerate(entries):
        photo, rng = read(entry, size), np.random.default_rng([11, index])
        damaged, mask, certain = damaged_print(rng, photo, damaged=1.0)
        likely = finder.likelihood(damaged)
        for t in thresholds:
            totals[t] += counts(spots(likely, t), mask, certain)
        for group, picture in undamaged(data, entry, photo, rng):
            likely = finder.likelihood(picture)
            for t in thresholds:
                areas[t].setdefault(group, []).append(float(spots(likely, t).mean()))
    return [
        {"threshold": t, "photos": len(entries), **scores(totals[t]),
         "found_on_undamaged_percent": {group: spread_of(v) for group, v in areas[t].items()}}
        for t in thresholds
    ]  # fmt: skip


def spread_of(areas: list[float]) -> dict[str, float]:
    """Of shares of photos' areas, in per cent; none: the share of photos of which nothing was found."""
    percent, none = 100 * np.array(areas), float(np.mean(np.array(areas) == 0))
    found = {"photos": len(areas), "mean": round(float(percent.mean()), 3)}
    found |= {"median": round(float(np.median(percent)), 3), "worst": round(float(percent.max()), 2)}
    return found | {"none": round(none, 2)}


def by_kind(data: Path, split: str, size: int, photos: int) -> list[dict]:
    """One row a kind of damage, drawn alone, at the finder's own threshold."""
    finder, entries, rows = load_finder(device="cpu"), held_out(data, split, photos), []
    for kind in SHAPES:
        total = np.zeros(4)
        for index, entry in enumerate(entries):
            rng = np.random.default_rng([12, index])
            damaged, mask, certain = damaged_print(rng, read(entry, size), damaged=1.0, only=kind)
            total += counts(finder.find(damaged), mask, certain)
        rows.append({"kind": kind, "photos": len(entries), **scores(total)})
    return rows


def run(args: argparse.Namespace) -> None:
    """Print the rows as JSON."""
    thresholds = args.thresholds or [load_finder(device="cpu").threshold]
    if args.kinds:
        rows = by_kind(args.data, args.split, args.size, args.photos)
    else:
        rows = measure(args.data, args.split, args.size, thresholds, args.photos)
    text = "\n".join(json.dumps(row) for row in rows)
    print(text)
    if args.json:
        write_text(args.json, text + "\n")


def main(argv: list[str] | None = None) -> int:
    """Print the rows as JSON. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--size", type=int, default=512, help="px")
    parser.add_argument("--photos", type=int, default=100, help="at most")
    parser.add_argument("--thresholds", type=float, nargs="+", help="instead of the finder's own")
    parser.add_argument("--kinds", action="store_true", help="each kind of damage by itself instead")
    parser.add_argument("--json", type=Path)
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
