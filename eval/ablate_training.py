"""Scores what training/ablate_diffusion.py trained: one step, one sample, on unseen people, by share of hole.

    python eval/ablate_training.py RUNS --data DATA [--images 20] [--metric-weights DIR]

RUNS holds VARIANT-SEED/pipeline folders. Writes RUNS/bench-VARIANT-SEED (which resume) and RUNS/table.md. A variant
that was trained without identity is scored without.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from benchmark import run_benchmark
from cases import BenchmarkConfig
from command import add_data
from summary import heading

from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

BINS = ("10-20", "20-30", "30-40")
SHOWN = ("lpips_alex", "psnr_hole", "identity_original", "landmark_error")
ORDER = ("all", "no-heatmaps", "no-identity", "no-skin-loss", "no-heatmap-loss", "no-identity-loss")
Results = Mapping[tuple[str, int], Sequence[Mapping[str, str]]]


def trained(folder: Path) -> list[tuple[str, int]]:
    """(variant, seed) of every finished training in the folder. Raises InputError when there is none."""
    found = [path.parent.parent.name.rpartition("-") for path in folder.glob("*/pipeline/model_index.json")]
    runs = [(name, int(seed)) for name, _, seed in found if name in ORDER and seed.isdigit()]
    if not runs:
        raise InputError(f"{folder}: no VARIANT-SEED/pipeline there; run training/ablate_diffusion.py first")
    return sorted(runs, key=lambda run: (run[1], ORDER.index(run[0])))


def score(name: str, model: Path, output: Path, args: argparse.Namespace) -> list[dict[str, str]]:
    """The benchmark's rows of one trained variant."""
    config = BenchmarkConfig(
        methods=("diffusion",), bins=BINS, max_images=args.images, num_samples=1, model=str(model),
        guidance=0.0 if name == "no-identity" else None,  # 0: the prediction without identity
    )  # fmt: skip
    run_benchmark(config, args.data, output, args.metric_weights, {})
    with (output / "rows.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def means(rows: Sequence[Mapping[str, str]], bin_name: str | None) -> dict[str, float]:
    """Mean of every shown metric over a bin, or over all rows."""
    chosen = [row for row in rows if bin_name in (None, row["bin"])]
    return {metric: float(np.nanmean([float(row[metric]) for row in chosen])) for metric in SHOWN}


def table(results: Results) -> str:
    """Markdown: a line a bin and variant, mean over seeds (and half their range where there are several)."""
    lines = [f"| hole (%) | variant | seeds | {' | '.join(heading(m)[0] for m in SHOWN)} |"]
    lines.append("|---" * (3 + len(SHOWN)) + "|")
    for bin_name in (*BINS, None):
        for name in dict.fromkeys(variant for variant, _ in results):
            found = [means(rows, bin_name) for (variant, _), rows in results.items() if variant == name]
            cells = []
            for metric in SHOWN:
                values, decimals = [f[metric] for f in found], heading(metric)[1]
                spread = f" ± {(max(values) - min(values)) / 2:.{decimals}f}" if len(values) > 1 else ""
                cells.append(f"{np.mean(values):.{decimals}f}{spread}")
            lines.append(f"| {bin_name or 'all'} | {name} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Score every training, write and print the table. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    add_data(parser)
    parser.add_argument("--images", type=int, default=20, help="test cases a bin of hole")
    parser.add_argument("--metric-weights", type=Path)
    args = parser.parse_args(argv)
    try:
        results = {}
        for name, seed in trained(args.runs):
            run = f"{name}-{seed}"
            results[name, seed] = score(name, args.runs / run / "pipeline", args.runs / f"bench-{run}", args)
    except InputError as error:
        print(f"ablate_training: {error}", file=sys.stderr)
        return 2
    text = table(results)
    write_atomic(args.runs / "table.md", lambda file: file.write(text.encode()))
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
