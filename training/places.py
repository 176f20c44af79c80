"""Where a recipe's files lie: relative to where it was started, to the repository, or where networks are kept."""

from __future__ import annotations

import os
from pathlib import Path

from idinpaint.models.weights import user_folder
from idinpaint.types import InputError

REPOSITORY = Path(__file__).resolve().parents[1]
# What a bare file name is looked for in, beside IDINPAINT_WEIGHTS: published networks that losses read.
BUNDLE = "src/idinpaint/weights_bundled"  # from the repository's root; as recipes and config.yaml write it
FETCH = "python eval/fetch_metric_weights.py DIR fetches the public ones; then set IDINPAINT_WEIGHTS=DIR"


def network_folders(data: str | Path | None = None) -> list[Path]:
    """Folders that are searched for a published network by its file name; data: the data folder, IDINPAINT_DATA's."""
    data = Path(data or os.environ.get("IDINPAINT_DATA") or "data").absolute()
    return [user_folder(), data / "models", data.parent / "models", REPOSITORY / "runs" / "metric_weights"]


def find_path(given: str | Path, data: str | Path | None = None) -> Path | None:
    """What a setting names: as it stands, from the repository's root, or a network by its name; None if nowhere."""
    path = Path(given)
    places = [path] if path.is_absolute() else [path, REPOSITORY / path]
    if len(path.parts) == 1:
        places += [folder / path for folder in network_folders(data)]
    return next((place for place in places if place.exists()), None)


def find_file(setting: str, given: str | Path, data: str | Path | None = None) -> Path:
    """`find_path`, or InputError that names the setting and says how to get the file."""
    found = find_path(given, data)
    if found is not None:
        return found
    if len(Path(given).parts) > 1:
        raise InputError(f"{setting}: no such file {given}; check the recipe's paths")
    searched = ", ".join(str(folder) for folder in network_folders(data))
    raise InputError(f"{setting}: {given} is in none of {searched}; {FETCH}, or {setting}=FILE")
