"""On test people: do the stated probabilities hold, what does adapting bring, what does abstaining save.

    python eval/adaptive.py --data DATA --output runs/adaptive --metric-weights DIR [--set images=240]
    python eval/adaptive.py ... --part 1/2 & python eval/adaptive.py ... --part 2/2 & wait   # then the first line

The thresholds and curves are those of --calibration (the shipped one by default), fitted on other people. Writes
OUTPUT/rows*.csv (as eval/calibrate.py; the same command resumes), adaptive.json, adaptive.md and two plots. PROTOCOL.md
says how the numbers are made. About 0.4 s of CPU an image and method, with 11 methods an image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from calibrate import prepare
from calibration_fit import calibration_error, side_of
from calibration_rows import CalibrationConfig, Workplace, plan_cases, run_rows
from command import parser_of, run_main, write_json, write_text
from estimates import Estimate, estimate, interval, resample_weights
from tables import column, frame, markdown_table, percent, pyplot, save_figure, spread

from idinpaint.config import load_config
from idinpaint.judging.calibration import Calibration, load_calibration
from idinpaint.report.reporting import to_plain
from idinpaint.types import InputError

FORCED = ("telea", "gan", "diffusion", "diffusion+ref2")
NATURAL = ("telea", "prior", "gan", "diffusion", "diffusion+ref2", "auto", "auto+ref2")
ABSTAINED = ("abstain", "colorize")  # strategies that paint no face
BINS = 10  # of the reliability diagram, of equal count
SHARES = np.round(np.arange(0.0, 0.91, 0.05), 2)  # abstained, in the curve of selective risk


def collect(config: CalibrationConfig, place: Workplace, output: Path, part: tuple[int, int]) -> pd.DataFrame:
    """Rows of the test people: forced strategies on filled coverage bins, all of them and auto on natural masks."""
    rows = []
    for damage, methods in (("features", FORCED), ("natural", NATURAL)):
        kept = tuple(m for m in methods if m in config.methods)
        own = replace(config, split="test", damage=damage, methods=kept)
        rows += run_rows(own, plan_cases(own, place.data), place, output, part)
    return frame(rows)


def expected(rows: pd.DataFrame, calibration: Calibration) -> np.ndarray:
    """[N] the product's stated probability of acceptance; NaN where it states none."""
    values = []
    for method, *given in zip(*(rows[name] for name in ("method", "strategy", "coverage", "whole"))):
        side = side_of(method) == "with_references"
        found = calibration.expected_acceptance(given[0], side, *given[1:])
        values.append(found["probability"] if found else np.nan)
    return np.array(values)


def reliability_row(stated: np.ndarray, accepted: np.ndarray, people: pd.Series, draws: int) -> dict[str, Any]:
    """ECE with its 95 % interval over people, and what it would be by chance alone were the probabilities right.

    stated, accepted: [N]. points: [stated, accepted, low, high, images] of bins of equal count (diagram).
    """
    counts = resample_weights(people, draws, seed=1).astype(int)
    samples = [calibration_error(np.repeat(stated, c), np.repeat(accepted, c), BINS) for c in counts]
    rng = np.random.default_rng(0)
    chance = [calibration_error(stated, (rng.random(len(stated)) < stated).astype(float), BINS) for _ in range(draws)]
    points = []
    for part in np.array_split(np.argsort(stated, kind="stable"), min(BINS, len(stated))):
        value = estimate(accepted[part], people.iloc[part], draws)
        points.append([float(stated[part].mean()), *value, len(part)])
    ece = interval(np.array(samples), calibration_error(stated, accepted, BINS))
    return {
        "images": len(stated), "people": people.nunique(),
        "ece": ece.rounded(),
        "ece_by_chance": [round(float(v), 4) for v in (np.mean(chance), np.percentile(chance, 95))],
        "stated_mean": round(float(stated.mean()), 4), "accepted_mean": round(float(accepted.mean()), 4),
        "points": [[round(v, 4) for v in point] for point in points],
    }  # fmt: skip


def reliability(rows: pd.DataFrame, calibration: Calibration, threshold: float, draws: int) -> list[dict[str, Any]]:
    """A row for each kind of damage: of all forced strategies, and of each."""
    found = []
    for damage in ("features", "natural"):
        forced = rows[(rows["damage"] == damage) & ~rows["method"].str.startswith("auto")]
        for method in ("all", *forced["method"].unique()):
            own = forced if method == "all" else forced[forced["method"] == method]
            stated = expected(own, calibration)
            use = np.isfinite(stated)
            if use.sum() < 2 * BINS:
                continue
            accepted = (column(own, "independent") >= threshold).astype(float)[use]
            row = reliability_row(stated[use], accepted, own["person"][use], draws)
            found.append({"damage": damage, "method": method, "without_statement": int((~use).sum()), **row})
    return found


def value_of_adapting(rows: pd.DataFrame, threshold: float, draws: int) -> list[dict[str, Any]]:
    """Natural masks: how much each method delivers, how much of that passes for the person, and what it costs."""
    found = []
    for method, own in rows[rows["damage"] == "natural"].groupby("method", sort=False):
        delivered, people = ~own["strategy"].isin(ABSTAINED).to_numpy(), own["person"]
        accepted, given = column(own, "independent") >= threshold, people[delivered]
        values = {
            "delivered": estimate(delivered.astype(float), people, draws),
            "accepted_of_all": estimate((accepted & delivered).astype(float), people, draws),
            "false_of_delivered": estimate((~accepted[delivered]).astype(float), given, draws) if len(given) else None,
        }
        found.append({
            "method": method, "images": len(own), "seconds": round(float(column(own, "seconds").mean()), 3),
            **{k: v and v.rounded() for k, v in values.items()},
            "strategies": own["strategy"].value_counts(sort=False).to_dict(),
        })  # fmt: skip
    return found


