"""What the bundled diffusion paints over hidden features of many photos, kept for networks that judge it.

    python training/fill_bank.py --data DATA --output DIR [--part 1/2]

Writes DIR/train-I.npz and DIR/val-I.npz, CHUNK faces each, whole or not at all; the same command goes on where it was
stopped. Test people are never read. .3 s a face on one CPU core.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from bad_fills import Faces
from launching import run_guarded
from painted_fills import Painters

from idinpaint.data.photos import list_identity_folders, list_photos, load_landmarks, read_split
from idinpaint.types import InputError

CHUNK = 100
SEED = 17


def people(data: Path, splits: Path, val: bool) -> list:
    """Photos of training people, or those of validation people."""
    test, held = (read_split(splits / f"celeba_id256_{part}.txt") for part in ("test", "val"))
    if val:
        return [entry for entry in list_identity_folders(data / "celeba_id256") if entry.person in set(held)]
    entries = list_identity_folders(data / "celeba_id256", test + held)
    return entries + list_photos(data / "CelebAMask-HQ" / "CelebA-HQ-img", read_split(splits / "celebamask_test.txt"))


def fill(painters: Painters, faces: Faces, rng: np.random.Generator, holes: int) -> dict[str, np.ndarray]:
    """photo and painted uint8 [N, 256, 256, 3], hole (packed bits), points [N, 68, 2]; `holes` of each photo."""
    rows: dict[str, list] = {name: [] for name in ("photo", "painted", "hole", "points")}
    for index in [i for i in range(len(faces.points)) for _ in range(holes)]:
        photo, hole, points = faces.hidden(index, rng)
        painted = painters("diffusion", photo, hole, points, int(rng.integers(1 << 30)))
        for name, value in zip(rows, (photo, painted, np.packbits(hole), points), strict=True):
            rows[name].append(value)
    return {name: np.stack(values) for name, values in rows.items()}


def run() -> None:
    """Reads the command line. Raises InputError for a bad part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--splits", type=Path, default=Path("configs/splits"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--holes", type=int, default=2, help="of each photo")
    parser.add_argument("--part", default="1/1", help="K/N: every Nth file from the Kth on, for N processes")
    args = parser.parse_args()
    part, _, parts = args.part.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise InputError(f"--part {args.part}: give K/N, for example 1/2")
    args.output.mkdir(parents=True, exist_ok=True)
    marks, painters, start = load_landmarks(args.data), Painters(args.model), time.monotonic()
    jobs = []
    for name in ("val", "train"):
        entries = [entry for entry in people(args.data, args.splits, name == "val") if entry.key in marks]
        entries = [entries[i] for i in np.random.default_rng(SEED).permutation(len(entries))]
        jobs += [(f"{name}-{i // CHUNK}", entries[i : i + CHUNK]) for i in range(0, len(entries), CHUNK)]
    for number, (name, entries) in list(enumerate(jobs))[int(part) - 1 :: int(parts)]:
        path = args.output / f"{name}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng((SEED, number))
        bank = fill(painters, Faces(entries, marks, len(entries), rng), rng, args.holes)
        with open(path.with_suffix(".tmp"), "wb") as file:
            np.savez(file, **bank)
        os.replace(path.with_suffix(".tmp"), path)
        print(f"{name}: {len(bank['photo'])} faces, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    run_guarded(run)
