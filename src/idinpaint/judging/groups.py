"""Groups: which reference photo serves which face, where each face is, and what became of all of them in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from idinpaint.faces.likeness import UNCERTAIN_MARGIN, similarity
from idinpaint.faces.possible import place
from idinpaint.faces.references import References, combine
from idinpaint.judging.verification import Verifier, visible_part
from idinpaint.types import FaceAnalysis


def share_out(refs: References, faces: Sequence[FaceAnalysis], verifier: Verifier) -> list[References]:
    """The references of each face, by the judge's identity; one photo may serve none.

    With one face they are all its. With several a photo goes to the face whose visible part it is most like, if it is
    like enough: the threshold, lower by the share of that face that is hidden. What is like none goes to a face too
    hidden to compare with, where there is exactly one.
    """
    if len(faces) <= 1 or not refs.items:
        return [refs for _ in faces]
    readable = [i for i, face in enumerate(faces) if face.id_embed is not None]
    seen = verifier.encoder.embed([visible_part(faces[i]) for i in readable]) if readable else []
    threshold = verifier.threshold()[0]
    blind = [i for i in range(len(faces)) if i not in readable]
    own: list[list[Any]] = [[] for _ in faces]
    for item in refs.items:
        likeness = [similarity(item.compared, vector) for vector in seen]
        best = int(np.argmax(likeness)) if likeness else None
        least = threshold if best is None else threshold * (1 - faces[readable[best]].face_coverage) - UNCERTAIN_MARGIN
        if best is not None and likeness[best] >= least:
            own[readable[best]].append(item)
        elif len(blind) == 1:
            own[blind[0]].append(item)
    visible = {i: vector for i, vector in zip(readable, seen)}
    return [combine(items, threshold, visible.get(i)) for i, items in enumerate(own)]


def names_of(shared: Sequence[References]) -> list[list[str]]:
    """The names of the photos that serve each face."""
    return [[item.name for item in refs.used] for refs in shared]


def face_place(face: FaceAnalysis, shape: tuple[int, int]) -> str:
    """Where a face is, in words: left, 120 px."""
    x, y, w, h = face.box
    return f"{place(x + w / 2, y + h / 2, shape)}, {w:.0f} px"
