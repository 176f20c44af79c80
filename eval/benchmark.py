"""Score inpainting methods on people and masks that no training saw. PROTOCOL.md says how and why.

    python eval/benchmark.py --config configs/benchmark.yaml --data DATA --output runs/bench [--set key=value]
    accelerate launch -q --num_processes 2 eval/benchmark.py ...      the work is split, the numbers are the same
    python eval/benchmark.py ... --export DIR                      only write the cases for an outside method
    python eval/benchmark.py ... --predictions NAME=DIR            score its pictures DIR/CASE.png
    python eval/benchmark.py ... --gan NAME=DIR                    a generator's folder as one more method

Writes OUTPUT/rows.csv (one line an image; the same command resumes), features/, run.json, summary.csv, table.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from cases import BenchmarkConfig, Item, plan_items, read_rgb
from command import commit, parser_of, run_main, write_json
from cost import measured
from methods import Fill, export_cases, fingerprint, method_factory, parse_predictions
from metric_networks import MetricSuite, load_metrics
from metrics import Filled, score
from run_store import ORIGINALS, Features, RunFolder
from slices import describe
from summary import write_summary

import idinpaint
from idinpaint.config import load_config
from idinpaint.data.photos import load_landmarks
from idinpaint.types import InputError

FACE_DIMS = 128


def check_setup(output: Path, config: BenchmarkConfig, predictions: Mapping[str, Path]) -> None:
    """Record each method's fingerprint in OUTPUT/setup.json. Raises InputError when it differs from the one there."""
    path = output / "setup.json"
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for method in config.methods:
        now = fingerprint(method, config, predictions)
        before = there.get(method, now)
        for key in before.keys() | now.keys():
            if now.get(key) != before.get(key):
                raise InputError(
                    f"{output}: its {method} rows were made with {key}={before.get(key)}, now {now.get(key)}; "
                    "choose another --output or delete the folder"
                )
        there[method] = now
    write_json(path, there)


