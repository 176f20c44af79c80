"""What every inpainter offers; painting/loading.py has them by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from idinpaint.faces.references import Reference
from idinpaint.types import FaceAnalysis, InputError

MOST_PICTURES = 3  # reference photos that a network looks at


@dataclass(frozen=True)
class FillRequest:
    """One face to fill. id_embed: [D] unit vector or None; steps: None leaves the inpainter's own number; references:
    photos of the person whose pixels the network may see."""

    face: FaceAnalysis
    id_embed: np.ndarray | None = None
    num_samples: int = 1
    steps: int | None = None
    seed: int = 0
    references: Sequence[Reference] = ()


class Inpainter(Protocol):
    """Fills the hole of an aligned crop."""

    name: str

    def fill(self, request: FillRequest) -> list[np.ndarray]:
        """num_samples crops [256, 256, 3] uint8, plausible on known pixels too; the caller composites."""


def check_encoder(pipeline: Any, encoder: Any) -> None:
    """Raises InputError when the encoder's vectors are not of the size that the pipeline is conditioned by."""
    wanted, given = getattr(pipeline, "id_dim", None), getattr(encoder, "dim", None)
    if None not in (wanted, given) and wanted != given:
        raise InputError(
            f"this model takes identity vectors of {wanted} numbers, the encoder gives {given}; to verify with "
            f"{encoder.name} name it as --judge, and leave --identity to the encoder that the model was trained with"
        )
