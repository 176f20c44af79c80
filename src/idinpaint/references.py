"""Reference photos: read, embedded, and checked against each other and against the visible part of the face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from idinpaint.types import FaceAnalysis, InputError
from idinpaint.verify import similarity


@dataclass(frozen=True)
class References:
    """embeds: [D] unit vectors, one a photo; mean: their normalised mean [D]; notices in words."""

    embeds: list[np.ndarray]
    mean: np.ndarray | None
    notices: list[str]


def read_references(analyzer: Any, photos: Sequence[tuple[str, np.ndarray]], threshold: float) -> References:
    """photos: (name, [H, W, 3] uint8 RGB). Raises InputError for a photo without a readable face.

    Of several faces the largest is taken, with a notice; photos that disagree among themselves are named.
    """
    embeds: list[np.ndarray] = []
    notices: list[str] = []
    for name, rgb in photos:
        faces = [f for f in analyzer.analyze(rgb, None) if f.id_embed is not None]
        if not faces:
            raise InputError(f"{name}: no face found in the reference photo; give one that shows the person's face")
        if len(faces) > 1:
            notices.append(
                f"{name}: {len(faces)} faces in the reference photo; the largest is taken, crop the photo if wrong"
            )
        embeds.append(faces[0].id_embed)
    for index, embed in enumerate(embeds):
        others = [e for i, e in enumerate(embeds) if i != index]
        if others:
            value = similarity(embed, np.mean(others, axis=0))
            if value < threshold:
                name = photos[index][0]
                notices.append(f"{name}: unlike the other reference photos (similarity {value:.2f}); another person?")
    mean = None
    if embeds:
        mean = np.mean(embeds, axis=0)
        mean = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return References(embeds, mean, notices)


def check_against_face(references: References, face: FaceAnalysis, threshold: float) -> list[str]:
    """A notice when the references are evidently not the person whose visible part was read."""
    if references.mean is None or face.id_embed is None:
        return []
    value = similarity(references.mean, face.id_embed)
    # The visible part of a damaged face says less than a whole face: warn well below the threshold.
    limit = threshold * (1 - face.face_coverage) - 0.05
    if value >= limit:
        return []
    return [f"the reference photos look like another person than the damaged face (similarity {value:.2f}); check them"]
