"""The reverse of export_bundle.py: a model folder's parts as the files that a further training phase starts from.

python training/import_bundle.py [--model DIR] --output runs/bundle

Writes landmarks, parsing, identity, prior, autoencoder, denoiser, refiner and each generator (.safetensors, fp16 as
shipped).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from checkpoints import save_state, written
from safetensors.torch import load_file

from idinpaint.models.weights import BUNDLED

WEIGHTS = "diffusion_pytorch_model.safetensors"
DENOISER = ("unet", "id_tokens", "autoencoder")  # one module while they are trained, see train_diffusion.Denoiser


def prefixed(parts: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One state dict of several, each under its name."""
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def main() -> None:
    """Write every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    sources = {name: arguments.model / f"{name}.safetensors" for name in ("landmarks", "parsing", "identity")}
    sources |= {name: arguments.model / "pipeline" / name / WEIGHTS for name in ("prior", "autoencoder")}
    sources |= {path.parent.name: path for path in arguments.model.glob(f"gan/*/{WEIGHTS}")}
    sources |= {path.parent.name: path for path in arguments.model.glob(f"pipeline/refiner/{WEIGHTS}")}
    for name, source in sources.items():
        with written(arguments.output / f"{name}.safetensors") as temporary:
            shutil.copyfile(source, temporary)
    pipeline = arguments.model / "pipeline"
    denoiser = prefixed({name: load_file(pipeline / name / WEIGHTS) for name in DENOISER})
    if (pipeline / "reference_encoder" / WEIGHTS).is_file():  # of train_painters.py, whose layout this is
        encoder = load_file(pipeline / "reference_encoder" / WEIGHTS)
        both = {"prior": load_file(pipeline / "prior" / WEIGHTS), "reference_encoder": encoder}
        save_state(prefixed(both), arguments.output / "prior.safetensors")
        heads = {key: value for key, value in encoder.items() if key.startswith(("to_input", "to_blocks"))}
        index = json.loads((pipeline / "model_index.json").read_text(encoding="utf-8"))
        denoiser |= {**prefixed({"reference_heads": heads}), "residual_std": torch.tensor(index["residual_std"])}
    save_state(denoiser, arguments.output / "denoiser.safetensors")
    print(f"{arguments.output}: {', '.join(sorted([*sources, 'denoiser']))}")


if __name__ == "__main__":
    main()
