"""How surely a reference photo of another person is noticed: fitted on validation people, measured on test people.

    python eval/wrong_reference.py --data DATA --output runs/wrong-reference --metric-weights DIR

Writes OUTPUT/wrong_reference.json, .md and .png. The vectors (eval/identity_vectors.py) are kept in OUTPUT; the same
command resumes. PROTOCOL.md says how the numbers are made. Half a second of CPU a damaged photo.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data_folder import add_data
from identity_vectors import measure
from metrics import SFACE_FILE, find_weight, weight_folders
from reference_trials import FALSE_ALARMS, Trials, draw_trials, fit_both, log_odds, outliers, photos_of, rates
from run_store import Features

from idinpaint.faces.identity import SFaceEncoder
from idinpaint.judging.calibration import load_calibration
from idinpaint.judging.verification import Verifier
from idinpaint.models.weights import sha256_of
from idinpaint.types import InputError

BANDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.61)  # of coverage, in the table


def evaluate(models: Mapping[str, Any], features: Features) -> dict[str, Any]:
    """Every model's rates on these people: all trials, by number of references, by coverage."""
    trials, found = draw_trials(features), {}
    bands = {f"{100 * a:.0f}-{100 * min(b, 0.6):.0f}": (trials.coverage >= a) & (trials.coverage < b)
             for a, b in zip(BANDS, BANDS[1:])}  # fmt: skip
    for name, model in models.items():
        counts = {str(count): trials.count == count for count in sorted(set(trials.count.tolist()))}
        found[name] = {
            "all": rates(model, trials),
            "references": {key: rates(model, trials.where(chosen)) for key, chosen in counts.items()},
            "coverage": {key: rates(model, trials.where(chosen)) for key, chosen in bands.items() if chosen.sum() > 20},
        }
    return found


def roc(model: Mapping[str, Any], trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """(false alarms, detections) over all limits."""
    alarm = log_odds(model, trials)
    limits = np.sort(alarm)[::-1]
    genuine, wrong = np.sort(alarm[~trials.wrong]), np.sort(alarm[trials.wrong])
    return tuple(1 - np.searchsorted(side, limits, "left") / len(side) for side in (genuine, wrong))


def write_plot(models: Mapping[str, Any], features: Features, path: Path) -> None:
    """ROC of every model and number of references, false alarms up to 20 %."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    trials = draw_trials(features)
    figure, axes = plt.subplots(figsize=(5.5, 4.5))
    words = {"independent": "with SFace", "bundled": "bundled encoder alone"}
    for name, model in models.items():
        for count in sorted(set(trials.count.tolist())):
            x, y = roc(model, trials.where(trials.count == count))
            axes.plot(100 * x, 100 * y, label=f"{words[name]}, {count} reference{'s' if count > 1 else ''}")
    axes.axvline(100 * FALSE_ALARMS, color="k", linestyle=":")
    axes.set(
        xlabel="right references suspected, %", ylabel="wrong references noticed, %", xlim=(0, 20), ylim=(50, 100.5)
    )
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def markdown(values: Mapping[str, Any]) -> str:
    """The rates as tables."""

    def cell(value: Sequence[float]) -> str:
        return f"{100 * value[0]:.1f} % [{100 * value[1]:.1f}, {100 * value[2]:.1f}]"

    lines = ["| encoders | trials of | noticed | false alarms | noticed at exactly 5 % | trials |", "|---" * 6 + "|"]
    for name, parts in values["test"].items():
        named = [("all", parts["all"])]
        named += [(f"{k} reference(s)", v) for k, v in parts["references"].items()]
        named += [(f"{k} % hidden", v) for k, v in parts["coverage"].items()]
        for label, r in named:
            lines.append(f"| {name} | {label} | {cell(r['detected'])} | {cell(r['false_alarms'])} | "
                         f"{100 * r['detected_at_exact_rate']:.1f} % | {r['trials']} |")  # fmt: skip
    lines += [
        "",
        "| photos of the person | strangers | only the stranger left out | warned | trials |",
        "|---" * 5 + "|",
    ]
    for r in values["outliers"]:
        lines.append(f"| {r['encoder']} | {r['own']} | {r['strangers']} | {cell(r['exactly_the_stranger_left_out'])} | "
                     f"{cell(r['warned'])} | {r['trials']} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures what is missing, fits on validation people, scores test people, writes OUTPUT."""
    import idinpaint

    sface = find_weight(SFACE_FILE, weight_folders(args.data, args.metric_weights))
    if sface is None:
        raise InputError(f"{SFACE_FILE} is not in {weight_folders(args.data, args.metric_weights)}")
    restorer = idinpaint.Restorer.from_pretrained(args.model, device=args.device)
    judge = SFaceEncoder(sface, sha256_of(sface))
    args.output.mkdir(parents=True, exist_ok=True)
    sizes = {"val": (args.masks, args.photos), "test": (1, args.test_photos, args.test_damaged)}
    vectors = {split: measure(restorer, judge, args.data, split, args.output, *size) for split, size in sizes.items()}
    models = fit_both(vectors["val"], {"judge": judge.sha256, "bundled": restorer.identity.sha256})
    calibration = load_calibration()
    limits = {
        name: Verifier(restorer.identity, encoder, calibration).threshold()[0]
        for name, encoder in (("judge", judge), ("bundled", None))
    }
    values = {
        "models": models, "test": evaluate(models, vectors["test"]),
        "people": {split: len(photos_of(found)) for split, found in vectors.items()},
        "outliers": [row for name, limit in limits.items() for row in outliers(vectors["test"], name, limit)],
    }  # fmt: skip
    (args.output / "wrong_reference.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (args.output / "wrong_reference.md").write_text(markdown(values), encoding="utf-8")
    write_plot(models, vectors["test"], args.output / "wrong_reference.png")
    return values


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the tables. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data(parser)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric-weights", type=Path, help="folder with SFace; default: metric_weights/ by the data")
    parser.add_argument("--masks", type=int, default=2, help="damages a validation photo")
    parser.add_argument("--photos", type=int, default=72, help="validation photos, 0: all")
    parser.add_argument("--test-photos", type=int, default=200, help="test photos, 0: all")
    parser.add_argument("--test-damaged", type=int, default=0, help="of them with a damage, 0: all")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    try:
        print(markdown(run(args)))
    except InputError as error:
        print(f"wrong_reference: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
