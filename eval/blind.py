"""Would a stranger believe it? Restored features of test people graded by people who do not know what made them.

    python eval/blind.py paint --data DATA --output runs/blind/after [--model FOLDER]  (and `before`, at its commit)
    python eval/blind.py sheets runs/blind/before runs/blind/after --output runs/blind/sheets
    python eval/blind.py table runs/blind/sheets GRADES.json [GRADES.json ...]

`paint` hides a feature whole on each of --count photos (an eye, both eyes, nose, mouth) and writes what the product
delivers, its first try and the true crop. A row of a sheet is one photo: both folders' delivered pictures, and in turn
two of their first tries and the true one; the order is random. data/grading.py says what graders are told.
`table`: mean grades, the share that most graders believe (2 and more), the change with a bootstrap over people.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from believability import BOX
from cases import holed, split_entries
from command import add_shared, parser_of, run_main
from compare import bootstrap
from PIL import Image
from tables import markdown_table

from idinpaint.data.grading import COLUMNS, PARTS, read_grades, tile, write_sheets
from idinpaint.data.photos import load_landmarks
from idinpaint.faces.alignment import warp_to_crop
from idinpaint.faces.features import ellipses_over
from idinpaint.types import InputError

KINDS = ("mouth", "nose", "eyes", "mouth", "nose", "eye")
TRUE, DELIVERED, FIRST = "true", "delivered", "first"


def file_name(key: str, name: str) -> str:
    """Of a picture of the photo with that key."""
    return f"{key.replace('/', '-')}-{name}.png"


def paint(args: argparse.Namespace) -> None:
    """KEY-{delivered,first,true}.png of every photo, cut round the feature, and cases.json: [key, kind, person]."""
    from idinpaint import Restorer

    marks = load_landmarks(args.data)
    entries = split_entries(args.data, marks, args.split)
    restorer, cases = Restorer.from_pretrained(args.model, device="cpu"), []
    args.output.mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(np.random.default_rng(args.seed).permutation(len(entries))[: args.count]):
        entry, kind = entries[index], KINDS[number % len(KINDS)]
        photo = np.asarray(Image.open(entry.path).convert("RGB").resize((256, 256)))
        hole = ellipses_over(marks[entry.key], PARTS[kind])
        result = restorer(holed(photo, hole), hole, force=True, face_box=BOX)
        face = max(result.faces, key=lambda f: f.face_coverage)
        made = result.candidates[result.faces.index(face)]
        true = warp_to_crop(photo, None, face.crop_to_photo)[0]
        first = min((c for c in made if c.painter is None), key=lambda c: c.seed)
        pictures = {DELIVERED: made[0].image, FIRST: first.image}
        pictures[TRUE] = np.where(face.crop_mask[..., None], true, face.crop).astype(np.uint8)
        for name, crop in pictures.items():
            shown = tile(crop, face.landmarks, kind)
            Image.fromarray(shown).save(args.output / file_name(entry.key, name))
        cases.append([entry.key, kind, entry.person])
    (args.output / "cases.json").write_text(json.dumps(cases))
    print(f"{args.output}: {len(cases)} photos")


def sheets(args: argparse.Namespace) -> None:
    """The pictures of two folders, mixed."""
    before, after = (json.loads((folder / "cases.json").read_text()) for folder in args.folders)
    if before != after:
        raise InputError(f"{args.folders[1]}: other photos than {args.folders[0]}; paint both with the same options")
    rng, rows = np.random.default_rng(args.seed), []
    for number, (key, kind, person) in enumerate(before):
        arms = [(0, DELIVERED), (1, DELIVERED), (0, FIRST), (1, FIRST)]
        if number % 3 < 2:  # a true one in place of one first try, on two of three photos
            arms[2 + number % 3] = (0, TRUE)
        row = []
        for side, name in (arms[i] for i in rng.permutation(COLUMNS)):
            picture = np.asarray(Image.open(args.folders[side] / file_name(key, name)))
            arm = TRUE if name == TRUE else f"{args.folders[side].name} {name}"
            row.append(([kind, key, person, arm], picture))
        rows.append(row)
    print(
        f"{args.output}: {write_sheets(rows, args.output)} sheets; plan.json tells what is what, graders get the rest"
    )


def table(given: Iterable[tuple[list[Any], int, int]]) -> str:
    """Markdown; given: as read_grades gives them."""
    grades: dict[tuple, list[int]] = defaultdict(list)
    for (kind, key, person, arm), _, grade in given:
        grades[arm, kind, key, person].append(grade)
    arms, lines = sorted({key[0] for key in grades}), []
    for arm in arms:
        own = {key: values for key, values in grades.items() if key[0] == arm}
        middle = [float(np.median(v)) for v in own.values()]
        cells = [f"{np.mean([m >= 2 for m in middle]):.0%} of {len(middle)}", f"{np.mean([m < 1 for m in middle]):.0%}"]
        cells += [f"{np.mean([g for v in own.values() for g in v]):.2f}"]
        kinds = [[g for key, v in own.items() if key[1] == kind for g in v] for kind in PARTS]
        lines.append([arm, *cells, *(f"{np.mean(k):.2f}" if k else "" for k in kinds)])
    text = markdown_table(["picture", "believed", "wrong", "mean grade", *PARTS], lines)
    delivered = [arm for arm in arms if arm.endswith(DELIVERED)]
    if len(delivered) == 2:
        text.append(f"\n{' - '.join(delivered)}: {change(grades, *delivered)}")
    return "\n".join(text)


def change(grades: dict[tuple, list[int]], one: str, other: str) -> str:
    """Mean difference of two arms' grades, one - other, with 95 % over people."""
    people = defaultdict(list)
    for (arm, *case), values in grades.items():
        if arm == one and (other, *case) in grades:
            people[case[2]].append(np.mean(values) - np.mean(grades[other, *case]))
    means = np.array([np.mean(v) for v in people.values()])
    low, high, _ = bootstrap(means)
    return f"{means.mean():+.2f} [{low:+.2f}, {high:+.2f}], {len(means)} people"


def run(args: argparse.Namespace) -> None:
    """As told."""
    if args.command == "table":
        print(table(read_grades(args.folder, args.grades)))
    else:
        {"paint": paint, "sheets": sheets}[args.command](args)


def main(argv: list[str] | None = None) -> int:
    """Paint, mix, or tell what was given."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    painting = commands.add_parser("paint")
    add_shared(painting, "--data", "--output", "--model")
    painting.add_argument("--count", type=int, default=96)
    painting.add_argument("--split", default="test")
    mixing = commands.add_parser("sheets")
    mixing.add_argument("folders", type=Path, nargs=2, metavar="FOLDER")
    mixing.add_argument("--output", type=Path, required=True)
    for sub in (painting, mixing):
        sub.add_argument("--seed", type=int, default=8)
    telling = commands.add_parser("table")
    telling.add_argument("folder", type=Path)
    telling.add_argument("grades", type=Path, nargs="+")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
