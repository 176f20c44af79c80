"""Collect trained parts into a model folder: fp16 safetensors, the pipeline, and weights.json with every sha256.

python training/export_bundle.py --landmarks F --parsing F --identity F --pipeline DIR --threshold T [--output DIR]
    [--gan NAME=GENERATOR_DIR]... [--damage F [F...] --damage-threshold T]

--gan or --damage alone, `--gan NAME=GENERATOR_DIR [--output DIR]`, adds to a model folder that is there.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from checkpoints import cast, save_state, written
from safetensors.torch import load_file

from idinpaint.models.damage_net import DamageNet
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.gan import SYSTEMS
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.weights import BUNDLED, sha256_of


def add_generators(named: list[str], folder: Path) -> None:
    """Copy each NAME=GENERATOR_DIR into FOLDER/gan/NAME, fp16."""
    for item in named:
        name, _, source = item.partition("=")
        if name not in SYSTEMS or not (Path(source) / "config.json").is_file():
            raise SystemExit(f"--gan {item}: write NAME=GENERATOR_DIR, NAME one of {', '.join(SYSTEMS)}")
        SYSTEMS[name].from_pretrained(source).half().save_pretrained(folder / "gan" / name, safe_serialization=True)


def mean_of(sources: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of files of weights, fp32: of a phase and the one before it, where each is better at something
    (Wortsman et al. 2022)."""
    states = [load_file(source) for source in sources]
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}


def add_finder(sources: list[Path] | None, threshold: float | None, folder: Path) -> dict[str, dict]:
    """Copy the network that finds damage, fp16, into FOLDER; of several files their mean. Returns its entry for
    write_manifest, empty without."""
    if not sources:
        return {}
    if threshold is None or not 0 < threshold < 1:
        raise SystemExit("--damage wants --damage-threshold, between 0 and 1")
    return add_network("damage", DamageNet(), mean_of(sources), folder, {"threshold": threshold})


def add_network(
    name: str, net: torch.nn.Module, state: dict[str, torch.Tensor], folder: Path, more: dict[str, float | None]
) -> dict[str, dict]:
    """Write the weights of a network, fp16, into FOLDER; returns its entry for write_manifest, with `more` in it."""
    net.load_state_dict(state)
    save_state(cast(state, torch.float16), folder / f"{name}.safetensors")
    return {f"{name}.safetensors": {"config": {**net.config, **more}}}


def write_manifest(folder: Path, before: dict[str, dict]) -> None:
    """weights.json of all files in the folder; their `config` is taken over from `before`."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("weights.json")):
        key = path.relative_to(folder).as_posix()
        files[key] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        if "config" in before.get(key, {}):
            files[key]["config"] = before[key]["config"]
    with written(folder / "weights.json") as temporary:
        temporary.write_text(json.dumps({"files": files}, indent=1) + "\n")
    print(f"{folder}: {sum(f['bytes'] for f in files.values()) / 1e6:.1f} MB in {len(files)} files")


def main() -> None:
    """Write the folder beside its place, then swap it in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("landmarks", "parsing", "identity", "pipeline"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--threshold", type=float, help="cosine from which two faces are one person")
    parser.add_argument("--gan", action="append", default=[], metavar="NAME=GENERATOR_DIR")
    parser.add_argument("--damage", type=Path, nargs="+", help="the network that finds damage; of several the mean")
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
    with written(arguments.output) as staging:
        staging.mkdir()
        entries = {}  # configs of the files without a config.json beside them
        for name, net in (("landmarks", FaceMaps(68)), ("parsing", FaceMaps(10)), ("identity", IdentityNet())):
            more = {"threshold": arguments.threshold} if name == "identity" else {}
            entries |= add_network(name, net, load_file(getattr(arguments, name)), staging, more)
        shutil.copytree(arguments.pipeline, staging / "pipeline")
        add_generators(arguments.gan, staging)
        entries |= add_finder(arguments.damage, arguments.damage_threshold, staging)
        write_manifest(staging, entries)


if __name__ == "__main__":
    main()
