"""Does the identity condition work? The right person's references against a stranger's and against none.

    python eval/conditioning.py --data ../shared/data --output runs/conditioning [--count 80] [--model DIR]

Photos of unseen people with whole features hidden, 20-40 % of the face's features. The painter gets the mean
embedding of `--references` other photos of the person, of another person, or none; nothing else differs, the noise
included. Scored by SFace, which conditions nothing: similarity to the original and to photos of the person that the
painter did not see. Writes rows.csv and conditioning.md; 95 % bootstrap over people.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import SPLITS, read_rgb
from estimates import compare, estimate
from methods import given_face_box
from metrics import identity_similarity, load_metrics

import idinpaint
from idinpaint.compositing import composite, harmonize, paste_crop
from idinpaint.data import list_identity_folders, read_split
from idinpaint.inpainters.base import FillRequest
from idinpaint.masks import feature_block
from idinpaint.references import ReferenceReader, combine
from idinpaint.types import FaceAnalysis, InputError

ARMS = ("none", "wrong", "right")
LOW, HIGH = 0.20, 0.40
SCORES = ("identity_original", "identity_other")


def people_with(data: Path, split: str, least: int) -> dict[str, list[Path]]:
    """Person -> photos, of a split's people with at least `least` photos. Raises InputError when there are none."""
    names = set(read_split(SPLITS / f"celeba_id256_{split}.txt"))
    people: dict[str, list[Path]] = {}
    for entry in list_identity_folders(data / "celeba_id256"):
        if entry.person in names:
            people.setdefault(entry.person, []).append(entry.path)
    people = {name: sorted(paths) for name, paths in sorted(people.items()) if len(paths) >= least}
    if len(people) < 2:
        raise InputError(f"{data}/celeba_id256: fewer than two people of the {split} split with {least} photos")
    return people


def damaged_face(restorer, photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, FaceAnalysis] | None:
    """A mask of one or two hidden features and the face under it, its coverage in [LOW, HIGH]; None after 20 tries."""
    for _ in range(20):
        mask = feature_block(rng, photo.shape[0])
        if rng.random() < 0.5:
            mask = mask | feature_block(rng, photo.shape[0])
        known = np.where(mask[..., None], 0, photo).astype(np.uint8)
        (face,) = restorer.analyzer.analyze(known, mask, given_face_box())
        if LOW <= face.face_coverage <= HIGH:
            return mask, replace(face, id_embed=None)
    return None


def paint(
    restorer, photo: np.ndarray, mask: np.ndarray, face: FaceAnalysis, embed: np.ndarray | None, steps: int | None
):
    """The painted photo, uint8; one sample of seed 0 whatever the embedding."""
    known = np.where(mask[..., None], 0, photo).astype(np.uint8)
    (crop,) = restorer.inpainters["diffusion"].fill(FillRequest(face, embed, 1, steps, 0))
    crop = harmonize(crop, face.crop, face.crop_mask)
    return composite(paste_crop(known, mask, crop, face.crop_to_photo), photo, mask)


def run(restorer, judge, people: dict[str, list[Path]], args: argparse.Namespace) -> list[dict[str, object]]:
    """One row a photo and arm."""
    rng, rows = np.random.default_rng(args.seed), []
    names, reader = list(people), ReferenceReader(restorer.analyzer)

    def mean_embed(paths: list[Path]) -> np.ndarray | None:
        items = [reader.read_one(path.name, read_rgb(path)) for path in paths]
        return combine(items, restorer.identity.threshold).mean

    for number in range(args.count):
        name = names[number % len(names)]
        paths = [people[name][i] for i in rng.permutation(len(people[name]))]
        stranger = names[(number + 1 + int(rng.integers(len(names) - 1))) % len(names)]
        photo = read_rgb(paths[0])
        made = damaged_face(restorer, photo, rng)
        original = judge.embed(photo)
        if made is None or original is None or stranger == name:
            continue
        others = [e for e in (judge.embed(read_rgb(p)) for p in paths[1 + args.references :][:3]) if e is not None]
        embeds = {"none": None, "right": mean_embed(paths[1 : 1 + args.references])}
        embeds["wrong"] = mean_embed(people[stranger][: args.references])
        if embeds["right"] is None or embeds["wrong"] is None or not others:
            continue
        for arm in ARMS:
            vector = judge.embed(paint(restorer, photo, *made, embeds[arm], args.steps))
            row = {"person": name, "photo": paths[0].name, "arm": arm}
            row |= {"face_coverage": round(made[1].face_coverage, 4)}
            row |= {"identity_original": round(identity_similarity(vector, original), 6)}
            row |= {"identity_other": round(float(np.mean([identity_similarity(vector, e) for e in others])), 6)}
            rows.append(row)
    return rows


def table(rows: list[dict[str, object]], bootstrap: int) -> str:
    """Markdown: means of each arm, and right minus wrong, right minus none, paired."""
    people = [str(row["person"]) for row in rows if row["arm"] == "none"]
    values = {(a, s): np.array([float(r[s]) for r in rows if r["arm"] == a]) for a in ARMS for s in SCORES}
    lines = [f"{len(people)} photos of {len(set(people))} people, {LOW:.0%} to {HIGH:.0%} of the features hidden.", ""]
    lines += ["| references | identity to the original | to other photos |", "|---|---|---|"]
    for arm in ARMS:
        cells = [estimate(values[arm, score], people, bootstrap) for score in SCORES]
        lines.append(f"| {arm} | " + " | ".join(f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in cells) + " |")
    for arm in ("wrong", "none"):
        cells = [compare(values["right", s], values[arm, s], people, bootstrap, "difference") for s in SCORES]
        lines.append(
            f"| right - {arm} | " + " | ".join(f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" for e in cells) + " |"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Measure and print the table. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric-weights", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--references", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        people = people_with(args.data, args.split, args.references + 4)
        judge = load_metrics(args.data, args.metric_weights).identity
        rows = run(idinpaint.Restorer.from_pretrained(args.model), judge, people, args)
        if not rows:
            raise InputError("no photo was damaged as wanted; raise --count")
    except InputError as error:
        print(f"conditioning: {error}", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    with (args.output / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = table(rows, 2000)
    (args.output / "conditioning.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
