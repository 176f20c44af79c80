"""Collect trained parts into a model folder: fp16 safetensors, the pipeline, and weights.json with every sha256.

python training/export_bundle.py --landmarks F --parsing F --identity F --pipeline DIR --threshold T [--output DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.weights import BUNDLED, sha256_of

OUTPUTS = {"landmarks": 68, "parsing": 10}


def main() -> None:
    """Write the folder beside its place, then swap it in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("landmarks", "parsing", "identity"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--threshold", type=float, required=True, help="cosine from which two faces are one person")
    parser.add_argument("--output", type=Path, default=BUNDLED)
    arguments = parser.parse_args()
    staging = arguments.output.with_name(arguments.output.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    configs: dict[str, dict] = {}
    for name in ("landmarks", "parsing", "identity"):
        state = load_file(getattr(arguments, name))
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        save_file({k: v.contiguous() for k, v in state.items()}, staging / f"{name}.safetensors")
        net = IdentityNet() if name == "identity" else FaceMaps(OUTPUTS[name])
        net.load_state_dict({k: v.to(torch.float32) if v.is_floating_point() else v for k, v in state.items()})
        configs[f"{name}.safetensors"] = dict(net.config)
    configs["identity.safetensors"]["threshold"] = arguments.threshold
    shutil.copytree(arguments.pipeline, staging / "pipeline")
    files = {}
    for path in sorted(p for p in staging.rglob("*") if p.is_file()):
        key = path.relative_to(staging).as_posix()
        files[key] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        if key in configs:
            files[key]["config"] = configs[key]
    (staging / "weights.json").write_text(json.dumps({"files": files}, indent=1) + "\n")
    shutil.rmtree(arguments.output, ignore_errors=True)
    os.replace(staging, arguments.output)
    print(f"{arguments.output}: {sum(f['bytes'] for f in files.values()) / 1e6:.1f} MB in {len(files)} files")


if __name__ == "__main__":
    main()
