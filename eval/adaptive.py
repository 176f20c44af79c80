"""On test people: do the stated probabilities hold, what does adapting bring, what does abstaining save.

    python eval/adaptive.py --data DATA --output runs/adaptive --metric-weights DIR [--set images=240]
    python eval/adaptive.py ... --part 1/2 & python eval/adaptive.py ... --part 2/2 & wait   # then the first line

The thresholds and curves are those of --calibration (the shipped one by default), fitted on other people. Writes
OUTPUT/rows*.csv (as eval/calibrate.py; the same command resumes), adaptive.json, adaptive.md and two plots. PROTOCOL.md
says how the numbers are made. About 0.4 s of CPU an image and method, with 11 methods an image.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from calibrate import part_of, prepare
from calibration_fit import calibration_error, column, side_of
from calibration_rows import CalibrationConfig, Row, Workplace, plan_cases, run_rows
from data_folder import add_data
from estimates import estimate, resample_weights

from idinpaint.config import load_config
from idinpaint.judging.calibration import Calibration, load_calibration
from idinpaint.report.reporting import to_plain
from idinpaint.types import InputError

FORCED = ("telea", "gan", "diffusion", "diffusion+ref2")
NATURAL = ("telea", "prior", "gan", "diffusion", "diffusion+ref2", "auto", "auto+ref2")
ABSTAINED = ("abstain", "colorize")  # strategies that paint no face
BINS = 10  # of the reliability diagram, of equal count
SHARES = np.round(np.arange(0.0, 0.91, 0.05), 2)  # abstained, in the curve of selective risk


def collect(config: CalibrationConfig, place: Workplace, output: Path, part: tuple[int, int]) -> list[Row]:
    """Rows of the test people: forced strategies on filled coverage bins, all of them and auto on natural masks."""
    rows = []
    for damage, methods in (("features", FORCED), ("natural", NATURAL)):
        kept = tuple(m for m in methods if m in config.methods)
        own = replace(config, split="test", damage=damage, methods=kept)
        rows += run_rows(own, plan_cases(own, place.data), place, output, part)
    return rows


def expected(rows: Sequence[Row], calibration: Calibration) -> np.ndarray:
    """[N] the product's stated probability of acceptance; NaN where it states none."""
    values = []
    for row in rows:
        side = side_of(row["method"]) == "with_references"
        found = calibration.expected_acceptance(row["strategy"], side, float(row["coverage"]), float(row["whole"]))
        values.append(found["probability"] if found else np.nan)
    return np.array(values)


def reliability_row(stated: np.ndarray, accepted: np.ndarray, people: list[str], draws: int) -> dict[str, Any]:
    """ECE with its 95 % interval over people, and what it would be by chance alone were the probabilities right.

    stated, accepted: [N]. points: [stated, accepted, low, high, images] of bins of equal count (diagram).
    """
    counts = resample_weights(people, draws, seed=1).astype(int)
    samples = [calibration_error(np.repeat(stated, c), np.repeat(accepted, c), BINS) for c in counts]
    rng = np.random.default_rng(0)
    chance = [calibration_error(stated, (rng.random(len(stated)) < stated).astype(float), BINS) for _ in range(draws)]
    points = []
    for part in np.array_split(np.argsort(stated, kind="stable"), min(BINS, len(stated))):
        value = estimate(accepted[part], [people[i] for i in part], draws)
        points.append([float(stated[part].mean()), value.value, value.low, value.high, len(part)])
    low, high = np.percentile(samples, [2.5, 97.5])
    return {
        "images": len(stated), "people": len(set(people)),
        "ece": [round(v, 4) for v in (calibration_error(stated, accepted, BINS), float(low), float(high))],
        "ece_by_chance": [round(float(v), 4) for v in (np.mean(chance), np.percentile(chance, 95))],
        "stated_mean": round(float(stated.mean()), 4), "accepted_mean": round(float(accepted.mean()), 4),
        "points": [[round(v, 4) for v in point] for point in points],
    }  # fmt: skip


def reliability(rows: Sequence[Row], calibration: Calibration, threshold: float, draws: int) -> list[dict[str, Any]]:
    """A row for each kind of damage: of all forced strategies, and of each."""
    found = []
    for damage in ("features", "natural"):
        forced = [r for r in rows if r["damage"] == damage and not r["method"].startswith("auto")]
        for method in ("all", *dict.fromkeys(r["method"] for r in forced)):
            own = [r for r in forced if method in ("all", r["method"])]
            stated = expected(own, calibration)
            use = np.isfinite(stated)
            if use.sum() < 2 * BINS:
                continue
            accepted = (column(own, "independent") >= threshold).astype(float)[use]
            people = [r["person"] for r, good in zip(own, use) if good]
            row = reliability_row(stated[use], accepted, people, draws)
            found.append({"damage": damage, "method": method, "without_statement": int((~use).sum()), **row})
    return found


def value_of_adapting(rows: Sequence[Row], threshold: float, draws: int) -> list[dict[str, Any]]:
    """Natural masks: how much each method delivers, how much of that passes for the person, and what it costs."""
    natural, found = [r for r in rows if r["damage"] == "natural"], []
    for method in dict.fromkeys(r["method"] for r in natural):
        own = [r for r in natural if r["method"] == method]
        delivered = np.array([r["strategy"] not in ABSTAINED for r in own])
        accepted = column(own, "independent") >= threshold
        people = [r["person"] for r in own]
        given = [p for p, use in zip(people, delivered) if use]
        values = {
            "delivered": estimate(delivered.astype(float), people, draws),
            "accepted_of_all": estimate((accepted & delivered).astype(float), people, draws),
            "false_of_delivered": estimate((~accepted[delivered]).astype(float), given, draws) if given else None,
        }
        found.append({
            "method": method, "images": len(own), "seconds": round(float(column(own, "seconds").mean()), 3),
            **{k: v and [round(x, 4) for x in (v.value, v.low, v.high)] for k, v in values.items()},
            "strategies": {s: sum(r["strategy"] == s for r in own) for s in dict.fromkeys(r["strategy"] for r in own)},
        })  # fmt: skip
    return found


