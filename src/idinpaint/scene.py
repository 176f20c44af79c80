"""What a restoration knows of its photo before anything is painted, and what has been done so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from idinpaint.faces.possible import Possible, places, wide_notice
from idinpaint.imaging.print_look import PrintLook
from idinpaint.judging.verification import Verification
from idinpaint.types import Candidate, Decision, FaceAnalysis, RestoreOptions

NO_FACE = (
    "no face found under the mask; if it hides one, give --face-box x,y,w,h, since otherwise it is filled as background"
)


@dataclass(frozen=True)
class Scene:
    """What is known before anything is painted. known: uint8 [H, W, 3], the hole [H, W] bool zeroed; swallowed: [H, W]
    bool, parts of the hole that may hide the portrait's face, None where there is no such question."""

    known: np.ndarray
    hole: np.ndarray
    faces: list[FaceAnalysis]
    swallowed: np.ndarray | None
    possible: Possible

    def hidden(self, options: RestoreOptions) -> list[dict[str, Any]]:
        """Places that are left marked, since they may hide a face; none where the user has decided."""
        asked = self.swallowed is None and options.strategy == "auto" and not options.force
        return places(self.possible.marked) if asked else []

    def notices(self) -> list[str]:
        """Of faces that were not found."""
        if self.faces:
            return wide_notice(self.possible, self.hole.shape)
        return [] if self.swallowed is not None or self.possible.marked.any() else [NO_FACE]


@dataclass
class Work:
    """What has been done so far; a decision, candidates and a verification for each face. continued: [H, W] bool, the
    background that texture fills."""

    picture: np.ndarray
    look: PrintLook
    continued: np.ndarray
    decisions: list[Decision] = field(default_factory=list)
    candidates: list[list[Candidate]] = field(default_factory=list)
    verifications: list[Verification] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    hidden: list[dict[str, Any]] = field(default_factory=list)  # places that are left marked
    invented: np.ndarray | None = None

    def add(self, decision: Decision, made: list[Candidate], checked: Verification) -> None:
        """One more face."""
        self.decisions.append(decision)
        self.candidates.append(made)
        self.verifications.append(checked)
