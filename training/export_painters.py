"""Put what train_painters.py wrote into a model folder: pipeline, generator, fp16, every sha256.

python training/export_painters.py runs/painters --output runs/model     a new folder, its faces' networks the bundle's
python training/export_painters.py runs/painters                         into the bundle itself
python training/export_painters.py runs/detail runs/bundle               what is missing in the first, from the second
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from checkpoints import written
from export_bundle import write_manifest
from launching import run_guarded
from painter_stages import PRIOR_SHARE, DiffusionStage, GanStage
from prior_stage import PriorStage

from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.weights import BUNDLED


def make_pipeline(folders: list[Path]) -> IdentityInpaintPipeline:
    """The whole system of prior, denoiser and refiner in the first folder that has them."""
    stage = DiffusionStage(folders)
    base: PriorStage = stage.base[0]
    return IdentityInpaintPipeline(
        stage.unet, stage.scheduler, stage.autoencoder, base.prior, stage.id_tokens,
        [round(float(s), 5) for s in stage.residual_std], base.reference_encoder, PRIOR_SHARE, stage.refiner,
    )  # fmt: skip


def export(folders: list[Path], output: Path) -> None:
    """Write beside the output, then swap it in."""
    before = json.loads((BUNDLED / "weights.json").read_text(encoding="utf-8"))["files"]
    with written(output) as staging:
        shutil.copytree(BUNDLED, staging, ignore=shutil.ignore_patterns("pipeline", "gan"))
        make_pipeline(folders).to(torch.float16).save_pretrained(staging / "pipeline", safe_serialization=True)
        GanStage(folders).generator.half().save_pretrained(staging / "gan" / "pdgan-face", safe_serialization=True)
        write_manifest(staging, before)


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", type=Path, nargs="+", help="of train_painters.py; later ones fill in what is missing"
    )
    parser.add_argument("--output", type=Path, default=BUNDLED)
    args = parser.parse_args()
    export(args.folders, args.output)


if __name__ == "__main__":
    run_guarded(main)
