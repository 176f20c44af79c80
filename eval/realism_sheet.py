"""Contact sheets of restored faces, to be looked at one by one. Never commit them: they show the data sets' people."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
from methods import given_face_box, readable
from pictures import write_png
from PIL import Image, ImageDraw
from realism_cases import CORNER, KINDS, Case, plan_cases

import idinpaint
from idinpaint.data.photos import load_landmarks
from idinpaint.types import InputError

FACES, CORNERS, PER_SHEET = 24, 8, 8
REFERENCES = 3
FACE = (slice(56, 240), slice(40, 216))  # rows and columns of an aligned crop that hold the face
ZOOM = 2
STRIP = 16  # px, the line of text over a row


def chosen(args: argparse.Namespace) -> list[Case]:
    """FACES faces with whole features hidden and CORNERS torn corners."""
    points = load_landmarks(args.data)
    cases = list(plan_cases(args.data, points, len(KINDS) * CORNERS, args.seed))
    corners = [case for case in cases if case.bin == CORNER]
    return [case for case in cases if case.bin != CORNER][:FACES] + corners[:CORNERS]


def paint(restorer, case: Case, method: str, args: argparse.Namespace) -> np.ndarray:
    """The delivered photo, as `idinpaint restore --force --strategy` makes it."""
    strategy, _, extra = method.partition("+ref")
    references = readable(restorer, case.references, int(extra or 0))
    return restorer(
        case.masked, case.mask, references=references, strategy=strategy, num_samples=args.samples,
        steps=args.steps, seed=case.seed, force=True, face_box=given_face_box(),
    ).image  # fmt: skip


def enlarged(picture: np.ndarray, whole: bool) -> np.ndarray:
    """The face (or the whole crop), ZOOM times as large."""
    part = picture if whole else picture[FACE]
    return cv2.resize(np.ascontiguousarray(part), None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)


def write_sheets(args: argparse.Namespace) -> list[Path]:
    """OUTPUT/sheet-faces-1.png ... and sheet-corners-1.png, a row a face: masked, every model and method, original.

    Each picture also alone, in OUTPUT/pictures/faces and corners.
    """
    methods = [m for m in args.methods if "+ref" in m or m == "diffusion"] or args.methods
    if not any("+ref" in m for m in methods):
        methods = [*methods, f"{methods[-1]}+ref{REFERENCES}"]
    restorers = {name: idinpaint.Restorer.from_pretrained(name) for name in args.model}
    if len({Path(name).name for name in restorers}) < len(restorers):
        raise InputError("--model: two models of one name; the sheet names a column by the folder's last part")
    rows: dict[str, list[np.ndarray]] = {"faces": [], "corners": []}
    for case in chosen(args):
        corner = case.bin == CORNER
        columns = {"masked": case.masked}
        used = [m for m in methods if not (corner and "+ref" in m)]
        for (name, restorer), method in itertools.product(restorers.items(), used):
            columns[f"{Path(name).name} {method}"] = paint(restorer, case, method, args)
        columns["original"] = case.photo
        save_pictures(args.output / "pictures" / ("corners" if corner else "faces"), case, columns)
        rows["corners" if corner else "faces"].append(row_of(case, columns, corner))
    paths = []
    for name, drawn in rows.items():
        for number in range(0, len(drawn), PER_SHEET):
            paths.append(args.output / f"sheet-{name}-{number // PER_SHEET + 1}.png")
            write_png(paths[-1], np.vstack(drawn[number : number + PER_SHEET]))
    return paths


def save_pictures(folder: Path, case: Case, columns: dict[str, np.ndarray]) -> None:
    """FOLDER/COLUMN/CASE.png: what `eval/study.py make --pictures FOLDER` makes a blind study of."""
    for name, picture in columns.items():
        write_png(folder / name / f"{case.id}.png", picture)


def row_of(case: Case, columns: dict[str, np.ndarray], whole: bool) -> np.ndarray:
    """uint8 [H, W, 3]: a strip with the names, the pictures under it."""
    pictures = [enlarged(picture, whole) for picture in columns.values()]
    body = np.hstack(pictures)
    strip = Image.new("RGB", (body.shape[1], STRIP), "white")
    draw, width = ImageDraw.Draw(strip), pictures[0].shape[1]
    for index, name in enumerate(columns):
        draw.text((index * width + 4, 2), f"{case.id}: {name}" if index == 0 else name, fill="black")
    return np.vstack([np.asarray(strip), body])
