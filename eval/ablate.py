"""One factor at a time: the benchmark run once for each value, in one table.

    python eval/ablate.py steps=1,2,4,8 --method diffusion --data DATA --output runs/ablate-steps
    python eval/ablate.py references=0,1,2,5 ...    also: hole=00-10,10-20,...  num_samples=1,4,16  guidance=1,1.5,3
    python eval/ablate.py model=runs/a/pipeline,runs/b/pipeline ...             any two models
    python eval/ablate.py losses=all=runs/all/pipeline,no-identity=runs/b/pipeline ...   the same training less a loss
    python eval/ablate.py losses=pdgan=runs/gan-pdgan/generator,both=runs/gan-both/generator ...

Each value is a run of its own, OUTPUT/FACTOR-VALUE, and resumes as the benchmark does.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import yaml
from benchmark import run_benchmark
from cases import BenchmarkConfig
from command import add_data
from summary import heading

from idinpaint.config import load_config
from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

KEYS = {"steps": "steps", "num_samples": "num_samples", "guidance": "guidance", "model": "model"}
FACTORS = (*KEYS, "references", "hole", "losses")
SHOWN = (
    "psnr_hole",
    "ms_ssim",
    "lpips_alex",
    "lpips_vgg",
    "identity_original",
    "identity_other",
    "diversity",
    "seconds",
)


def config_for(base: BenchmarkConfig, method: str, factor: str, value: str) -> BenchmarkConfig:
    """The benchmark's config with one factor set. Raises InputError for an unknown factor or a bad value."""
    if factor not in FACTORS:
        raise InputError(f"{factor}: choose one of {', '.join(FACTORS)}")
    if factor == "references":
        if not value.isdigit():
            raise InputError(f"references={value}: a number of photos, 0 to 5")
        return replace(base, methods=(method if value == "0" else f"{method}+ref{value}",))
    if factor == "losses":
        return losses_config(base, method, value)
    if factor == "hole":
        return replace(base, methods=(method,), bins=(value,))
    text = value if factor == "model" else yaml.safe_load(value)
    checked = load_config(BenchmarkConfig, None, [f"{KEYS[factor]}={yaml.safe_dump(text).splitlines()[0]}"])
    return replace(base, methods=(method,), **{KEYS[factor]: getattr(checked, KEYS[factor])})


def losses_config(base: BenchmarkConfig, method: str, value: str) -> BenchmarkConfig:
    """`NAME=FOLDER`, a model or pipeline folder for `method`, or a generator's folder, which is its own method."""
    name, _, folder = value.partition("=")
    if not folder or not Path(folder).is_dir():
        raise InputError(f"losses={value}: write NAME=FOLDER, the folder of what was trained with those losses")
    if (Path(folder) / "config.json").is_file():
        return replace(base, methods=(name,), gans=(value,))
    return replace(base, methods=(method,), model=folder)


def table(factor: str, runs: Sequence[tuple[str, Path]]) -> str:
    """Markdown: a line a value and bin, mean [95 % interval]."""
    lines = [f"| {factor} | hole | {' | '.join(heading(m)[0] for m in SHOWN)} |", "|---" * (len(SHOWN) + 2) + "|"]
    for value, folder in runs:
        with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
            found = {(r["bin"], r["metric"]): r for r in csv.DictReader(file)}
        for bin_name in dict.fromkeys(key[0] for key in found):
            cells = []
            for metric in SHOWN:
                mean, low, high = (float(found[bin_name, metric][k]) for k in ("mean", "low", "high"))
                d = heading(metric)[1]
                cells.append("-" if mean != mean else f"{mean:.{d}f} [{low:.{d}f}, {high:.{d}f}]")
            lines.append(f"| {value} | {bin_name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Parse, run all values, write and print OUTPUT/table.md. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("factor", metavar="FACTOR=VALUE,VALUE")
    parser.add_argument("--method", default="diffusion")
    parser.add_argument("--config", type=Path, help="YAML of the keys of BenchmarkConfig: everything else")
    add_data(parser)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric-weights", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args(argv)
    try:
        factor, _, values = args.factor.partition("=")
        base = load_config(BenchmarkConfig, args.config, args.overrides)
        planned = [(v, config_for(base, args.method, factor, v)) for v in values.split(",") if v]
        if not planned:
            raise InputError(f"{args.factor}: write it as FACTOR=VALUE,VALUE")
        runs = []
        for value, config in planned:
            name = value.partition("=")[0]
            folder = args.output / f"{factor}-{quote(name, safe='')}"
            run_benchmark(config, args.data, folder, args.metric_weights, {})
            runs.append((name, folder))
        text = table(factor, runs) + "\n"
        write_atomic(args.output / "table.md", lambda file: file.write(text.encode()))
    except InputError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
