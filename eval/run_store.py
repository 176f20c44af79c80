"""Rows that a run keeps and takes up again: CSV and JSON lines, features beside them, parts of several processes."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from metrics import SCORED
from slices import CASE_COLUMNS

from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

KEYS = ("method", "bin", "index", "person", "photo", "mask")
COLUMNS = (*KEYS, "hole_ratio", *CASE_COLUMNS, *SCORED, "decision", "others")
ORIGINALS = "originals"  # the untouched photos' features
SAVE_EVERY = 15.0  # seconds: what an interruption may cost

Row = dict[str, str]
Features = dict[str, dict[str, np.ndarray]]  # case or photo -> "inception" [2048], "sface" [128] (zeros: no face)


def read_rows(path: Path) -> list[Row]:
    """Whole rows of a CSV that may end in the middle of a line (the run was interrupted)."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        text = file.read()
    return [row for row in csv.DictReader(text[: text.rfind("\n") + 1].splitlines()) if None not in row.values()]


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


def as_text(row: Mapping[str, object]) -> Row:
    """A row as its line of the CSV has it: floats with six decimals."""
    return {k: f"{v:.6f}" if isinstance(v, float) else str(v) for k, v in row.items()}


def write_rows(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """All rows, through a temporary file."""
    table = pd.DataFrame(list(rows), columns=list(columns))
    write_atomic(path, lambda file: file.write(table.to_csv(index=False, lineterminator="\n", na_rep="nan").encode()))


class RowFile:
    """A CSV that is appended to row by row; whole rows of these columns that are there are kept."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        write_rows(path, [row for row in read_rows(path) if tuple(row) == tuple(columns)], columns)

    def add(self, row: Mapping[str, object]) -> Row:
        """Write a row at once; returns it as text."""
        text = as_text(row)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow([text[name] for name in self.columns])
        return text


def more_lines(
    path: Path, count: int, minutes: float, begin: Callable[[], Callable[[int], dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The first `count` records of a file of JSON lines, those that it lacks made and kept one by one for some minutes.

    begin: called when any is missing; gives the function from a record's number to the record.
    """
    end = time.monotonic() + 60 * minutes
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    make = begin() if len(records) < count else None
    while len(records) < count and time.monotonic() < end:
        records.append(make(len(records)))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(records[-1]) + "\n")
    return records[:count]


class RunFolder:
    """The rows and features of a run that are there, and those that come; one process's part of them."""

    columns: Sequence[str] = COLUMNS

    def __init__(self, folder: Path, kinds: Sequence[str] = ()) -> None:
        """Rows without features of all `kinds` count as missing. Raises InputError for other columns."""
        self.folder, self._changed = folder, set()
        self.features: dict[str, Features] = {ORIGINALS: read_features(self.feature_file(ORIGINALS))}
        self.rows: dict[tuple, Row] = {}
        for row in read_rows(folder / "rows.csv"):
            if set(row) != set(self.columns):
                raise InputError(f"{folder}/rows.csv: other columns than this version writes; choose another --output")
            if self.whole(row, kinds):
                self.rows[self.key_of(row)] = row
        self._saved = time.monotonic()

    @staticmethod
    def key_of(row: Mapping[str, str]) -> tuple:
        """What makes a row: its method first."""
        return row["method"], row["bin"], int(row["index"])

    def whole(self, row: Row, kinds: Sequence[str]) -> bool:
        """Whether the row's features are there."""
        method, bin_name, index = self.key_of(row)
        return set(kinds) <= self.of(method).get(f"{bin_name}_{index:04d}", {}).keys()

    def feature_file(self, name: str) -> Path:
        """Where the features of a method (or ORIGINALS) lie."""
        return self.folder / "features" / f"{quote(name, safe='+')}.npz"

    def of(self, method: str) -> Features:
        """The method's features by case."""
        if method not in self.features:
            self.features[method] = read_features(self.feature_file(method))
        return self.features[method]

    def add(self, row: Mapping[str, object], case: str, features: dict[str, np.ndarray]) -> None:
        """Keep a picture's row and features; written every SAVE_EVERY seconds and by `save`."""
        text = as_text(row)
        key = self.key_of(text)
        self.rows[key] = text
        self.of(key[0])[case] = features
        self._changed |= {key[0], ORIGINALS}
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Features first: a row is only ever there with its features."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self._changed:
            if self.features.get(name):
                write_features(self.feature_file(name), self.features[name])
        write_rows(self.folder / "rows.csv", self.rows.values(), self.columns)
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
