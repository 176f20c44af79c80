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
import csv
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmark import check_setup, write_run
from cases import BenchmarkConfig
from methods import given_face_box, readable
from metrics import MetricSuite, identity_similarity, landmark_error, load_metrics
from pixel_metrics import psnr
from realism_cases import CORNER, Case, plan_cases
from realism_scores import DIFFERENCE_HEAD, case_lines, component_lines, difference_lines, gradient_energy
from realism_sheet import write_sheets
from run_store import Features, feature_file, read_features, read_rows, write_features

import idinpaint
from idinpaint.data.photos import load_landmarks
from idinpaint.imaging.compositing import paste_crop
from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

COLUMNS = ("arm", "case", "kind", "component", "window", "real", "person", "photo", "hole_ratio", "psnr_hole", "lpips")
COLUMNS += ("gradient", "gradient_real", "energy", "energy_real", "apart", "identity", "landmark_error", "detected")
COLUMNS += ("chosen", "seconds")
FIRST = " first"  # of the candidates, in the order of their seeds
SAVE_EVERY = 20.0  # seconds


class Store:
    """rows.csv and the windows' features of a run, and the real windows' features that runs share."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, read_rows(folder / "rows.csv")
        if self.rows and tuple(self.rows[0]) != COLUMNS:
            raise InputError(f"{folder}/rows.csv: other columns than this version writes; choose another --output")
        self.real_file = folder.resolve().parent / "realism-real.npz"
        self.real: Features = read_features(self.real_file)
        self.features: dict[str, Features] = {}
        for arm in dict.fromkeys(row["arm"] for row in self.rows):
            self.features[arm] = read_features(feature_file(folder, arm))
        self.rows = [r for r in self.rows if r["window"] in self.features[r["arm"]] and r["real"] in self.real]
        self._saved = time.monotonic()

    @property
    def done(self) -> set[tuple[str, str]]:
        """(arm, case) that are there."""
        return {(row["arm"], row["case"]) for row in self.rows}

    def add(self, row: dict[str, object], feature: np.ndarray) -> None:
        """Keep a window's row and feature."""
        text = {k: f"{v:.6f}" if isinstance(v, float) else str(v) for k, v in row.items()}
        self.rows.append(text)
        self.features.setdefault(text["arm"], {})[text["window"]] = {"inception": feature}

    def save(self, at_once: bool = True) -> None:
        """Features first: a row is only ever there with its features."""
        if not at_once and time.monotonic() - self._saved < SAVE_EVERY:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.real:
            write_features(self.real_file, self.real)
        for arm, features in self.features.items():
            write_features(feature_file(self.folder, arm), features)
        lines = [[row[c] for c in COLUMNS] for row in self.rows]
        temporary = self.folder / "rows.tmp"
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *lines])
        temporary.replace(self.folder / "rows.csv")
        self._saved = time.monotonic()


class Trial:
    """A model and the judges of its pictures."""

    def __init__(self, restorer, suite: MetricSuite, samples: int, steps: int | None) -> None:
        if suite.inception is None:
            raise InputError(
                "metric weights: inception_fid.pt is missing; pass --metric-weights the folder that has it"
            )
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
                "kind": case.kind,
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
    done, began = store.done, time.monotonic()
    try:
        for number, case in enumerate(plan_cases(args.data, load_landmarks(args.data), args.count, args.seed), 1):
            if args.no_corners and case.kind == CORNER:
                continue
            for arm in args.methods:
                if (arm, case.id) not in done:
                    for row, feature in list(trial.rows(case, arm, store.real)):
                        store.add(row, feature)
            store.save(at_once=False)
            if number % 20 == 0:
                print(f"{case.index + 1}/{args.count} photos, {time.monotonic() - began:.0f} s", flush=True)
    finally:
        store.save()
    return report(store, args)


def report(store: Store, args: argparse.Namespace) -> str:
    """Markdown: components, whole faces, ranked against first, after against before."""
    arms = [a for name in args.methods for a in (name, name + FIRST) if a in store.features]
    features = {arm: store.features[arm] for arm in arms}
    rows = [row for row in store.rows if int(row["case"].rpartition("_")[2]) < args.count]
    people = len({row["person"] for row in rows})
    lines = [f"{args.count} photos of {people} test people, model {args.model[0]}, {args.samples} candidates.", ""]
    lines += component_lines(rows, features, store.real) + ["", *case_lines(rows, arms), ""]
    lines += DIFFERENCE_HEAD
    for arm in arms:
        if arm + FIRST in features:
            sides = [(rows, name, features[name]) for name in (arm + FIRST, arm)]
            lines += difference_lines(f"{arm}: ranked - first", *sides, store.real)
    if args.before:
        old = Store(args.before)
        for arm in arms:
            if arm in old.features:
                sides = (old.rows, arm, old.features[arm]), (rows, arm, features[arm])
                lines += difference_lines(f"{arm}: new - old", *sides, store.real | old.real)
    return "\n".join(lines) + "\n"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric-weights", type=Path)
    parser.add_argument("--model", action="append", help="default, or a model folder; --sheet takes several")
    parser.add_argument("--methods", nargs="+", default=["prior", "gan", "diffusion"], metavar="NAME[+refN]")
    parser.add_argument("--count", type=int, default=280, help="photos; 280: 120 noses, mouths and more eyes; 700: 300")
    parser.add_argument("--samples", type=int, default=4, help="candidates")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--before", type=Path, help="another run's folder to compare with")
    parser.add_argument("--no-corners", action="store_true")
    parser.add_argument("--sheet", action="store_true", help="contact sheets of 24 faces and 8 torn corners instead")
    args = parser.parse_args(argv)
    args.model = args.model or ["default"]
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure and print the tables, or draw the sheets. Returns 0, or 2 for bad input."""
    args = parse(argv)
    try:
        if args.sheet:
            for path in write_sheets(args):
                print(path)
            return 0
        if len(args.model) > 1:
            raise InputError("--model: one at a time without --sheet; compare runs with --before")
        text = measure(args)
    except InputError as error:
        print(f"realism: {error}", file=sys.stderr)
        return 2
    write_atomic(args.output / "realism.md", lambda file: file.write(text.encode()))
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
