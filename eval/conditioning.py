"""Do reference photos work? The right person's against a stranger's and against none, by the whole Restorer.

    python eval/conditioning.py --data DATA --output runs/conditioning [--count 80] [--references 1,3,5]

Photos of unseen people with whole features hidden, 20-40 % of the face's features, painted as `idinpaint restore
--force --strategy diffusion` does: without references, with some of the person, and with as many of another person
(the last number of --references); nothing else differs, the noise included. The Restorer takes pixels only from photos
that the face's visible part agrees with; `unchecked` is another person's photos believed; with --tokens also both
sides without any pixel of a photo (`restore --no-reference-pixels`): what the identity vector alone does.
Scored by SFace, which neither conditions nor ranks: similarity to the original and to photos of the person that the
painter did not see. Writes rows.csv and conditioning.md; 95 % bootstrap over people. --pictures DIR keeps every result.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cases import holed, read_rgb, split_people
from command import parser_of, run_main, write_text
from estimates import compare, estimate
from methods import given_face_box
from metric_networks import identity_similarity, load_metrics
from pictures import write_png
from run_store import write_rows
from tables import column, frame, markdown_table

import idinpaint
from idinpaint.imaging.masks import feature_block
from idinpaint.types import InputError

LOW, HIGH = 0.20, 0.40
UNCHECKED = "wrong, unchecked,"
TOKENS = ", no pixels"
OTHERS = 3  # photos of the person that only the scoring sees
SCORES = ("identity_original", "identity_other", "lpips_hole")


def people_with(data: Path, split: str, least: int) -> dict[str, list[Path]]:
    """Person -> photos, of a split's people with at least `least` photos. Raises InputError when there are none."""
    known = sorted(split_people(data, split).items())
    people = {name: sorted(entry.path for entry in own) for name, own in known if len(own) >= least}
    if len(people) < 2:
        raise InputError(f"{data}/celeba_id256: fewer than two people of the {split} split with {least} photos")
    return people


def damaged_photo(restorer, photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float] | None:
    """A mask of one or two hidden features and the coverage of the face, in [LOW, HIGH]; None after 20 tries."""
    for _ in range(20):
        mask = feature_block(rng, photo.shape[0])
        if rng.random() < 0.5:
            mask = mask | feature_block(rng, photo.shape[0])
        face = restorer.analyzer.analyze(holed(photo, mask), mask, given_face_box())[0]
        if LOW <= face.face_coverage <= HIGH:
            return mask, face.face_coverage
    return None


def arms_of(
    own: Sequence[Path], strange: Sequence[Path], counts: Sequence[int], tokens: bool = False
) -> dict[str, Sequence[Path]]:
    """Name -> reference photos."""
    most = counts[-1]
    right, strange = {f"right {n}": own[:n] for n in counts}, strange[:most]
    arms = {"none": (), **right, f"wrong {most}": strange, f"{UNCHECKED} {most}": strange}
    return arms | ({f"{kind} {most}{TOKENS}": arms[f"{kind} {most}"] for kind in ("right", "wrong")} if tokens else {})


