"""The values that travel between the modules.

Shape legend, used in every docstring: B batch, H and W pixels, K = 68 landmarks (iBUG order),
D identity dimensions, T identity tokens, C channels. Networks take RGB in [-1, 1], NCHW; photos are
uint8 HWC RGB; a mask is 1 (True, white) where pixels are to be filled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from idinpaint.strategies import UNPAINTED

PICKED = "picked by hand"  # the reason of a candidate that the user chose
CROP_SIZE = 256  # px, side of the aligned face crop (FFHQ-style)
LUMA = (0.299, 0.587, 0.114)  # brightness of R, G, B (ITU-R BT.601)
NUM_LANDMARKS = 68  # iBUG-68 order

# Facial features whose coverage the controller reads; "left" and "right" are the picture's sides.
FEATURES = ("left_eye", "right_eye", "left_brow", "right_brow", "nose", "mouth", "skin")
# Share of each feature in the face's coverage; they add up to 1. Eyes carry most of a person's identity.
FEATURE_WEIGHTS = {
    "left_eye": 0.20,
    "right_eye": 0.20,
    "left_brow": 0.06,
    "right_brow": 0.06,
    "nose": 0.14,
    "mouth": 0.18,
    "skin": 0.16,
}


class InputError(ValueError):
    """Bad input from the user: one line that names the file, the problem and the way out. The CLI exits with 2."""


@dataclass(frozen=True)
class FaceAnalysis:
    """What is known of one face, from known pixels only.

    box: (x, y, w, h) in photo px. crop_to_photo: [2, 3] affine map from crop px to photo px.
    crop: [256, 256, 3] uint8 RGB with the hole zeroed; crop_mask: [256, 256] bool, True = hole.
    landmarks: [68, 2] (x, y) in crop px; landmark_confidence: [68] in [0, 1].
    regions: feature name (FEATURES and "hair") -> [256, 256] bool, the hidden part estimated.
    coverage: feature name -> masked share in [0, 1]; face_coverage: their weighted mean in [0, 1].
    id_embed: [D] unit vector of the visible part, or None when too little of the face is visible.
    coverage_interval: 5th and 95th percentile of face_coverage when the landmarks move by their own error.
    labels: [256, 256] uint8 parsing classes, the hidden part estimated; None without a parser.
    """

    box: tuple[float, float, float, float]
    crop_to_photo: np.ndarray
    crop: np.ndarray
    crop_mask: np.ndarray
    landmarks: np.ndarray
    landmark_confidence: np.ndarray
    regions: dict[str, np.ndarray]
    coverage: dict[str, float]
    face_coverage: float
    id_embed: np.ndarray | None
    coverage_interval: tuple[float, float] | None = None
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class RestoreOptions:
    """How a photo is restored; Restorer.__call__ says what each means."""

    strategy: str = "auto"
    num_samples: int = 4
    steps: int | None = None
    seed: int = 0
    force: bool = False
    max_coverage: float | None = None
    reference_pixels: bool = True
    grain: str = "auto"


@dataclass(frozen=True)
class Decision:
    """The controller's choice.

    strategy: a name of strategies.py; rule: the row that fired;
    numbers: what it was decided from; unless_verified: deliver this strategy instead when the painted face is not
    verified against the references; instead_of: the strategy that the ladder names and the model lacks; overrides:
    what the user set.
    """

    strategy: str
    rule: str
    reason: str
    face_coverage: float
    hole_ratio: float
    forced: bool = False
    numbers: dict[str, float] = field(default_factory=dict)
    unless_verified: str | None = None
    instead_of: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def paints_no_face(self) -> bool:
        """Whether the face is left as a hole, marked or only toned: the result counts as abstained."""
        return self.strategy in UNPAINTED


@dataclass(frozen=True)
class Candidate:
    """One filled face crop, [256, 256, 3] uint8, known pixels kept. identity_similarity in [-1, 1] or None.

    seam: step across the hole's edge over that of its surroundings; landmark_shift: per cent of the outer eye
    distance; reason: why it has its rank. See ranking.py. shown: names of the reference photos that the network looked
    at while it painted this one: none of them can testify that it shows the person. looked: the
    Believability of its hidden features, None where nobody looked. painter: the network, where it is not the
    decided one. apart: mean distance from the candidates' mean inside the hole, grey levels.
    """

    image: np.ndarray
    seed: int
    identity_similarity: float | None = None
    seam: float | None = None
    landmark_shift: float | None = None
    reason: str = ""
    shown: tuple[str, ...] = ()
    looked: Any = None
    painter: str | None = None
    apart: float | None = None

    @property
    def believable(self) -> float | None:
        """The worst of its hidden features over its limit: 1 and more looks like a person; None: nothing to look at."""
        return None if self.looked is None else self.looked.worst


@dataclass(frozen=True)
class Restoration:
    """The result for one photo.

    image: [H, W, 3] uint8 RGB, equal to the input outside the mask.
    candidates: per face, best first. decision: the most cautious decision over the faces (or the
    background's). report: JSON-ready dict. invented: [H, W] uint8, how much the candidates disagree about each
    pixel (0 outside the mask, and where nothing was painted twice), None when no face was painted twice. look:
    the PrintLook (tint and grain) that was given to the fill. picked: the delivered candidate's number in the ranking.
    """

    image: np.ndarray
    candidates: list[list[Candidate]]
    decision: Decision
    report: dict[str, Any] = field(default_factory=dict)
    faces: list[FaceAnalysis] = field(default_factory=list)
    invented: np.ndarray | None = None
    look: Any = None
    picked: int = 1

    @property
    def abstained(self) -> bool:
        return self.decision.paints_no_face
