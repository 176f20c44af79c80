"""Which reference photos can be held against a face: those that it was not painted after."""

from __future__ import annotations

from collections.abc import Sequence

from idinpaint.faces.likeness import similarity
from idinpaint.faces.references import Reference

COPY = 0.95  # two reference photos as similar as this are one photo


def witnesses(shown: Sequence[str], used: Sequence[Reference]) -> list[int]:
    """Places of the references that the network did not see, nor a copy of them."""
    seen = [item.compared for item in used if item.name in shown]
    others = [(i, item.compared) for i, item in enumerate(used) if item.name not in shown]
    return [i for i, vector in others if all(similarity(vector, v) < COPY for v in seen)]


def testimony(shown: Sequence[str], keep: Sequence[int], used: Sequence[Reference], plain: bool) -> str:
    """What was held against what, in words. plain: there is a candidate that was painted without any photo."""
    if not shown:
        return ""
    if keep:
        rest = "the other was" if len(keep) + 1 == len(used) else "the others were"
        copies = "" if len(keep) + len(shown) == len(used) else " or are copies of what was"
        return f"; by {len(keep)} of {len(used)} photos, {rest} shown to the network{copies}"
    return "; judged on a candidate that was painted without the photo" if plain else "; by what the network saw itself"
