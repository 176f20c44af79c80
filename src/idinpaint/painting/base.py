"""What every inpainter offers; painting/loading.py loads them, by the names of strategies.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class Parts:
    """What a strategy's `load` makes its inpainter from. bundle: loading.bundle.Bundle, with its pipeline; generator:
    folder of the GAN, None without one; device, dtype: of the networks that paint."""

    bundle: Any
    generator: Path | None
    device: str
    dtype: Any

    def has(self, part: str) -> bool:
        """Whether the model has a part: gan, or a folder of the pipeline (one on Stable Diffusion has no prior)."""
        return self.generator is not None if part == "gan" else (self.bundle.pipeline_folder / part).is_dir()


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
