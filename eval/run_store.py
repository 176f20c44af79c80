"""A run's folder: rows.csv (a line a picture) and features/METHOD.npz beside it; parts of several processes merged."""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
from slices import CASE_COLUMNS

from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

KEYS = ("method", "bin", "index", "person", "photo", "mask")
SCORES = ("psnr", "psnr_hole", "ssim", "ssim_hole", "ms_ssim", "ms_ssim_hole", "seam_error")
SCORES += ("lpips_alex", "lpips_alex_hole", "lpips_vgg", "lpips_vgg_hole")
IDENTITY = ("identity_original", "identity_other", "identity_other_ceiling", "landmark_error", "detected")
COST = ("diversity", "decision", "seconds", "peak_mb")
COLUMNS = (*KEYS, "hole_ratio", *CASE_COLUMNS, *SCORES, *IDENTITY, *COST, "others")
ORIGINALS = "originals"  # the untouched photos' features
SAVE_EVERY = 15.0  # seconds: what an interruption may cost

Features = dict[str, dict[str, np.ndarray]]  # case or photo -> "inception" [2048], "sface" [128] (zeros: no face)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Whole rows of a CSV that may end in the middle of a line (the run was interrupted)."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    return [row for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()) if None not in row.values()]


def feature_file(folder: Path, name: str) -> Path:
    """Where the features of a method (or ORIGINALS) lie."""
    return folder / "features" / f"{quote(name, safe='+')}.npz"


def read_features(path: Path) -> Features:
    """Features by name; empty without the file. Raises InputError for one that is no such file."""
    if not path.is_file():
        return {}
    try:
        with np.load(path) as file:
            names, kinds = file["names"], [k for k in file.files if k != "names"]
            tables = {kind: file[kind] for kind in kinds}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path}: not a feature file ({error}); delete it and run again") from error
    return {
        str(name): {k: table[i] for k, table in tables.items() if np.isfinite(table[i]).all()}
        for i, name in enumerate(names)
    }


def write_features(path: Path, features: Features) -> None:
    """One array a kind, a row a name; NaN where a name lacks the kind."""
    kinds = {kind: value.shape for own in features.values() for kind, value in own.items()}
    tables = {
        kind: np.stack([own.get(kind, np.full(shape, np.nan)) for own in features.values()]).astype(np.float32)
        for kind, shape in sorted(kinds.items())
    }
    write_atomic(path, lambda file: np.savez(file, names=np.array(list(features)), **tables))


def write_rows(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """All rows, through a temporary file."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


class RunFolder:
    """The rows and features of a run that are there, and those that come; one process's part of them."""

    def __init__(self, folder: Path, kinds: Sequence[str] = ()) -> None:
        """Rows without features of all `kinds` count as missing. Raises InputError for other columns."""
        self.folder, self._pending, self._changed = folder, [], set()
        self.features: dict[str, Features] = {ORIGINALS: read_features(feature_file(folder, ORIGINALS))}
        self.rows: dict[tuple[str, str, int], dict[str, str]] = {}
        for row in read_rows(folder / "rows.csv"):
            if tuple(row) != COLUMNS:
                raise InputError(f"{folder}/rows.csv: other columns than this version writes; choose another --output")
            key = (row["method"], row["bin"], int(row["index"]))
            own = self.of(row["method"]).get(f"{key[1]}_{key[2]:04d}", {})
            if all(kind in own for kind in kinds):
                self.rows[key] = row
        self._saved = time.monotonic()

    def of(self, method: str) -> Features:
        """The method's features by case."""
        if method not in self.features:
            self.features[method] = read_features(feature_file(self.folder, method))
        return self.features[method]

    def add(self, row: dict[str, object], case: str, features: dict[str, np.ndarray]) -> None:
        """Keep a picture's row and features; written every SAVE_EVERY seconds and by `save`."""
        method = str(row["method"])
        self.rows[method, str(row["bin"]), int(row["index"])] = {
            k: f"{v:.6f}" if isinstance(v, float) else str(v) for k, v in row.items()
        }
        self.of(method)[case] = features
        self._changed |= {method, ORIGINALS}
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Features first: a row is only ever there with its features."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self._changed:
            if self.features.get(name):
                write_features(feature_file(self.folder, name), self.features[name])
        write_rows(self.folder / "rows.csv", self.rows.values())
        self._changed, self._saved = set(), time.monotonic()

    def merge(self, parts: Path, methods: Sequence[str], bins: Sequence[str]) -> None:
        """Take in PARTS/*, which other processes wrote, put the rows in the config's order, save, remove PARTS."""
        for folder in sorted(parts.iterdir()) if parts.is_dir() else []:
            part = RunFolder(folder)
            self.rows |= part.rows
            for name in {ORIGINALS, *(key[0] for key in part.rows)}:
                self.of(name).update(part.of(name))
                self._changed.add(name)
        place = [{name: i for i, name in enumerate(names)} for names in (methods, bins)]
        order = sorted(self.rows, key=lambda k: (place[0].get(k[0], 10**6), place[1].get(k[1], 10**6), k[2]))
        self.rows = {key: self.rows[key] for key in order}
        self.save()
        shutil.rmtree(parts, ignore_errors=True)
