"""Which seeds paint well on everyone? Sheets of features painted from each seed, graded by eye, and the choice written.

    python training/choose_noise.py sheets --data DATA --output runs/noise --seeds 0:64 [--people 4] [--fixed 22,21,61]
    python training/choose_noise.py table runs/noise GRADES.json [GRADES.json ...]
    python training/choose_noise.py write --model FOLDER 46,135,61 22,21,45 ...

A sheet shows training people, each with one feature (both eyes, nose or mouth) hidden whole, in rows of four seeds
(data/grading.py says what graders are told and what they write). `table` gives each seed's mean grade, less what its
people have anyhow. The feature that is judged gets the seed's noise; with --fixed the rest comes from (upper part,
nose, mouth). `write` sets `chosen_noise` of a model folder's pipeline and its sha256 (painting/chosen_noise.py).
Choose anew for every new denoiser.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from bad_fills import Faces
from checkpoints import written
from export_bundle import write_manifest
from launching import run_guarded
from painted_fills import Painters

from idinpaint.data.grading import COLUMNS, PARTS, read_grades, tile, write_sheets
from idinpaint.data.photos import list_identity_folders, load_landmarks, read_split
from idinpaint.faces.features import ellipses_over
from idinpaint.types import InputError

KINDS = ("eyes", "nose", "mouth")  # whose parts of the noise are chosen


def noises(seeds: range, kind: str, fixed: list[int] | None) -> list[list[int]]:
    """(upper part, nose, mouth) of each seed's sample."""
    place = KINDS.index(kind)
    return [[s if fixed is None or i == place else fixed[i] for i in range(len(KINDS))] for s in seeds]


def draw(args: argparse.Namespace) -> None:
    """Paint and write the sheets and plan.json, a row [sheet, tile, kind, seed, person] a tile."""
    first, _, last = args.seeds.partition(":")
    seeds = range(int(first), int(last))
    fixed = [int(v) for v in args.fixed.split(",")] if args.fixed else None
    held = [p for part in ("test", "val") for p in read_split(Path(args.splits) / f"celeba_id256_{part}.txt")]
    entries = list_identity_folders(args.data / "celeba_id256", held)
    rng, painters = np.random.default_rng(args.seed), Painters(args.model)
    faces = Faces(entries, load_landmarks(args.data), args.people * len(KINDS), rng)
    rows = []
    for person, (photo, points) in enumerate(zip(faces.photos, faces.points, strict=True)):
        kind = KINDS[person % len(KINDS)]
        painters.restorer.bundle.pipeline.register_to_config(chosen_noise=noises(seeds, kind, fixed))
        face, tiles = painters.read(photo, ellipses_over(points, PARTS[kind]), points), []
        for number, seed in enumerate(seeds):
            made = painters.fill("diffusion", face, number)
            tiles.append(([kind, seed, person], tile(made, points, kind)))
        order = [tiles[i] for i in rng.permutation(len(tiles))]
        rows += [order[i : i + COLUMNS] for i in range(0, len(order), COLUMNS)]
    sheets = write_sheets([rows[i] for i in rng.permutation(len(rows))], args.output)
    print(f"{args.output}: {len(seeds) * len(faces.photos)} tiles on {sheets} sheets")


def table(given: Iterable[tuple[list, int, int]]) -> dict[str, dict[int, float]]:
    """Feature -> seed -> mean grade less its people's mean, best first; given: as read_grades gives them."""
    people, seeds = defaultdict(list), defaultdict(list)
    given = list(given)
    for (_, _, person), _, grade in given:
        people[person].append(grade)
    for (kind, seed, person), _, grade in given:
        seeds[kind, seed].append(grade - float(np.mean(people[person])))
    ranked = sorted(((float(np.mean(v)), key) for key, v in seeds.items()), key=lambda item: -item[0])
    return {kind: {seed: round(mean, 2) for mean, (k, seed) in ranked if k == kind} for kind in KINDS}


def write(model: Path, noise: list[str]) -> None:
    """Set a model folder's chosen_noise, and the manifest after it."""
    chosen = [[int(v) for v in item.split(",")] for item in noise]
    if any(len(item) != len(KINDS) for item in chosen):
        raise InputError(f"{noise}: write UPPER,NOSE,MOUTH, three seeds a sample")
    path = model / "pipeline" / "model_index.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"chosen_noise": chosen}
    with written(path) as temporary:
        temporary.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
    write_manifest(model, json.loads((model / "weights.json").read_text(encoding="utf-8"))["files"])


def run() -> None:
    """Parse the command line and do as told. Raises InputError for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("sheets")
    drawing.add_argument("--data", type=Path, required=True)
    drawing.add_argument("--output", type=Path, required=True)
    drawing.add_argument("--seeds", default="0:64", help="FIRST:LAST, the last left out")
    drawing.add_argument("--people", type=int, default=4, help="a feature")
    drawing.add_argument("--fixed", default="", help="UPPER,NOSE,MOUTH: seeds of the parts that are not judged")
    drawing.add_argument("--model", default="default")
    drawing.add_argument("--splits", default="configs/splits")
    drawing.add_argument("--seed", type=int, default=0, help="of the choice of people")
    telling = commands.add_parser("table")
    telling.add_argument("folder", type=Path)
    telling.add_argument("grades", type=Path, nargs="+")
    writing = commands.add_parser("write")
    writing.add_argument("--model", type=Path, required=True)
    writing.add_argument("noise", nargs="+", help="UPPER,NOSE,MOUTH of a sample")
    args = parser.parse_args()
    if args.command == "sheets":
        draw(args)
    elif args.command == "table":
        print(json.dumps(table(read_grades(args.folder, args.grades)), indent=1))
    else:
        write(args.model, args.noise)


if __name__ == "__main__":
    run_guarded(run)
