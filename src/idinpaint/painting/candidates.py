"""Another candidate than the best-ranked one, picked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from idinpaint.imaging.compositing import composite, paste_crop
from idinpaint.types import PICKED, InputError, Restoration


def with_candidate(restoration: Restoration, rgb: np.ndarray, mask: np.ndarray, number: int) -> Restoration:
    """The restoration with candidate `number` (1 = best-ranked) of every face that has one.

    rgb: uint8 [H, W, 3], the photo; mask: bool [H, W]. Nobody has verified that candidate, and the report says so.
    InputError when there is none of that number.
    """
    most = max((len(made) for made in restoration.candidates), default=0)
    if restoration.abstained or not most:
        raise InputError(f"candidate {number}: no face was painted, so there is none to pick")
    if not 1 <= number <= most:
        raise InputError(f"candidate {number}: there are {most}; name one from 1 to {most}")
    if number == 1:
        return restoration
    image = restoration.image
    for face, made in zip(restoration.faces, restoration.candidates, strict=True):
        if len(made) >= number:
            image = paste_crop(image, mask, made[number - 1].image, face.crop_to_photo)
    if restoration.look is not None:
        image = restoration.look.finish(image, mask & (image != restoration.image).any(axis=-1))
    report: dict[str, Any] = {**restoration.report, "verdict": "not_verified"}
    said = f"candidate {number} was picked by hand; what is said of similarity is about the one that was ranked first"
    report["notices"] = [*report.get("notices", []), said]
    faces = [{**face, "candidates": _first(face["candidates"], number)} for face in report["faces"]]
    for face in faces:
        if face["candidates"]:
            chosen = {**face["candidates"][0], "reason": PICKED}
            face |= {"verification": None, "candidates": [chosen, *face["candidates"][1:]]}
    report["faces"] = faces
    candidates = [_first(made, number) for made in restoration.candidates]
    image = composite(image, rgb, mask)
    return replace(restoration, image=image, candidates=candidates, report=report, picked=number)


def _first(rows: list[Any], number: int) -> list[Any]:
    """The rows with the one of that number in front."""
    return rows if len(rows) < number else [rows[number - 1], *rows[: number - 1], *rows[number:]]
