"""Ablation of the diffusion recipe: a training without each condition and each loss, all over the same examples.

    python training/ablate_diffusion.py --config configs/ablation-diffusion.yaml --output runs/ablation
        [--seeds 1,2,3] [--set key=value]...

Writes OUTPUT/VARIANT-SEED/pipeline; the same command goes on where it was stopped. The examples are those of the first
seed; a further seed changes the init, the order and the noise. eval/ablate_training.py scores what is there.
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

from idinpaint.types import NUM_LANDMARKS, InputError

VARIANTS: dict[str, dict[str, float]] = {
    "all": {},
    "no-heatmaps": {"drop_heatmaps": 1.0},
    "no-identity": {"drop_identity": 1.0},
    "no-skin-loss": {"skin_weight": 0.0},
    "no-heatmap-loss": {"heatmap_weight": 0.0},
    "no-identity-loss": {"identity_weight": 0.0},
}


def order(seeds: list[int]) -> Iterator[tuple[str, int]]:
    """All variants at the first seed, then `all` at the others (how far chance alone goes), then the rest."""
    yield from ((name, seeds[0]) for name in VARIANTS)
    yield from (("all", seed) for seed in seeds[1:])
    yield from ((name, seed) for seed in seeds[1:] for name in VARIANTS if name != "all")


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
        base = replace(load_phases(DiffusionConfig, args.config, args.overrides)[0].config, seed=args.seeds[0])
        base.prepare()
        pool = None
        for name, seed in order(args.seeds):
            folder = args.output / f"{name}-{seed}"
            if (folder / "pipeline" / "model_index.json").is_file():
                continue
            pool = pool or make_pool(base)
            print(f"ablation: {folder}", flush=True)
            train_one(replace(base, **VARIANTS[name], seed=seed, output_dir=str(folder)), pool)
            if name == "no-heatmaps":
                silence_heatmaps(folder / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    except InputError as error:
        print(f"ablate_diffusion: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