def write_run(output: Path, config: BenchmarkConfig, predictions: Mapping[str, Path]) -> None:
    """OUTPUT/run.json: configuration, commit, machine, versions; what a report quotes."""
    import torch

    cuda = torch.cuda.is_available() and config.device != "cpu"
    values = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "config": asdict(config),
        "predictions": {name: str(folder) for name, folder in predictions.items()},
        "hardware": {
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "idinpaint": idinpaint.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
    write_json(output / "run.json", values)


class Scorer:
    """Turns a filled photo into a row and its features; what untouched photos need is computed once."""

    def __init__(self, suite: MetricSuite, originals: Features, points: Callable[[Item], np.ndarray | None]) -> None:
        self._suite, self._originals, self._points = suite, originals, points
        self._read = functools.cache(lambda path: suite.identity.read(read_rgb(path)))

    def _features(self, image: np.ndarray, face: tuple | None) -> dict[str, np.ndarray]:
        own = {"sface": np.zeros(FACE_DIMS) if face is None else face[0]}
        if self._suite.inception is not None:
            own["inception"] = self._suite.inception.features(image)
        return own

    def _remember(self, item: Item) -> tuple | None:
        """The original's face; its features and those of the person's other photos go into the cache."""
        face = self._suite.identity.read(item.photo) if "@" in item.bin else self._read(item.entry.path)
        if len(self._originals.get(item.original_id, {})) < 1 + (self._suite.inception is not None):
            self._originals[item.original_id] = self._features(item.photo, face)
        for path in item.others:
            other = self._read(path)
            vector = np.zeros(FACE_DIMS) if other is None else other[0]
            self._originals.setdefault(f"{item.entry.person}/{path.name}", {"sface": vector})
        return face

    def score(
        self, item: Item, method: str, fill: Fill, cost: Mapping[str, float]
    ) -> tuple[dict[str, object], dict[str, np.ndarray]]:
        """All COLUMNS of one picture, and its features. Identity is NaN only when the ORIGINAL has no face found."""
        original, found = self._remember(item), self._suite.identity.read(fill.image)
        others = [face[0] for face in map(self._read, item.others) if face is not None]
        look = (fill.image, item.photo, item.mask, fill.samples, found, original, others, cost)
        row = {
            "method": method,
            "bin": item.bin,
            "index": item.index,
            "person": item.entry.person,
            "photo": item.entry.path.name,
            "mask": item.mask_name,
            "hole_ratio": float(item.mask.mean()),
            **describe(item.photo, item.mask, self._points(item)),
            **score(Filled(self._suite, *look)),
            "decision": fill.decision,
            "others": "|".join(path.name for path in item.others),
        }
        return row, self._features(fill.image, found)


def point_finder(config: BenchmarkConfig, data: Path) -> Callable[[Item], np.ndarray | None]:
    """Landmarks [68, 2] of an untouched photo: those that the data set ships, else the bundled network's."""
    shipped = {}
    if config.photos is None and (data / "celeba_id256_landmarks_mp468.npz").is_file():
        shipped = load_landmarks(data)

    @functools.cache
    def landmarker():
        return idinpaint.Restorer.from_pretrained(device="cpu").analyzer.landmarker

    def find(item: Item) -> np.ndarray | None:
        if config.photos is not None:
            return landmarker().predict(item.photo, np.zeros(item.mask.shape, bool))[0]
        return shipped.get(item.entry.key)

    return find


def run_benchmark(
    config: BenchmarkConfig, data: Path, output: Path, metric_weights: Path | None, predictions: Mapping[str, Path]
) -> Path | None:
    """Compute the rows that are missing, then the summary. Returns the Markdown table's path; None but in process 0."""
    if config.alignment not in ("given", "detect"):
        raise InputError(f"alignment={config.alignment}: choose given or detect")
    config = replace(config, methods=(*config.methods, *predictions))
    loaders = plan_items(config, data)
    suite = load_metrics(data, metric_weights)
    kinds = ("sface",) if suite.inception is None else ("inception", "sface")
    count, rank, wait = processes()
    parts = output / "parts"
    if rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        check_setup(output, config, predictions)
        RunFolder(output, kinds).merge(parts, config.methods, config.bins)  # of an interrupted run of several
        write_run(output, config, predictions)
    wait()
    there = RunFolder(output, kinds)
    run = there if count == 1 else RunFolder(parts / str(rank))
    scorer = Scorer(suite, run.of(ORIGINALS) if count == 1 else _copied(there, run), point_finder(config, data))
    try:
        fill_rows(config, loaders[rank::count], scorer, there, run, method_factory(config, predictions))
    finally:
        run.save()
    wait()
    if rank != 0:
        return None
    there = RunFolder(output, kinds)
    there.merge(parts, config.methods, config.bins)
    return write_summary(there, config)


def _copied(there: RunFolder, run: RunFolder) -> Features:
    own = run.of(ORIGINALS)
    own.update(there.of(ORIGINALS))
    return own


def fill_rows(
    config: BenchmarkConfig,
    loaders: list[Callable[[], Item]],
    scorer: Scorer,
    there: RunFolder,
    run: RunFolder,
    method_of: Callable[[str], Callable[[Item], Fill]],
) -> None:
    """Every method on every case that `there` lacks, into `run`; case by case, so that an original is read once."""
    wanted = [(load, [n for n in config.methods if (n, *load.args[:2]) not in there.rows]) for load in loaders]
    methods = {name: method_of(name) for name in dict.fromkeys(name for _, names in wanted for name in names)}
    for number, (load, names) in enumerate(wanted, 1):
        item = load() if names else None
        for name in names:
            cost: dict[str, float] = {}
            with measured(cost):
                fill = methods[name](item)
            row, features = scorer.score(item, name, fill, cost)
            run.add(row, item.id, features)
        if number % 10 == 0:
            print(f"{number}/{len(loaders)} cases of {len(config.methods)} methods", flush=True)


def processes() -> tuple[int, int, Callable[[], None]]:
    """(how many, which this is, wait for all) of `accelerate launch` or torchrun; one process otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 1, 0, lambda: None
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # A bare PartialState() forgets ACCELERATE_USE_CPU, and without an accelerator makes of N processes N times one.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu, timeout=timedelta(days=7))  # one process may have much slower cases than the others
    return state.num_processes, state.process_index, state.wait_for_everyone


def with_gans(config: BenchmarkConfig, given: list[str]) -> BenchmarkConfig:
    """The config with the command line's generators, each also a method."""
    names = [text.partition("=")[0] for text in given]
    methods = dict.fromkeys((*config.methods, *names))
    return replace(config, gans=(*config.gans, *given), methods=tuple(methods))


def run(args: argparse.Namespace) -> None:
    """Export the cases, or score what is missing and print the table."""
    config = with_gans(load_config(BenchmarkConfig, args.config, args.overrides), args.gan)
    if args.export:
        print(f"{export_cases(plan_items(config, args.data), args.export)} cases in {args.export}")
        return
    if args.output is None:
        raise InputError("--output is missing: name the run's folder (or --export DIR)")
    predictions = parse_predictions(args.predictions, config.methods)
    table = run_benchmark(config, args.data, args.output, args.metric_weights, predictions)
    if table is not None:
        print(table.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the table. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--metric-weights", "--set", "--predictions")
    parser.add_argument("--config", type=Path, help="YAML of the keys of BenchmarkConfig")
    parser.add_argument("--output", type=Path, help="the run's folder")
    parser.add_argument("--gan", action="append", default=[], metavar="NAME=DIR", help="a generator as method NAME")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write image, mask and masked input of every case")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
