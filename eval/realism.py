"""Do restored features look real? Whole eyes, noses and mouths of unseen people hidden, their windows beside real ones.

    python eval/realism.py --data DATA --output runs/realism --metric-weights DIR [--model DIR] [--count 280]
    python eval/realism.py ... --output runs/new --model NEW --before runs/realism     the change, with intervals
    python eval/realism.py ... --sheet [--model NEW --model OLD]        pictures to look at in OUTPUT, nothing measured

Photos of the 40 test people with features hidden by their outline (an eye with its brow, both eyes, nose, mouth, two of
these; every seventh photo also with a torn corner), restored as `idinpaint restore --force` does. `NAME first` is the
first of the candidates in place of the one that ranking chose; `NAME+refN` gets N other photos of the person.
KID x 1000 and FID: Inception features of 72 px windows, restored against real (PROTOCOL.md). Writes rows.csv, features/
and realism.md in OUTPUT; the same command resumes. The real windows' features are kept in OUTPUT's parent folder.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from benchmark import check_setup, write_run
from cases import BenchmarkConfig
from command import parser_of, run_main, write_text
from methods import given_face_box, readable
from metric_networks import MetricSuite, identity_similarity, landmark_error, load_metrics
from pixel_scores import psnr
from realism_cases import CORNER, Case, plan_cases
from realism_scores import DIFFERENCE_HEAD, case_lines, component_lines, difference_lines, gradient_energy
from realism_sheet import write_sheets
from run_store import ORIGINALS, Features, RunFolder
from tables import frame, markdown_table

import idinpaint
from idinpaint.data.photos import load_landmarks
from idinpaint.imaging.compositing import paste_crop
from idinpaint.types import InputError

COLUMNS = ("arm", "case", "kind", "component", "window", "real", "person", "photo", "hole_ratio", "psnr_hole", "lpips")
COLUMNS += ("gradient", "gradient_real", "energy", "energy_real", "apart", "identity", "landmark_error", "detected")
COLUMNS += ("chosen", "seconds")
FIRST = " first"  # of the candidates, in the order of their seeds


class Store(RunFolder):
    """rows.csv and the windows' features of a run, and the real windows' features that runs share."""

    columns = COLUMNS

    @staticmethod
    def key_of(row: Mapping[str, str]) -> tuple:
        """(arm, window)."""
        return row["arm"], row["window"]

    def whole(self, row: Mapping[str, str], kinds: Sequence[str]) -> bool:
        """Whether both windows' features are there."""
        return row["window"] in self.of(row["arm"]) and row["real"] in self.real

    def feature_file(self, name: str) -> Path:
        """The real windows' features lie beside the run's folder."""
        shared = self.folder.resolve().parent / "realism-real.npz"
        return shared if name == ORIGINALS else super().feature_file(name)

    @property
    def real(self) -> Features:
        """The untouched windows' features."""
        return self.of(ORIGINALS)


class Trial:
    """A model and the judges of its pictures."""

    def __init__(self, restorer, suite: MetricSuite, samples: int, steps: int | None) -> None:
        if suite.inception is None:
            raise InputError("metric weights: inception_fid.pt is missing; pass --metric-weights a folder that has it")
        self.restorer, self.suite, self.samples, self.steps = restorer, suite, samples, steps
        self.box = given_face_box()

    def restore(self, case: Case, arm: str) -> tuple[dict[str, np.ndarray], list[np.ndarray], str]:
        """({arm: picture, `arm first`: picture}, what the network painted from each seed, what ranking chose)."""
        strategy, _, extra = arm.partition("+ref")
        references = readable(self.restorer, case.references, int(extra or 0))
        result = self.restorer(
            case.masked, case.mask, references=references, strategy=strategy, num_samples=self.samples,
            steps=self.steps, seed=case.seed, force=True, face_box=self.box,
        )  # fmt: skip
        pictures = {arm: result.image}
        made = result.candidates[0] if result.candidates else []
        own = [c for c in made if c.painter is None]  # others were asked where none of these is believable
        painted = sorted((c for c in own if c.shown == made[0].shown), key=lambda c: c.seed)
        to_photo = result.faces[0].crop_to_photo if painted else None
        whole = [paste_crop(result.image, case.mask, c.image, to_photo) for c in painted]
        if len(whole) < 2:
            return pictures, whole, "only"
        return pictures | {arm + FIRST: whole[0]}, whole, "ranked"

    def rows(self, case: Case, arm: str, real: Features) -> Iterator[tuple[dict[str, object], np.ndarray]]:
        """(row, Inception feature) of every window of an arm's pictures; real: features so far, added to."""
        start = time.perf_counter()
        pictures, painted, chosen = self.restore(case, arm)
        seconds = time.perf_counter() - start
        truth = self.suite.identity.read(case.photo)
        for name, picture in pictures.items():
            vector, points = self.suite.identity.read(picture) or (None, None)
            base = {
                "arm": name,
                "case": case.id,
                "kind": case.bin,
                "person": case.entry.person,
                "photo": case.entry.path.name,
                "hole_ratio": float(case.mask.mean()),
                "identity": float("nan") if truth is None else identity_similarity(vector, truth[0]),
                "landmark_error": landmark_error(points, truth and truth[1], case.mask),
                "detected": int(vector is not None),
                "chosen": chosen if name == arm else "first",
                "seconds": seconds,
            }
            for window in case.windows:
                restored, original, hole = (window.cut(x) for x in (picture, case.photo, case.mask))
                key = f"{case.entry.key}#{window.key}"
                if key not in real:
                    real[key] = {"inception": self.suite.inception.features(original)}
                length, energy = gradient_energy(restored, hole)
                length_real, energy_real = gradient_energy(original, hole)
                row = base | {
                    "component": window.name,
                    "window": f"{case.id}#{window.key}",
                    "real": key,
                    "psnr_hole": psnr(restored, original, hole),
                    "lpips": self.suite.lpips_alex.distance(restored, original)[0],
                    "gradient": length,
                    "gradient_real": length_real,
                    "energy": energy,
                    "energy_real": energy_real,
                    "apart": self.apart([window.cut(x) for x in painted], window.cut(window.middle)),
                }
                yield row, self.suite.inception.features(restored)

    def apart(self, windows: list[np.ndarray], middle: np.ndarray) -> float:
        """Mean LPIPS-alex over all pairs of candidates' windows, averaged over the feature itself; NaN for one."""
        if len(windows) < 2 or not middle.any():
            return float("nan")
        pairs = itertools.combinations(windows, 2)
        return float(np.mean([self.suite.lpips_alex.distance(b, a, middle)[1] for a, b in pairs]))


