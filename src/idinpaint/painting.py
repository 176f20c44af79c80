"""The candidates for one face: what the network paints, and what photographs of the person can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from idinpaint.compositing import harmonize
from idinpaint.exemplar import exemplars, from_other_half
from idinpaint.inpainters.base import FillRequest, Inpainter
from idinpaint.ranking import rank
from idinpaint.references import References
from idinpaint.types import Candidate, Decision, FaceAnalysis
from idinpaint.verification import Verifier, aligned_crop
from idinpaint.verify import similarity

TAKES_PIXELS = ("gan", "diffusion")  # strategies whose candidates may hold pixels of a photo


@dataclass(frozen=True)
class Painter:
    """Paints one face by the decided strategy. reference_pixels: False keeps pixels of reference photos out."""

    inpainters: Mapping[str, Inpainter]
    landmarker: Any
    verifier: Verifier
    reference_pixels: bool = True
    believer: Any = None

    def __call__(
        self, face: FaceAnalysis, decision: Decision, refs: References, num_samples: int, steps: int | None, seed: int
    ) -> list[Candidate]:
        """Candidates, best first by `ranking.rank`; none where nothing is painted or Telea's fill stays."""
        inpainter = self.inpainters.get(decision.strategy)
        if inpainter is None or decision.strategy == "colorize":
            return []
        embed = refs.mean if refs.mean is not None else face.id_embed
        made = []
        for index, predicted in enumerate(inpainter.fill(FillRequest(face, embed, num_samples, steps, seed))):
            crop = harmonize(predicted, face.crop, face.crop_mask)
            made.append(Candidate(crop, seed + index, self._likeness(face, crop, embed)))
        made = rank(self._looked_at(made, face), face, self.landmarker)
        more = self._photographed(made[0], face, refs, embed) if decision.strategy in TAKES_PIXELS else []
        return rank([*made, *self._looked_at(more, face)], face, self.landmarker) if more else made

    def _looked_at(self, made: list[Candidate], face: FaceAnalysis) -> list[Candidate]:
        """The candidates, each with how believable it is."""
        if self.believer is None:
            return made
        return [replace(c, believable=self.believer(c.image, face).worst) for c in made]

    def _photographed(
        self, best: Candidate, face: FaceAnalysis, refs: References, embed: np.ndarray | None
    ) -> list[Candidate]:
        """From the face's own other half, and from reference photos that the face agrees with; where they fit."""
        made, fill, seed = [], best.image, best.seed
        if (half := from_other_half(face, fill)) is not None:
            made.append(Candidate(half.image, seed, self._likeness(face, half.image, embed), own_share=half.share))
        if self.reference_pixels and self.verifier.agrees(face, refs):
            for own in exemplars(face, fill, refs.used):
                likeness = self._likeness(face, own.image, embed)
                made.append(Candidate(own.image, seed, likeness, reference=own.name, reference_share=own.share))
        return made

    def _likeness(self, face: FaceAnalysis, crop: np.ndarray, embed: np.ndarray | None) -> float | None:
        """Cosine of a filled crop to an identity vector."""
        if embed is None:
            return None
        return similarity(self.verifier.identity.embed([aligned_crop(crop, face)])[0], embed)