def selective_risk(rows: Sequence[Row], calibration: Calibration, threshold: float) -> list[dict[str, Any]]:
    """False identity among what is delivered when the least sure share is abstained from, by what sureness is.

    risk: at SHARES; area: mean of the risk over them; without_choice: the risk of delivering everything.
    """
    sureness: dict[str, tuple[str, Callable[[Sequence[Row]], np.ndarray]]] = {
        "expected acceptance": ("diffusion", lambda own: expected(own, calibration)),
        "coverage alone": ("diffusion", lambda own: -column(own, "coverage")),
        "likeness to the visible part": ("diffusion", lambda own: column(own, "visible")),
        "likeness to 2 references": ("diffusion+ref2", lambda own: column(own, "given")),
    }
    found = []
    for name, (method, read) in sureness.items():
        own = [r for r in rows if r["damage"] == "natural" and r["method"] == method]
        if not own:
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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4.6))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    for row in values["reliability"]:
        if row["method"] == "all":
            x, y, low, high, _ = np.array(row["points"]).T
            spread = np.clip(np.nan_to_num([y - low, high - y]), 0, None)
            label = f"{row['damage']} masks, ECE {row['ece'][0]:.3f}"
            axes.errorbar(x, y, yerr=spread, marker="o", capsize=2, label=label)
    axes.set(xlabel="stated probability of acceptance", ylabel="accepted, test people")
    second, right = plt.subplots(figsize=(5, 4.2))
    for row in values["selective_risk"]:
        right.plot(100 * np.array(row["abstained"]), 100 * np.array(row["risk"]), label=row["sureness"])
    for row in values["value"]:
        if row["method"].startswith("auto") and row["false_of_delivered"]:
            point = (100 * (1 - row["delivered"][0]), 100 * row["false_of_delivered"][0])
            right.plot(*point, marker="*", markersize=11, linestyle="", label=row["method"])
    right.set(xlabel="abstained, %", ylabel="false identity among the delivered, %")
    for name, (page, plot) in {"reliability": (figure, axes), "selective_risk": (second, right)}.items():
        if plot.get_legend_handles_labels()[0]:
            plot.legend(fontsize=8)
        page.tight_layout()
        page.savefig(output / f"{name}.png", dpi=110)
    plt.close("all")


def markdown(values: Mapping[str, Any]) -> str:
    """The three results as tables."""

    def cell(value: Sequence[float] | None) -> str:
        return "-" if value is None else f"{100 * value[0]:.1f} % [{100 * value[1]:.1f}, {100 * value[2]:.1f}]"

    lines = ["| damage | method | ECE [95 %] | by chance, 95th percentile | stated | accepted | images | people |"]
    lines.append("|---" * 8 + "|")
    for r in values["reliability"]:
        ece = f"{r['ece'][0]:.3f} [{r['ece'][1]:.3f}, {r['ece'][2]:.3f}]"
        lines.append(
            f"| {r['damage']} | {r['method']} | {ece} | {r['ece_by_chance'][1]:.3f} | {r['stated_mean']:.3f} "
            f"| {r['accepted_mean']:.3f} | {r['images']} | {r['people']} |"
        )
    lines += ["", "| method | delivered | the person, of all | false, of the delivered | s/image | strategies |"]
    lines.append("|---" * 6 + "|")
    for r in values["value"]:
        strategies = ", ".join(f"{name} {count}" for name, count in r["strategies"].items())
        lines.append(f"| {r['method']} | {cell(r['delivered'])} | {cell(r['accepted_of_all'])} | "
                     f"{cell(r['false_of_delivered'])} | {r['seconds']:.2f} | {strategies} |")  # fmt: skip
    shown = (0, 2, 4, 8, 12)
    lines += ["", "| sureness | " + " | ".join(f"{100 * SHARES[i]:.0f} % abstained" for i in shown) + " | area |"]
    lines.append("|---" * (len(shown) + 2) + "|")
    for r in values["selective_risk"]:
        risks = " | ".join(f"{100 * r['risk'][i]:.1f} %" for i in shown)
        lines.append(f"| {r['sureness']} | {risks} | {100 * r['area']:.2f} % |")
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Collects what is missing and scores it; None for a part."""
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
        return None
    threshold = float(entry["threshold"])
    values = {
        "calibration": calibration.values["made"], "threshold": threshold,
        "reliability": reliability(rows, calibration, threshold, config.bootstrap),
        "value": value_of_adapting(rows, threshold, config.bootstrap),
        "selective_risk": selective_risk(rows, calibration, threshold),
    }  # fmt: skip
    (args.output / "adaptive.json").write_text(json.dumps(to_plain(values), indent=1) + "\n", encoding="utf-8")
    (args.output / "adaptive.md").write_text(markdown(values), encoding="utf-8")
    write_plots(values, args.output)
    return values


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the tables. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data(parser)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric-weights", type=Path, help="folder with SFace; default: metric_weights/ by the data")
    parser.add_argument("--calibration", type=Path, help="calibration.json; default: the one that ships")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--part", type=part_of, metavar="I/N", help="rows only, of every N-th image")
    args = parser.parse_args(argv)
    try:
        values = run(args)
    except InputError as error:
        print(f"adaptive: {error}", file=sys.stderr)
        return 2
    if values:
        print(markdown(values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
