"""`idinpaint doctor`: versions, devices, weights and optional backends, each with how to get it."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata

from idinpaint import __version__
from idinpaint.types import InputError

REQUIRED = {
    "torch": "pip install torch",
    "diffusers": "pip install diffusers",
    "safetensors": "pip install safetensors",
    "numpy": "pip install numpy",
    "pillow": "pip install pillow",
    "opencv-contrib-python-headless": "pip install opencv-contrib-python-headless",
    "pyyaml": "pip install pyyaml",
}
# What it brings, the module that shows it is there, how to get it.
OPTIONAL = {
    "insightface": ("a stronger identity encoder", "insightface", "pip install 'idinpaint[insightface]'"),
    "face-alignment": ("2DFAN landmarks", "face_alignment", "pip install 'idinpaint[face-alignment]'"),
    "pillow-heif": ("HEIC photos", "pillow_heif", "pip install 'idinpaint[heif]'"),
    "c2pa-python": ("signed Content Credentials", "c2pa", "pip install 'idinpaint[c2pa]'"),
}
# What it brings; the file is weights.SHORT_NAMES'.
FILES = {"yunet": "a better face detector", "sface": "an independent judge of identity"}


def report() -> tuple[list[str], bool]:
    """(lines to print, whether everything required is there and intact)."""
    lines = [f"idinpaint {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    parts = [_packages(), _devices(), _weights(), _backends()]
    for part, _ in parts:
        lines += part
    ok = all(part_ok for _, part_ok in parts)
    lines.append("ready" if ok else "not ready: see the lines marked MISSING or BAD")
    return lines, ok


def _version(name: str) -> str | None:
    for candidate in (name, name.replace("-headless", "")):  # any build of OpenCV will do
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def _packages() -> tuple[list[str], bool]:
    lines, ok = ["packages"], True
    for name, how in REQUIRED.items():
        version = _version(name)
        ok &= version is not None
        lines.append(f"  {name:24} {version or f'MISSING: {how}'}")
    return lines, ok


def _devices() -> tuple[list[str], bool]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return ["devices", f"  MISSING: torch cannot be loaded ({' '.join(str(error).split())})"], False
    lines = ["devices", f"  cpu                      {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        lines.append(f"  cuda:{index}                   {torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    if not torch.cuda.is_available():
        lines.append("  cuda                     none (optional; the CPU is enough for single photos)")
    return lines, True


def _weights() -> tuple[list[str], bool]:
    from idinpaint.models.weights import WeightStore

    try:
        store = WeightStore()
        entries = list(store.entries())
    except (InputError, OSError) as error:
        return ["weights", f"  MISSING: {error}"], False
    lines = [f"weights in {store.folder}"]
    for entry in entries:
        problem = "MISSING" if not entry.path.is_file() else "BAD, sha256 differs"
        state = "ok" if entry.ok else f"{problem}: install idinpaint again"
        lines.append(f"  {entry.name:34} {entry.bytes / 1e6:6.1f} MB  {state}")
    return lines, bool(entries) and all(entry.ok for entry in entries)


def _backends() -> tuple[list[str], bool]:
    """Optional backends never make the verdict bad. A package without its weights is not there yet."""
    lines = ["optional backends"]
    for name, (what, module, how) in OPTIONAL.items():
        there = importlib.util.find_spec(module) is not None
        state = f"there, {_version(name) or 'unknown version'}{_weights_of(name)}" if there else f"not there: {how}"
        lines.append(f"  {name:24} {what}; {state}")
    return [*lines, *(_file(name, what) for name, what in FILES.items())], True


def _weights_of(package: str) -> str:
    """What an installed package still lacks, or where its networks lie."""
    from idinpaint.faces import identity
    from idinpaint.models.weights import FAN_FILE, download_path, is_published

    if package == "insightface":
        packs = sorted(path.name for path in identity.PACKS.glob("*") if any(path.rglob("*.onnx")))
        found = f"packs {', '.join(packs)} in {identity.PACKS}"
        return f"; {found}" if packs else "; WEIGHTS not there: insightface-cli model.download buffalo_l"
    if package == "face-alignment":
        path = download_path(FAN_FILE)
        if not path.is_file():
            return "; WEIGHTS not there: idinpaint download 2dfan"
        return f"; weights {path}" if is_published(path) else f"; WEIGHTS BAD: {path}, idinpaint download 2dfan"
    return ""


def _file(name: str, what: str) -> str:
    from idinpaint.models import weights

    start, file = f"  {name:24} {what}; ", weights.SHORT_NAMES[name]
    try:
        path = weights.WeightStore().find(file)
    except InputError as error:
        return f"{start}{error}"
    if path is not None:
        return f"{start}there, {path}"
    return f"{start}not there: idinpaint download {name}, or put {file} into {weights.user_folder()}"
