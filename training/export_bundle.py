"""Collect trained parts into a model folder: fp16 safetensors, the pipeline, and weights.json with every sha256.

python training/export_bundle.py --landmarks F --parsing F --identity F --pipeline DIR --threshold T [--output DIR]
    [--gan NAME=GENERATOR_DIR]... [--damage F --damage-threshold T]

--gan or --damage alone, `--gan NAME=GENERATOR_DIR [--output DIR]`, adds to a model folder that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from idinpaint.models.damage_net import DamageNet
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.gan import SYSTEMS
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.weights import BUNDLED, sha256_of

OUTPUTS = {"landmarks": 68, "parsing": 10}


def add_generators(named: list[str], folder: Path) -> None:
    """Copy each NAME=GENERATOR_DIR into FOLDER/gan/NAME, fp16."""
    for item in named:
        name, _, source = item.partition("=")
        if name not in SYSTEMS or not (Path(source) / "config.json").is_file():
            raise SystemExit(f"--gan {item}: write NAME=GENERATOR_DIR, NAME one of {', '.join(SYSTEMS)}")
        SYSTEMS[name].from_pretrained(source).half().save_pretrained(folder / "gan" / name, safe_serialization=True)


def add_finder(source: Path | None, threshold: float | None, folder: Path) -> dict[str, dict]:
    """Copy the network that finds damage, fp16, into FOLDER; returns its entry for write_manifest, empty without."""
    if source is None:
        return {}
    if threshold is None or not 0 < threshold < 1:
        raise SystemExit("--damage wants --damage-threshold, between 0 and 1")
    net = DamageNet()
    state = load_file(source)
    net.load_state_dict(state)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}
    save_file(state, folder / "damage.safetensors")
    return {"damage.safetensors": {"config": {**net.config, "threshold": threshold}}}


def write_manifest(folder: Path, before: dict[str, dict]) -> None:
    """weights.json of all files in the folder; their `config` is taken over from `before`."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("weights.json")):
        key = path.relative_to(folder).as_posix()
        files[key] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        if "config" in before.get(key, {}):
            files[key]["config"] = before[key]["config"]
    temporary = folder / "weights.json.tmp"
    temporary.write_text(json.dumps({"files": files}, indent=1) + "\n")
    os.replace(temporary, folder / "weights.json")
    print(f"{folder}: {sum(f['bytes'] for f in files.values()) / 1e6:.1f} MB in {len(files)} files")


def main() -> None:
    """Write the folder beside its place, then swap it in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("landmarks", "parsing", "identity", "pipeline"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--threshold", type=float, help="cosine from which two faces are one person")
    parser.add_argument("--gan", action="append", default=[], metavar="NAME=GENERATOR_DIR")
    parser.add_argument("--damage", type=Path, help="the network that finds damage")
    parser.add_argument("--damage-threshold", type=float, help="share from which a pixel is damage")
    parser.add_argument("--output", type=Path, default=BUNDLED)
    arguments = parser.parse_args()
    wanted = ("landmarks", "parsing", "identity", "pipeline", "threshold")
    given = [name for name in wanted if getattr(arguments, name) is not None]
    if not given and (arguments.gan or arguments.damage):
        add_generators(arguments.gan, arguments.output)
        entry = add_finder(arguments.damage, arguments.damage_threshold, arguments.output)
        write_manifest(arguments.output, json.loads((arguments.output / "weights.json").read_text())["files"] | entry)
        return
    if len(given) < len(wanted):
        parser.error(f"missing --{next(name for name in wanted if name not in given)}")
    staging = arguments.output.with_name(arguments.output.name + ".tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    configs: dict[str, dict] = {}  # of the files without a config.json beside them
    for name in ("landmarks", "parsing", "identity"):
        state = load_file(getattr(arguments, name))
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        save_file({k: v.contiguous() for k, v in state.items()}, staging / f"{name}.safetensors")
        net = IdentityNet() if name == "identity" else FaceMaps(OUTPUTS[name])
        net.load_state_dict({k: v.to(torch.float32) if v.is_floating_point() else v for k, v in state.items()})
        configs[f"{name}.safetensors"] = dict(net.config)
    configs["identity.safetensors"]["threshold"] = arguments.threshold
    shutil.copytree(arguments.pipeline, staging / "pipeline")
    add_generators(arguments.gan, staging)
    entry = add_finder(arguments.damage, arguments.damage_threshold, staging)
    write_manifest(staging, {name: {"config": config} for name, config in configs.items()} | entry)
    shutil.rmtree(arguments.output, ignore_errors=True)
    os.replace(staging, arguments.output)


if __name__ == "__main__":
    main()
