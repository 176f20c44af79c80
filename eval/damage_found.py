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
from PIL import Image

from idinpaint.damage.finder import load_finder, spots
from idinpaint.damage.prints import add_marks, damaged_print, print_look, scanned
from idinpaint.damage.synthetic import SHAPES
from idinpaint.data.photos import PhotoEntry, list_photos, read_split, validation_photos

GROUPS = {"glasses": "eye_g", "earrings": "ear_r", "necklace": "neck_l", "hat": "hat"}  # part of CelebAMask-HQ
SQUARE = np.ones((3, 3), np.uint8)  # 1 px of tolerance


def held_out(data: Path, split: str) -> list[PhotoEntry]:
    """The photos of a split."""
    if split == "val":
        return validation_photos(data, SPLITS)[::3]
    kept = set(read_split(SPLITS / "celebamask_test.txt"))
    return [e for e in list_photos(data / "CelebAMask-HQ" / "CelebA-HQ-img") if e.path.stem in kept]


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
    """One row a threshold; of at most so many photos, spread evenly."""
    finder = load_finder(device="cpu")
    entries = held_out(data, split)
    entries = entries[:: -(-len(entries) // photos)]
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
        {
            "threshold": t,
            "photos": len(entries),
            **scores(totals[t]),
            "found_on_undamaged_percent": {
                g: {
                    "photos": len(v),
                    "mean": round(100 * float(np.mean(v)), 3),
                    "median": round(100 * float(np.median(v)), 3),
                    "worst": round(100 * max(v), 2),
                    "none": round(float(np.mean(np.array(v) == 0)), 2),
                }
                for g, v in areas[t].items()
            },
        }
        for t in thresholds
    ]


def by_kind(data: Path, split: str, size: int, photos: int) -> list[dict]:
    """One row a kind of damage, drawn alone, at the finder's own threshold."""
    finder, rows = load_finder(device="cpu"), []
    entries = held_out(data, split)
    entries = entries[:: -(-len(entries) // photos)]
    for kind in SHAPES:
        total = np.zeros(4)
        for index, entry in enumerate(entries):
            rng = np.random.default_rng([12, index])
            damaged, mask, certain = damaged_print(rng, read(entry, size), damaged=1.0, only=kind)
            total += counts(finder.find(damaged), mask, certain)
        rows.append({"kind": kind, "photos": len(entries), **scores(total)})
    return rows


def main() -> None:
    """Print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--size", type=int, default=512, help="px")
    parser.add_argument("--photos", type=int, default=100, help="at most")
    parser.add_argument("--thresholds", type=float, nargs="+", help="instead of the finder's own")
    parser.add_argument("--kinds", action="store_true", help="each kind of damage by itself instead")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    thresholds = arguments.thresholds or [load_finder(device="cpu").threshold]
    if arguments.kinds:
        rows = by_kind(arguments.data, arguments.split, arguments.size, arguments.photos)
    else:
        rows = measure(arguments.data, arguments.split, arguments.size, thresholds, arguments.photos)
    text = "\n".join(json.dumps(row) for row in rows)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