def differences_of(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of arms of which the table has the first minus the second."""
    best = [arm for arm in arms if arm.startswith("right") and TOKENS not in arm][-1]
    wrong = best.replace("right", "wrong")
    pairs = [(best, wrong), (best, best.replace("right", UNCHECKED)), (best, "none"), (wrong, "none")]
    tokens = (best + TOKENS, wrong + TOKENS)
    return pairs + ([tokens, (tokens[1], "none")] if tokens[0] in arms else [])


@contextmanager
def believed(verifier, blindly: bool) -> Iterator[None]:
    """Within it, `blindly` takes pixels from references that the face does not agree with."""
    if blindly:
        verifier.agrees = lambda face, given: bool(given)
    try:
        yield
    finally:
        vars(verifier).pop("agrees", None)


class Trial:
    """One painter, one judge, one split's people."""

    def __init__(self, restorer, suite, people: dict[str, list[Path]], args: argparse.Namespace) -> None:
        self.restorer, self.judge, self.people, self.args = restorer, suite.identity, people, args
        self.lpips = suite.lpips_alex

    def rows(self) -> list[dict[str, object]]:
        """One row a photo and arm."""
        rng, names, rows = np.random.default_rng(self.args.seed), list(self.people), []
        for number in range(self.args.count):
            name = names[number % len(names)]
            stranger = names[(number + 1 + int(rng.integers(len(names) - 1))) % len(names)]
            paths = [self.people[name][i] for i in rng.permutation(len(self.people[name]))]
            strange = [self.people[stranger][i] for i in rng.permutation(len(self.people[stranger]))]
            photo = read_rgb(paths[0])
            made = damaged_photo(self.restorer, photo, rng)
            last = 1 + self.args.references[-1]
            others = [e for e in (self.judge.embed(read_rgb(p)) for p in paths[last : last + OTHERS]) if e is not None]
            if made is None or self.judge.embed(photo) is None or stranger == name or not others:
                continue
            base = {"case": number, "person": name, "photo": paths[0].name, "stranger": stranger}
            try:
                arms = arms_of(paths[1:last], strange, self.args.references, self.args.tokens)
                for arm, references in arms.items():
                    with believed(self.restorer.verifier, arm.startswith(UNCHECKED)):
                        scores = self.score(f"{number:03d}-{arm}", photo, *made, references, others, TOKENS not in arm)
                    rows.append({**base, "arm": arm, **scores})
            except InputError as error:
                print(f"{number + 1}/{self.args.count} left out: {error}", flush=True)
                rows = [row for row in rows if row["case"] != number]  # every arm or none: the differences are paired
                continue
            write_rows(self.args.output / "rows.csv", rows, list(rows[0]))  # an interruption keeps what was scored
            print(f"{number + 1}/{self.args.count}", flush=True)
        return rows

    def score(
        self,
        picture: str,
        photo: np.ndarray,
        mask: np.ndarray,
        share: float,
        references: Sequence[Path],
        others: list[np.ndarray],
        pixels: bool = True,
    ) -> dict[str, object]:
        """Paint and score one arm; picture: the name under which it is kept; pixels: the photos' may be used."""
        known, photos = holed(photo, mask), [read_rgb(path) for path in references]
        result = self.restorer(
            known, mask, references=photos, strategy="diffusion", num_samples=self.args.samples, force=True,
            steps=self.args.steps, face_box=given_face_box(), reference_pixels=pixels,
        )  # fmt: skip
        vector = self.judge.embed(result.image)
        if self.args.pictures:
            write_png(self.args.pictures / f"{picture}.png", np.hstack([photo, known, *photos[:3], result.image]))
        face = result.report["faces"][0]
        return {
            "face_coverage": round(share, 4),
            "identity_original": round(identity_similarity(vector, self.judge.embed(photo)), 6),
            "identity_other": round(float(np.mean([identity_similarity(vector, e) for e in others])), 6),
            "lpips_hole": round(self.lpips.distance(result.image, photo, mask)[1], 6),
            "taken_from": ", ".join(face["candidates"][0]["shown"]),
            "verdict": face["verification"]["verdict"],
        }


def table(rows: list[dict[str, object]], bootstrap: int) -> str:
    """Markdown: means of each arm, and the arm with the most right references minus wrong and none, paired."""
    arms = {arm: own for arm, own in frame(rows).groupby("arm", sort=False)}
    people, lines = arms["none"]["person"].tolist(), []
    for arm, own in arms.items():
        cells = [f"{estimate(column(own, s), people, bootstrap):.3f}" for s in SCORES]
        shares = ((own["taken_from"] != "").mean(), (own["verdict"] == "verified").mean())
        lines.append([arm, *cells, *(f"{100 * v:.0f} %" for v in shares)])
    for best, arm in differences_of(list(arms)):
        sides = [[column(arms[name], s) for name in (best, arm)] for s in SCORES]
        cells = [f"{compare(*pair, people, bootstrap, 'difference'):+.3f}" for pair in sides]
        lines.append([f"{best} - {arm}", *cells, "", ""])
    head = ("references", "identity to the original", "to other photos", "LPIPS-alex hole", "pixels taken", "verified")
    said = f"{len(people)} photos of {len(set(people))} people, {LOW:.0%} to {HIGH:.0%} of the features hidden."
    return "\n".join([said, "", *markdown_table(head, lines)]) + "\n"


def run(args: argparse.Namespace) -> None:
    """Measure, write and print the table."""
    people = people_with(args.data, args.split, 1 + args.references[-1] + OTHERS)
    suite = load_metrics(args.data, args.metric_weights)
    rows = Trial(idinpaint.Restorer.from_pretrained(args.model), suite, people, args).rows()
    if not rows:
        raise InputError("no photo was damaged as wanted; raise --count")
    text = table(rows, 2000)
    write_text(args.output / "conditioning.md", text)
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Measure and print the table. Returns 0, or 2 for bad input."""
    shared = ("--data", "--output", "--metric-weights", "--model", "--samples", "--steps", "--seed")
    parser = parser_of(__doc__, *shared)
    parser.set_defaults(samples=2)
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--references", default="1,3,5", type=lambda text: sorted(int(v) for v in text.split(",")))
    parser.add_argument("--tokens", action="store_true", help="also right and wrong references without their pixels")
    parser.add_argument("--pictures", type=Path)
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
