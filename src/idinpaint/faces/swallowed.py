"""A hole that swallowed a face whole: nothing of it can be found, so only the hole's size and the photo can tell."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from idinpaint.types import Decision

LEAST_PX = 32  # a face narrower than this cannot be restored anyway
LEAST_SHARE = 0.15  # of the photo's shorter side: the face of a portrait is wider


def swallowing_part(known: np.ndarray, hole: np.ndarray, search: Any) -> np.ndarray | None:
    """[H, W] bool: the connected parts of the hole that may hide the portrait's face; None when it is not so.

    known: uint8 [H, W, 3] with the hole [H, W] zeroed; search: the FaceSearch that found no face under the hole. A
    part counts when a circle of LEAST_PX and LEAST_SHARE fits into it. A face that is visible elsewhere is taken for
    the portrait's: then the hole is background.
    """
    least = max(LEAST_PX, LEAST_SHARE * min(hole.shape))
    inside = np.pad(hole.astype(np.uint8), 1)  # beyond the photo nothing is hidden
    wide = 2 * cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1] >= least
    if not wide.any() or search.locate(known):
        return None
    _, labels = cv2.connectedComponents(hole.astype(np.uint8), connectivity=8)
    return np.isin(labels, np.unique(labels[wide]))


def abstained(decision: Decision, force: bool) -> Decision:
    """The decision for such a hole in place of `decision`, the one without a face; force: filled all the same."""
    strategy = decision.strategy if force else "abstain"
    reason = (
        "no face is visible, and the hole is large enough to hide one: say where it is with --face-box x,y,w,h, or "
        "fill the hole as background with --strategy telea"
    )
    if force:
        reason = f"forced by the user: {reason}"
    return Decision(
        strategy, "face-not-visible", reason, decision.face_coverage, decision.hole_ratio, force, decision.numbers
    )
