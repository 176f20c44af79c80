"""One factor at a time: the benchmark run once for each value, in one table.

    python eval/ablate.py steps=1,2,4,8 --method diffusion --data DATA --output runs/ablate-steps
    python eval/ablate.py references=0,1,2,5 ...    also: hole=00-10,10-20,...  num_samples=1,4,16  guidance=1,1.5,3
    python eval/ablate.py model=runs/a/pipeline,runs/b/pipeline ...             any two models
    python eval/ablate.py losses=all=runs/all/pipeline,no-identity=runs/b/pipeline ...   the same training less a loss
    python eval/ablate.py losses=pdgan=runs/gan-pdgan/generator,both=runs/gan-both/generator ...
    python eval/ablate.py trained=RUNS ...          all that training/ablate_diffusion.py trained in RUNS

Each value is a run of its own, OUTPUT/FACTOR-VALUE, and resumes as the benchmark does. `trained` scores the variants of
configs/ablation-diffusion.yaml in one step with one sample, one trained without identity without it, 20 images a bin
unless --set says otherwise; of several seeds the table has the mean and half their range.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import yaml
from benchmark import run_benchmark
from cases import BenchmarkConfig
from command import parser_of, run_main, write_text
from metrics import heading
from summary import pairs_of, read_summary, summary_cell
from tables import markdown_table

from idinpaint.config import load_config, read_values
from idinpaint.types import InputError

KEYS = {"steps": "steps", "num_samples": "num_samples", "guidance": "guidance", "model": "model"}
TRAINED = "trained"
FACTORS = (*KEYS, "references", "hole", "losses", TRAINED)
SHOWN = ("psnr_hole", "ms_ssim", "lpips_alex", "lpips_vgg", "identity_original", "identity_other", "diversity")
SHOWN += ("seconds",)
SHOWN_TRAINED = ("lpips_alex", "psnr_hole", "identity_original", "landmark_error")
TRAINED_SETTINGS = ('bins=["10-20", "20-30", "30-40"]', "max_images=20", "num_samples=1")
GRID = Path(__file__).resolve().parents[1] / "configs" / "ablation-diffusion.yaml"


def config_for(base: BenchmarkConfig, method: str, factor: str, value: str) -> BenchmarkConfig:
    """The benchmark's config with one factor set. Raises InputError for an unknown factor or a bad value."""
    if factor not in FACTORS:
        raise InputError(f"{factor}: choose one of {', '.join(FACTORS)}")
    if factor == "references":
        if not value.isdigit():
            raise InputError(f"references={value}: a number of photos, 0 to 5")
        return replace(base, methods=(method if value == "0" else f"{method}+ref{value}",))
    if factor in ("losses", TRAINED):
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
    guidance = 0.0 if name.startswith("no-identity-") and name[12:].isdigit() else base.guidance
    return replace(base, methods=(method,), model=folder, guidance=guidance)


def trained(folder: Path) -> list[str]:
    """VARIANT-SEED=PIPELINE of every finished training, in the grid's order. Raises InputError when there is none."""
    grid = [phase["name"] for phase in read_values(GRID)["phases"]]
    found = [path.parent for path in folder.glob("*/pipeline/model_index.json")]
    runs = [(path, *path.parent.name.rpartition("-")[::2]) for path in found]
    runs = [(int(seed), grid.index(name), path) for path, name, seed in runs if name in grid and seed.isdigit()]
    if not runs:
        raise InputError(f"{folder}: no VARIANT-SEED/pipeline there; run training/ablate_diffusion.py first")
    return [f"{path.parent.name}={path}" for _, _, path in sorted(runs)]


def table(factor: str, runs: Mapping[str, Sequence[Path]]) -> list[str]:
    """Markdown: a line a value and bin, mean [95 % interval], or the mean over several runs ± half their range."""
    shown, lines = SHOWN_TRAINED if factor == TRAINED else SHOWN, []
    for value, folders in runs.items():
        summaries = [read_summary(folder) for folder in folders]
        for bin_name, method in pairs_of(summaries[0]):
            cells = [summary_cell(summaries[0], (bin_name, method, m)) for m in shown]
            if len(folders) > 1:
                means = {m: [s["mean"].xs((bin_name, m), level=[0, 2]).iloc[0] for s in summaries] for m in shown}
                cells = [
                    f"{np.mean(v):.{heading(m)[1]}f} ± {np.ptp(v) / 2:.{heading(m)[1]}f}" for m, v in means.items()
                ]
            lines.append([value if len(folders) == 1 else f"{value} ({len(folders)} seeds)", bin_name, *cells])
    return markdown_table([factor, "hole", *(heading(m)[0] for m in shown)], lines)


def run(args: argparse.Namespace) -> None:
    """All values, then OUTPUT/table.md."""
    factor, _, values = args.factor.partition("=")
    defaults = TRAINED_SETTINGS if factor == TRAINED else ()
    base = load_config(BenchmarkConfig, args.config, [*defaults, *args.overrides])
    chosen = trained(Path(values)) if factor == TRAINED and values else [v for v in values.split(",") if v]
    planned = [(v, config_for(base, args.method, factor, v)) for v in chosen]
    if not planned:
        raise InputError(f"{args.factor}: write it as FACTOR=VALUE,VALUE")
    runs: dict[str, list[Path]] = {}
    for value, config in planned:
        name = value.partition("=")[0]
        folder = args.output / f"{factor}-{quote(name, safe='')}"
        run_benchmark(config, args.data, folder, args.metric_weights, {})
        runs.setdefault(name.rpartition("-")[0] if factor == TRAINED else name, []).append(folder)
    text = "\n".join(table(factor, runs)) + "\n"
    write_text(args.output / "table.md", text)
    print(text)


def main(argv: list[str] | None = None) -> int:
    """Parse, run all values, write and print OUTPUT/table.md. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--output", "--metric-weights", "--set")
    parser.add_argument("factor", metavar="FACTOR=VALUE,VALUE")
    parser.add_argument("--method", default="diffusion")
    parser.add_argument("--config", type=Path, help="YAML of the keys of BenchmarkConfig: everything else")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
