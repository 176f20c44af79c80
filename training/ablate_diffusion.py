"""Ablation of the diffusion recipe: a training without each condition and each loss, all over the same examples.

    python training/ablate_diffusion.py --config configs/ablation-diffusion.yaml --output runs/ablation
        [--seeds 1,2,3] [--set key=value]...

A phase of the config is a variant, with what it lacks. Writes OUTPUT/VARIANT-SEED/pipeline; the same command goes on
where it was stopped. The examples are those of the first seed; a further seed changes the init, the order and the
noise. `eval/ablate.py trained=OUTPUT` scores what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from recipes import load_phases
from safetensors.torch import load_file, save_file
from train_diffusion import DiffusionConfig, make_pool
from train_diffusion import main as train_one

from idinpaint.config import read_values
from idinpaint.types import NUM_LANDMARKS, InputError


def read_grid(path: Path) -> dict[str, dict[str, float]]:
    """Variant -> the settings that differ from the first one's."""
    return {
        phase["name"]: {key: value for key, value in phase.items() if key not in ("name", "init")}
        for phase in read_values(path)["phases"]
    }


def order(names: list[str], seeds: list[int]) -> Iterator[tuple[str, int]]:
    """All variants at the first seed, then the first one at the others (how far chance alone goes), then the rest."""
    yield from ((name, seeds[0]) for name in names)
    yield from ((names[0], seed) for seed in seeds[1:])
    yield from ((name, seed) for seed in seeds[1:] for name in names[1:])


def silence_heatmaps(path: Path) -> None:
    """Zero what reads the heatmaps, which training left at its random start: they then do nothing, as in training."""
    state = load_file(path)
    state["conv_in.weight"][:, -NUM_LANDMARKS:] = 0
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary)
    temporary.replace(path)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", default="1,2", type=lambda text: [int(v) for v in text.split(",")])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args(argv)
    try:
        variants = read_grid(args.config)
        base = replace(load_phases(DiffusionConfig, args.config, args.overrides)[0].config, seed=args.seeds[0])
        base.prepare()
        pool = None
        for name, seed in order(list(variants), args.seeds):
            folder = args.output / f"{name}-{seed}"
            if (folder / "pipeline" / "model_index.json").is_file():
                continue
            pool = pool or make_pool(base)
            print(f"ablation: {folder}", flush=True)
            train_one(replace(base, **variants[name], seed=seed, output_dir=str(folder)), pool)
            if name == "no-heatmaps":
                silence_heatmaps(folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    except InputError as error:
        print(f"ablate_diffusion: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
