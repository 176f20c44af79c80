"""How far identity survives damage, by strategy; thresholds and probabilities that the product then quotes.

    python eval/calibrate.py --data DATA --output runs/calibration [--set key=value] [--install]
    python eval/calibrate.py ... --part 1/2 & python eval/calibrate.py ... --part 2/2 & wait   # then the first line

Writes OUTPUT/rows*.csv (a line an image and method; the same command resumes), calibration.json, calibration.md and
plots. --part I/N does every N-th image and writes rows only, so that processes share the work. --install copies
calibration.json into the package. PROTOCOL.md says how the numbers are made. About 0.4 s of CPU an image and method.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
from calibration_fit import (
    acceptance_curve,
    bin_rows,
    coverage_error,
    likeness_limits,
    propose,
    reliability,
    threshold_at,
)
from calibration_plots import write_plots
from calibration_rows import CalibrationConfig, Case, Workplace, plan_cases, run_rows, unit_mean
from command import commit, parser_of, run_main, write_json
from identity_vectors import load_judge, measure
from reference_trials import fit_both
from run_store import Features, Row
from tables import frame

import idinpaint
from idinpaint.config import load_config
from idinpaint.imaging.encoders import write_atomic
from idinpaint.judging.calibration import SHIPPED, VERSION, Calibration
from idinpaint.types import InputError

SETTLED_AT = 0.8  # acceptance below which a strategy should no longer be used
LIKENESS_KEPT = 0.9  # share of the likeness to other photos below which features are being invented


def prepare(
    config: CalibrationConfig, data: Path, weights: Path | None, calibration: Calibration | None = None
) -> tuple[CalibrationConfig, Workplace]:
    """(the config without the methods that the model lacks, what restorations need). InputError without SFace.

    calibration: of the verifier, the shipped one by default.
    """
    judge = load_judge(data, weights)
    restorer = idinpaint.Restorer.from_pretrained(config.model, device=config.device)
    known = ("auto", "telea", *restorer.inpainters)
    kept = tuple(m for m in config.methods if m.partition("+")[0] in known)
    if len(kept) < len(config.methods):
        print(f"calibrate: left out, the model has none: {', '.join(m for m in config.methods if m not in kept)}")
    if not kept:
        raise InputError(f"methods: this model does none of {', '.join(config.methods)}")
    return replace(config, methods=kept), Workplace(restorer, judge, data, calibration)


def encoder_thresholds(cases: list[Case], place: Workplace, far: float) -> dict[str, dict[str, object]]:
    """Of both encoders: the threshold at the false-accept rate, one photo against the mean of others, untouched."""
    owners = sorted({(c.entry.person, c.entry.path, c.others) for c in cases}, key=str)
    identity = place.restorer.identity
    digests = {"sface": place.encoder.sha256, identity.name: identity.sha256}
    found = {}
    for index, (name, digest) in enumerate(digests.items()):
        probes = np.stack([place.photo(path)[index] for _, path, _ in owners])
        means = np.stack([unit_mean([place.photo(p)[index] for p in others]) for _, _, others in owners])
        cosine, people = probes @ means.T, np.array([o[0] for o in owners])
        genuine = np.diagonal(cosine)
        found[name] = {"sha256": digest, **threshold_at(genuine, cosine[people[:, None] != people], far)}
    return found


def reference_vectors(config: CalibrationConfig, place: Workplace, output: Path) -> Features:
    """What the limit of wrong references is fitted on; empty where the config leaves it out."""
    if not config.reference_photos:
        return {}
    sizes = config.reference_masks, config.reference_photos
    return measure(place.restorer, place.encoder, place.data, config.split, output, *sizes)


def calibrate(config: CalibrationConfig, place: Workplace, output: Path) -> dict[str, object]:
    """Runs what is missing, fits, writes OUTPUT; returns the calibration."""
    cases, restorer = plan_cases(config, place.data), place.restorer
    rows = frame(run_rows(config, cases, place, output))
    everything = pd.concat([rows, frame(natural_rows(config, place, output))], ignore_index=True)
    encoders = encoder_thresholds(cases, place, config.far)
    accepted = float(encoders["sface"]["threshold"])
    curves: dict[str, dict[str, object]] = {}
    for method in config.methods:
        own = everything[everything["method"] == method]
        strategy, _, extra = method.partition("+")
        side = "with_references" if extra else "without_references"
        curves.setdefault(strategy, {})[side] = acceptance_curve(own, accepted, config.bootstrap)
    strangers: dict[str, object] = {}
    if found := reference_vectors(config, place, output):
        strangers = fit_both(found, {"judge": place.encoder.sha256, "bundled": restorer.identity.sha256})
    values: dict[str, object] = {
        "version": VERSION,
        "made": made(config, everything),
        "encoders": encoders,
        "weights": dict(restorer.bundle.weights),
        "acceptance": curves,
        "curve": bin_rows(rows, accepted, config.bootstrap),
        "reliability": reliability(everything, curves, accepted),
        "wrong_reference": strangers,
        "coverage_error": coverage_error(rows),
        "proposed_controller": propose(curves, SETTLED_AT, likeness_limits(rows, LIKENESS_KEPT, config.bootstrap)),
    }
    write_json(output / "calibration.json", values, allow_nan=False)
    write_plots(values, rows, output)
    return values


def natural_rows(
    config: CalibrationConfig, place: Workplace, output: Path, part: tuple[int, int] = (1, 1)
) -> list[Row]:
    """Rows of natural_images photos under irregular masks."""
    own = replace(config, images=config.natural_images, damage="natural")
    return run_rows(own, plan_cases(own, place.data), place, output, part) if own.images else []


def made(config: CalibrationConfig, rows: pd.DataFrame) -> dict[str, object]:
    """Where the numbers come from."""
    people = rows["person"].nunique()
    return {
        "date": time.strftime("%Y-%m-%d"), "commit": commit(),
        "data": f"celeba_id256, {config.split} split, {people} people; damage: {config.damage}",
        "restorations": len(rows), "config": asdict(config),
    }  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """A part's rows, or all and what follows from them."""
    config = load_config(CalibrationConfig, args.config, args.overrides)
    config, place = prepare(config, args.data, args.metric_weights)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.part:
        run_rows(config, plan_cases(config, args.data), place, args.output, args.part)
        natural_rows(config, place, args.output, args.part)
        if args.part[0] == 1:
            reference_vectors(config, place, args.output)
        return
    values = calibrate(config, place, args.output)
    if args.install:
        text = (args.output / "calibration.json").read_bytes()
        write_atomic(SHIPPED, lambda file: file.write(text))
    shown = ("encoders", "reliability", "coverage_error", "proposed_controller")
    print(json.dumps({k: values[k] for k in shown}, indent=1))


def main(argv: list[str] | None = None) -> int:
    """Parse, run, say what follows. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--output", "--metric-weights", "--set", "--part")
    parser.add_argument("--config", type=Path, help="YAML of the keys of CalibrationConfig")
    parser.add_argument("--install", action="store_true", help="copy calibration.json into the package")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