def selective_risk(rows: pd.DataFrame, calibration: Calibration, threshold: float) -> list[dict[str, Any]]:
    """False identity among what is delivered when the least sure share is abstained from, by what sureness is.

    risk: at SHARES; area: mean of the risk over them; without_choice: the risk of delivering everything.
    """
    sureness: dict[str, tuple[str, Callable[[pd.DataFrame], np.ndarray]]] = {
        "expected acceptance": ("diffusion", lambda own: expected(own, calibration)),
        "coverage alone": ("diffusion", lambda own: -column(own, "coverage")),
        "likeness to the visible part": ("diffusion", lambda own: column(own, "visible")),
        "likeness to 2 references": ("diffusion+ref2", lambda own: column(own, "given")),
    }
    found = []
    for name, (method, read) in sureness.items():
        own = rows[(rows["damage"] == "natural") & (rows["method"] == method)]
        if own.empty:
            continue
        sure = np.nan_to_num(read(own), nan=-1.0)  # nothing to go by: abstain from it first
        wrong = (column(own, "independent") < threshold)[np.argsort(sure, kind="stable")]
        risk = [float(wrong[min(round(share * len(own)), len(own) - 1) :].mean()) for share in SHARES]
        found.append({
            "sureness": name, "method": method, "images": len(own), "abstained": SHARES.tolist(),
            "risk": [round(v, 4) for v in risk], "area": round(float(np.mean(risk)), 4),
            "without_choice": round(risk[0], 4),
        })  # fmt: skip
    return found


def write_plots(values: Mapping[str, Any], output: Path) -> None:
    """reliability.png and selective_risk.png."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5, 4.6))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for row in values["reliability"]:
        if row["method"] == "all":
            x, y, low, high, _ = np.array(row["points"]).T
            label = f"{row['damage']} masks, ECE {row['ece'][0]:.3f}"
            axes.errorbar(x, y, yerr=spread(y, low, high), marker="o", capsize=2, label=label)
    axes.set(xlabel="stated probability of acceptance", ylabel="accepted, test people")
    second, right = plt.subplots(figsize=(5, 4.2))
    for row in values["selective_risk"]:
        right.plot(100 * np.array(row["abstained"]), 100 * np.array(row["risk"]), label=row["sureness"])
    for row in values["value"]:
        if row["method"].startswith("auto") and row["false_of_delivered"]:
            point = (100 * (1 - row["delivered"][0]), 100 * row["false_of_delivered"][0])
            right.plot(*point, marker="*", markersize=11, linestyle="", label=row["method"])
    right.set(xlabel="abstained, %", ylabel="false identity among the delivered, %")
    save_figure(figure, axes, output / "reliability.png")
    save_figure(second, right, output / "selective_risk.png")


def markdown(values: Mapping[str, Any]) -> str:
    """The three results as tables."""
    lines = []
    for r in values["reliability"]:
        numbers = (f"{Estimate(*r['ece']):.3f}", *(f"{v:.3f}" for v in (r["ece_by_chance"][1], r["stated_mean"])))
        lines.append([r["damage"], r["method"], *numbers, f"{r['accepted_mean']:.3f}", r["images"], r["people"]])
    head = ("damage", "method", "ECE [95 %]", "by chance, 95th percentile", "stated", "accepted", "images", "people")
    text = [*markdown_table(head, lines), ""]
    lines = []
    for r in values["value"]:
        strategies = ", ".join(f"{name} {count}" for name, count in r["strategies"].items())
        shares = (percent(r[name]) for name in ("delivered", "accepted_of_all", "false_of_delivered"))
        lines.append([r["method"], *shares, f"{r['seconds']:.2f}", strategies])
    head = ("method", "delivered", "the person, of all", "false, of the delivered", "s/image", "strategies")
    text += [*markdown_table(head, lines), ""]
    shown = (0, 2, 4, 8, 12)
    lines = [
        [r["sureness"], *(f"{100 * r['risk'][i]:.1f} %" for i in shown), f"{100 * r['area']:.2f} %"]
        for r in values["selective_risk"]
    ]
    head = ("sureness", *(f"{100 * SHARES[i]:.0f} % abstained" for i in shown), "area")
    return "\n".join([*text, *markdown_table(head, lines)]) + "\n"


def run(args: argparse.Namespace) -> None:
    """Collects what is missing, scores it, writes and prints the tables; of a part the rows only."""
    config = load_config(CalibrationConfig, None, ["images=240", *args.overrides])
    methods = tuple(dict.fromkeys((*FORCED, *NATURAL)))
    calibration = load_calibration(args.calibration)
    config, place = prepare(replace(config, methods=methods), args.data, args.metric_weights, calibration)
    entry = calibration and calibration.encoder("sface", place.encoder.sha256)
    if not entry:
        raise InputError("no calibration of SFace; run eval/calibrate.py and name its file with --calibration")
    args.output.mkdir(parents=True, exist_ok=True)
    rows = collect(config, place, args.output, args.part or (1, 1))
    if args.part:
        return
    threshold = float(entry["threshold"])
    values = {
        "calibration": calibration.values["made"], "threshold": threshold,
        "reliability": reliability(rows, calibration, threshold, config.bootstrap),
        "value": value_of_adapting(rows, threshold, config.bootstrap),
        "selective_risk": selective_risk(rows, calibration, threshold),
    }  # fmt: skip
    write_json(args.output / "adaptive.json", to_plain(values))
    write_text(args.output / "adaptive.md", markdown(values))
    write_plots(values, args.output)
    print(markdown(values))


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the tables. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--output", "--metric-weights", "--set", "--part")
    parser.add_argument("--calibration", type=Path, help="calibration.json; default: the one that ships")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
