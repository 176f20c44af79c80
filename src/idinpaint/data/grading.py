"""Contact sheets for people who grade pictures without knowing what made them, and what they gave."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from idinpaint.types import InputError

TILE = 236  # px
ROWS, COLUMNS = 5, 4  # of a sheet
# What a grader is told: would a stranger believe that this is a photo of a real mouth, nose, eye or pair of eyes?
# 3: yes, nothing odd; 2: yes, a tiny oddness; 1: doubtful, a careful viewer would notice; 0: no, it looks wrong.
# Feature -> the landmarks of each of its parts.
PARTS = {
    "mouth": (range(48, 60),),
    "nose": (range(27, 36),),
    "eye": (range(36, 42),),
    "eyes": (range(36, 42), range(42, 48)),
}


def tile(crop: np.ndarray, points: np.ndarray, kind: str) -> np.ndarray:
    """uint8 [TILE, TILE, 3] round a feature of PARTS of a crop [256, 256, 3] with landmarks [68, 2]."""
    middle = points[[i for part in PARTS[kind] for i in part]].mean(0)
    eyes = float(np.hypot(*(points[42:48].mean(0) - points[36:42].mean(0))))
    half = (1.2 if kind == "eyes" else 1.0) * max(eyes, 40.0)
    box = (*(middle - half), *(middle + half))
    return np.asarray(Image.fromarray(crop).transform((TILE, TILE), Image.EXTENT, box, Image.BICUBIC))


def write_sheets(rows: Sequence[Sequence[tuple[list[Any], np.ndarray]]], output: Path) -> int:
    """000.png, ... of ROWS rows each, their tiles numbered; plan.json, which graders do not see: [sheet, tile, *label]
    a tile; kinds.json, which they do: the label's first entry of each row. rows: up to COLUMNS (label, picture)."""
    output.mkdir(parents=True, exist_ok=True)
    plan, kinds = [], {}
    for start in range(0, len(rows), ROWS):
        sheet, lines = f"{start // ROWS:03d}", []
        for line, row in enumerate(rows[start : start + ROWS]):
            pictures = [picture.copy() for _, picture in row]
            for column, (label, _) in enumerate(row):
                number = line * COLUMNS + column
                cv2.putText(pictures[column], str(number), (4, 18), 0, 0.55, (255, 255, 0), 1, cv2.LINE_AA)
                plan.append([sheet, number, *label])
            pictures += [np.zeros((TILE, TILE, 3), np.uint8)] * (COLUMNS - len(row))
            lines.append(np.concatenate(pictures, 1))
            kinds.setdefault(sheet, []).append(row[0][0][0])
        Image.fromarray(np.concatenate(lines)).save(output / f"{sheet}.png")
    (output / "plan.json").write_text(json.dumps(plan))
    (output / "kinds.json").write_text(json.dumps(kinds))
    return len(kinds)


def read_grades(folder: Path, files: Sequence[Path]) -> Iterator[tuple[list[Any], int, int]]:
    """(label, grader, grade) of every tile that a grader gave a digit. files: one a grader, {"000": "2013-...", ...}, a
    character a tile. InputError for another form."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    for grader, path in enumerate(files):
        try:
            given = {str(k): str(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f'{path}: no grades; write {{"000": "2013", ...}}, a digit a tile') from error
        for sheet, number, *label in plan:
            mark = given.get(sheet, "")[number : number + 1]
            if mark.isdigit():
                yield label, grader, int(mark)
