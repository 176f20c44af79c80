"""Sub-folders of a folder of photos (--recursive): each is planned as a folder of its own, under the same names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from idinpaint.cli.jobs import Job, check_distinct, plan_folder, visible_files
from idinpaint.imaging.formats import is_picture
from idinpaint.types import InputError


def plan_tree(
    images: Path, mask: Path | None, output: Path | None, report: Path | None, picture: Path | None, **sides: Any
) -> tuple[list[Job], list[str]]:
    """As plan_folder, over `images` and its visible sub-folders that hold pictures; links to folders are not followed.

    What is written for images/SUB goes to output/SUB. Masks for it lie in mask/SUB, or beside the photos when mask is
    the folder of the photos itself. InputError when no folder holds a picture, or nothing pairs the masks.
    """
    inputs = sides.pop("inputs", ())
    written = [folder for folder in (output, report, picture, *sides.values()) if folder is not None]
    jobs: list[Job] = []
    notices: list[str] = []
    for folder in _folders(images, [path.resolve() for path in [*written, *([mask] if mask else [])]]):
        sub = folder.relative_to(images)
        masks = mask / sub if mask is not None and mask.is_dir() else mask
        if masks is not None and not masks.exists():
            found = [path for path in visible_files(folder) if is_picture(path)]
            jobs += [Job(path, error=f"{path}: its masks should lie in {masks}, which is not there") for path in found]
            continue
        placed = [None if path is None else path / sub for path in (output, report, picture)]
        there = {name: None if path is None else path / sub for name, path in sides.items()}
        more, said = plan_folder(folder, masks, *placed, inputs=inputs, **there)
        jobs += more
        notices += said
    if not jobs:
        raise InputError(f"{images}: no pictures in this folder or below it")
    check_distinct([job.image for job in jobs], [path for job in jobs for path in job.written])
    return jobs, notices


def _folders(top: Path, apart: list[Path]) -> list[Path]:
    """top and the visible folders below it that hold a picture, by name, without those that are `apart`."""
    found = []
    for name, below, _ in os.walk(top):
        folder = Path(name)
        below[:] = sorted(sub for sub in below if not sub.startswith(".") and (folder / sub).resolve() not in apart)
        if any(is_picture(path) for path in visible_files(folder)):
            found.append(folder)
    return found