def measure(args: argparse.Namespace) -> str:
    """The rows that are missing, then the tables."""
    config = BenchmarkConfig(
        methods=tuple(args.methods), seed=args.seed, num_samples=args.samples, steps=args.steps, model=args.model[0]
    )
    suite, store = load_metrics(args.data, args.metric_weights), Store(args.output)
    args.output.mkdir(parents=True, exist_ok=True)
    check_setup(args.output, config, {})
    write_run(args.output, config, {})
    trial = Trial(idinpaint.Restorer.from_pretrained(args.model[0]), suite, args.samples, args.steps)
    done, began = {(row["arm"], row["case"]) for row in store.rows.values()}, time.monotonic()
    try:
        planned = plan_cases(args.data, load_landmarks(args.data), args.count, args.seed, args.only_corners)
        for number, case in enumerate(planned, 1):
            if args.no_corners and case.bin == CORNER:
                continue
            for arm in args.methods:
                if (arm, case.id) not in done:
                    for row, feature in list(trial.rows(case, arm, store.real)):
                        store.add(row, str(row["window"]), {"inception": feature})
            if number % 20 == 0:
                print(f"{case.index + 1}/{args.count} photos, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        store.save()
    return report(store, args)


def report(store: Store, args: argparse.Namespace) -> str:
    """Markdown: components, whole faces, ranked against first, after against before."""
    arms = [a for name in args.methods for a in (name, name + FIRST) if store.of(a)]
    features = {arm: store.of(arm) for arm in arms}
    rows = frame(row for row in store.rows.values() if int(row["case"].rpartition("_")[2]) < args.count)
    people = rows["person"].nunique()
    lines = [f"{args.count} photos of {people} test people, model {args.model[0]}, {args.samples} candidates.", ""]
    lines += component_lines(rows, features, store.real) + ["", *case_lines(rows, arms), ""]
    changes = []
    for arm in arms:
        if arm + FIRST in features:
            sides = [(rows, name, features[name]) for name in (arm + FIRST, arm)]
            changes += difference_lines(f"{arm}: ranked - first", *sides, store.real)
    if args.before:
        old = Store(args.before)
        for arm in arms:
            if old.of(arm):
                sides = (frame(old.rows.values()), arm, old.of(arm)), (rows, arm, features[arm])
                changes += difference_lines(f"{arm}: new - old", *sides, store.real | old.real)
    return "\n".join([*lines, *markdown_table(DIFFERENCE_HEAD, changes)]) + "\n"


def run(args: argparse.Namespace) -> None:
    """Measure and print the tables, or draw the sheets."""
    args.model = args.model or ["default"]
    if args.sheet:
        print(*write_sheets(args), sep="\n")
        return
    if len(args.model) > 1:
        raise InputError("--model: one at a time without --sheet; compare runs with --before")
    text = measure(args)
    write_text(args.output / "realism.md", text)
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Measure and print the tables, or draw the sheets. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--output", "--metric-weights", "--samples", "--steps", "--seed")
    parser.add_argument("--model", action="append", help="default, or a model folder; --sheet takes several")
    parser.add_argument("--methods", nargs="+", default=["prior", "gan", "diffusion"], metavar="NAME[+refN]")
    parser.add_argument("--count", type=int, default=280, help="photos; 280: 120 noses, mouths and more eyes; 700: 300")
    parser.add_argument("--before", type=Path, help="another run's folder to compare with")
    corners = parser.add_mutually_exclusive_group()
    corners.add_argument("--no-corners", action="store_true")
    corners.add_argument("--only-corners", action="store_true", help="every photo with a torn corner, no features")
    parser.add_argument("--sheet", action="store_true", help="contact sheets of 24 faces and 8 torn corners instead")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
