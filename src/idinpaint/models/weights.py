"""The weight store: bundled with the package, else a local folder, else a checked download.

A model folder holds `weights.json`: {"files": {"landmarks.safetensors": {"sha256": ..., "config": {...}}, ...}}
beside the files. `IDINPAINT_WEIGHTS` may name a further folder where optional files (YuNet, ONNX packs) lie.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idinpaint.types import InputError

BUNDLED = Path(__file__).parents[1] / "weights_bundled"
# Optional files that a user may fetch: name -> (address, sha256, licence).
DOWNLOADS = {
    "face_detection_yunet_2023mar.onnx": (
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        "MIT",
    ),
    "face_recognition_sface_2021dec.onnx": (
        "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/face_recognition_sface_2021dec.onnx",
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        "Apache-2.0",
    ),
}
LOADED = (".json", ".safetensors")  # of a folder in diffusers' layout; nothing else is read
SFACE_FILE = "face_recognition_sface_2021dec.onnx"
FAN_FILE = "2DFAN4-11f355bf06.pth.tar"
DOWNLOADS[FAN_FILE] = (  # the published name carries the first digits of its sha256
    f"https://www.adrianbulat.com/downloads/python-fan/{FAN_FILE}",
    "11f355bf06",
    "BSD-3-Clause",
)
# What `idinpaint download` calls them.
SHORT_NAMES = {"yunet": "face_detection_yunet_2023mar.onnx", "sface": SFACE_FILE, "2dfan": FAN_FILE}


@dataclass(frozen=True)
class WeightEntry:
    """One file of the manifest as it is on disk; ok is False when its sha256 differs or it is missing."""

    name: str
    path: Path
    bytes: int
    sha256: str
    ok: bool


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def user_folder() -> Path:
    """Where downloads and optional files lie: $IDINPAINT_WEIGHTS or ~/.cache/idinpaint."""
    return Path(os.environ.get("IDINPAINT_WEIGHTS") or os.path.expanduser("~/.cache/idinpaint"))


class WeightStore:
    """Find, check and load weights. folder: a model folder; the bundled one by default."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else BUNDLED
        manifest = self.folder / "weights.json"
        if not manifest.is_file():
            raise InputError(f"{self.folder}: no weights.json there; give a model folder or leave out --model")
        try:
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            if not all(isinstance(entry["sha256"], str) for entry in files.values()):
                raise TypeError("a sha256 that is no text")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{manifest}: not a weights manifest ({error}); restore the file") from error
        self.manifest: dict[str, dict[str, Any]] = files
        self._agrees: set[str] = set()  # names whose sha256 was taken: a file is read through once

    def entries(self) -> Iterator[WeightEntry]:
        """Every file of the manifest, with its state on disk."""
        for name, wanted in self.manifest.items():
            path = self.folder / name
            digest = sha256_of(path) if path.is_file() else ""
            size = path.stat().st_size if path.is_file() else 0
            yield WeightEntry(name, path, size, digest, digest == wanted["sha256"])

    def find(self, filename: str) -> Path | None:
        """Path of an optional file in the model folder, the user's or the package's own; None when it is in none."""
        for folder in dict.fromkeys((self.folder, user_folder(), BUNDLED)):
            path = folder / filename
            if os.path.isfile(path):  # False too where a service may not look into a home
                if filename in DOWNLOADS and not is_published(path):
                    raise InputError(f"{path}: sha256 differs from the published file; delete it and fetch it again")
                return path
        return None

    def load(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """(config, state dict in float32) of one manifest file. Raises InputError when missing or changed."""
        import torch
        from safetensors.torch import load_file

        path = self.checked(name)
        try:
            state = load_file(path)
        except Exception as error:  # safetensors has its own kind for each damage
            raise InputError(f"{path}: cannot be read ({first_line(error)}); restore the file") from error
        check_finite(state, path)
        state = {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in state.items()}
        return dict(self.manifest[name].get("config", {})), state

    def checked(self, name: str) -> Path:
        """Path of a manifest file whose sha256 agrees. Raises InputError otherwise."""
        if name not in self.manifest:
            raise InputError(f"{self.folder}: has no {name}; its weights.json lists {', '.join(self.manifest)}")
        path = self.folder / name
        if not path.is_file():
            raise InputError(f"{path}: missing; install the package again, or restore the file")
        if name not in self._agrees and sha256_of(path) != self.manifest[name]["sha256"]:
            raise InputError(f"{path}: sha256 differs from weights.json; the file is damaged or not the released one")
        self._agrees.add(name)
        return path


def first_line(error: BaseException) -> str:
    """An error's text, or its kind, for a line of our own."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def check_finite(state: Mapping[str, Any], path: Path) -> None:
    """InputError when any of the tensors holds NaN or infinity: such a network paints noise and says nothing."""
    for name, values in state.items():
        if not values.is_floating_point() or not values.numel():
            continue
        least, most = values.aminmax()  # NaN where any is; a quarter of the time of looking at each
        if not bool(least.isfinite() & most.isfinite()):
            raise InputError(f"{path}: {name} holds values that are no finite numbers; restore the file")


def hashes(folder: Path, name: str) -> dict[str, str]:
    """NAME/path in the folder -> sha256 of every file that a loader in diffusers' layout reads."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in LOADED and path.is_file())
    return {f"{name}/{path.relative_to(folder).as_posix()}": sha256_of(path) for path in files}


def is_published(path: Path) -> bool:
    """Whether a file of DOWNLOADS has the published sha256, or begins with as much of it as was published."""
    return sha256_of(path).startswith(DOWNLOADS[path.name][1])


def download_path(filename: str) -> Path:
    """Where a file of DOWNLOADS belongs: the user's folder, or where the library that reads it looks."""
    if filename == FAN_FILE:
        home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
        return Path(home).expanduser() / "hub" / "checkpoints" / filename
    return user_folder() / filename


def download(filename: str, target: Path | None = None) -> Path:
    """Fetch an optional file to its place, checked before it is kept. Raises InputError on failure."""
    import http.client
    import urllib.request

    address = DOWNLOADS[filename][0]
    target = target or download_path(filename)
    temporary = target.parent / ".part" / filename
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(address, timeout=30) as source, open(temporary, "wb") as file:  # noqa: S310
                shutil.copyfileobj(source, file)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise InputError(f"{filename}: cannot be fetched ({reason}); put {address} into {target.parent}") from error
        if not is_published(temporary):
            raise InputError(f"{filename}: sha256 of what {address} gives differs; nothing was kept")
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)
    return target


def run_download(names: Sequence[str]) -> int:
    """`idinpaint download [NAME]...`: every optional file that is missing, or those named. Returns the exit status."""
    if unknown := [name for name in names if name not in SHORT_NAMES]:
        raise InputError(f"{unknown[0]}: nothing of that name to fetch; use {', '.join(SHORT_NAMES)}")
    failed = False
    for name in names or SHORT_NAMES:
        filename = SHORT_NAMES[name]
        target = download_path(filename)
        if target.is_file() and is_published(target):
            print(f"{name}: there already, {target}")
            continue
        try:
            print(f"{name}: {download(filename)}", flush=True)
        except InputError as error:
            print(f"idinpaint: error: {name}: {error}", file=sys.stderr)
            failed = True
    return 2 if failed else 0
