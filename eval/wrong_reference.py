"""How surely a reference photo of another person is noticed: fitted on validation people, measured on test people.

    python eval/wrong_reference.py --data DATA --output runs/wrong-reference --metric-weights DIR

Writes OUTPUT/wrong_reference.json, .md and .png. The vectors (eval/identity_vectors.py) are kept in OUTPUT; the same
command resumes. PROTOCOL.md says how the numbers are made. Half a second of CPU a damaged photo.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from command import parser_of, run_main, write_json, write_text
from identity_vectors import load_judge, measure
from reference_trials import FALSE_ALARMS, Trials, draw_trials, fit_both, log_odds, outliers, photos_of, rates
from run_store import Features
from tables import markdown_table, percent, pyplot, save_figure

from idinpaint.judging.calibration import load_calibration
from idinpaint.judging.verification import Verifier

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
    trials = draw_trials(features)
    figure, axes = pyplot().subplots(figsize=(5.5, 4.5))
    words = {"independent": "with SFace", "bundled": "bundled encoder alone"}
    for name, model in models.items():
        for count in sorted(set(trials.count.tolist())):
            x, y = roc(model, trials.where(trials.count == count))
            axes.plot(100 * x, 100 * y, label=f"{words[name]}, {count} reference{'s' if count > 1 else ''}")
    axes.axvline(100 * FALSE_ALARMS, color="k", linestyle=":")
    axes.set(
        xlabel="right references suspected, %", ylabel="wrong references noticed, %", xlim=(0, 20), ylim=(50, 100.5)
    )
    save_figure(figure, axes, path)


def markdown(values: Mapping[str, Any]) -> str:
    """The rates as tables."""
    lines = []
    for name, parts in values["test"].items():
        named = {"all": parts["all"]} | {f"{k} reference(s)": v for k, v in parts["references"].items()}
        for label, r in (named | {f"{k} % hidden": v for k, v in parts["coverage"].items()}).items():
            exact = f"{100 * r['detected_at_exact_rate']:.1f} %"
            lines.append([name, label, percent(r["detected"]), percent(r["false_alarms"]), exact, r["trials"]])
    head = ("encoders", "trials of", "noticed", "false alarms", "noticed at exactly 5 %", "trials")
    text, lines = [*markdown_table(head, lines), ""], []
    for r in values["outliers"]:
        shares = (percent(r[name]) for name in ("exactly_the_stranger_left_out", "warned"))
        lines.append([r["encoder"], r["own"], r["strangers"], *shares, r["trials"]])
    head = ("encoder", "photos of the person", "strangers", "only the stranger left out", "warned", "trials")
    return "\n".join([*text, *markdown_table(head, lines)]) + "\n"


def run(args: argparse.Namespace) -> None:
    """Measures what is missing, fits on validation people, scores test people, writes OUTPUT and prints the tables."""
    import idinpaint

    judge = load_judge(args.data, args.metric_weights)
    restorer = idinpaint.Restorer.from_pretrained(args.model, device=args.device)
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
    write_json(args.output / "wrong_reference.json", values)
    write_text(args.output / "wrong_reference.md", markdown(values))
    write_plot(models, vectors["test"], args.output / "wrong_reference.png")
    print(markdown(values))


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the tables. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--output", "--metric-weights", "--model", "--device")
    parser.add_argument("--masks", type=int, default=2, help="damages a validation photo")
    parser.add_argument("--photos", type=int, default=72, help="validation photos, 0: all")
    parser.add_argument("--test-photos", type=int, default=200, help="test photos, 0: all")
    parser.add_argument("--test-damaged", type=int, default=0, help="of them with a damage, 0: all")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
