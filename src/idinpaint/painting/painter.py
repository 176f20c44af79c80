"""The candidates for one face: what the network paints, and which photos of the person it sees meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from idinpaint.faces.likeness import similarity
from idinpaint.faces.references import Reference, References
from idinpaint.imaging.compositing import harmonize
from idinpaint.judging.ranking import believable, rank
from idinpaint.judging.verification import Verifier, aligned_crop
from idinpaint.judging.witnesses import witnesses
from idinpaint.painting.base import MOST_PICTURES, FillRequest, Inpainter
from idinpaint.painting.other_half import with_other_hair
from idinpaint.painting.skin import like_skin
from idinpaint.painting.softness import as_soft
from idinpaint.painting.surroundings import Backdrop
from idinpaint.painting.twin import as_pair, like_twin
from idinpaint.strategies import HELPERS, NETWORKS
from idinpaint.types import Candidate, Decision, FaceAnalysis


def one_photo_each(request: FillRequest) -> list[FillRequest]:
    """The request as one a reference photo, each for its share of the candidates, the best photos first: after two
    photos at once a feature is a mixture of theirs, of an open mouth and a closed one, say."""
    if len(request.references) < 2:
        return [request]
    turns, seed = [], request.seed
    for part in np.array_split(np.arange(request.num_samples), len(request.references)):
        if len(part):
            reference = [request.references[len(turns)]]
            turns.append(replace(request, references=reference, num_samples=len(part), seed=seed))
            seed += len(part)
    return turns


def fitted(predicted: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """A network's fill uint8 [256, 256, 3] as it is shown: its colours lead over to the known ones, an eye's are its
    twin's, two painted eyes are a pair, skin's are those of known skin, it is as soft as the photo, and torn hair is
    the other half's."""
    crop = like_skin(as_pair(like_twin(harmonize(predicted, face.crop, face.crop_mask), face), face), face)
    return with_other_hair(as_soft(crop, face.crop_mask), face)


@dataclass(frozen=True)
class Painter:
    """Paints one face by the decided strategy. reference_pixels: False keeps reference photos out of the network;
    believer: says of each candidate whether its hidden features are there, None for nobody; tint: gives a picture the
    photo's tone under a mask (PrintLook.tint); backdrop: the background behind the faces."""

    inpainters: Mapping[str, Inpainter]
    verifier: Verifier
    reference_pixels: bool = True
    believer: Any = None
    tint: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    backdrop: Backdrop | None = None

    def __call__(
        self, face: FaceAnalysis, decision: Decision, refs: References, num_samples: int, steps: int | None, seed: int
    ) -> list[Candidate]:
        """Candidates, best first by `ranking.rank`; none where nothing is painted or Telea's fill stays.

        Where none is believable, the other networks paint one more each, kept if it is. Where no reference
        photo is left that the best was not painted after, nor a copy of it, one more is painted without any, and comes
        last: it is the one that the photos can be held against. It comes first where it alone is believable.
        """
        inpainter = self.inpainters.get(decision.strategy)
        if inpainter is None or decision.strategy == "colorize":
            return []
        embed = refs.mean if refs.mean is not None else face.id_embed
        shown = self._shown(face, decision, refs)
        made = self._paint(inpainter, FillRequest(face, embed, num_samples, steps, seed, shown), embed)
        request = FillRequest(face, embed, 1, steps, seed, shown)
        made = self._others(rank(made, face), request, decision)
        if shown and not witnesses(made[0].shown, refs.used):
            painter = made[0].painter
            witness = self.inpainters[painter or decision.strategy]
            plain = [replace(c, painter=painter) for c in self._paint(witness, replace(request, references=[]), embed)]
            made = [*made, *plain] if believable(made[0]) or not believable(plain[0]) else [*plain, *made]
        return made

    def _others(self, made: list[Candidate], request: FillRequest, decision: Decision) -> list[Candidate]:
        """The candidates; where none is believable, with those of the other networks that are."""
        if decision.strategy != "diffusion" or decision.rule == "user" or believable(made[0]):
            return made
        for name in HELPERS:
            if name in self.inpainters:
                more = self._paint(self.inpainters[name], request, request.id_embed)
                made = [*made, *(replace(candidate, painter=name) for candidate in more if believable(candidate))]
        return rank(made, request.face)

    def _shown(self, face: FaceAnalysis, decision: Decision, refs: References) -> list[Reference]:
        """The photos for the network, best first."""
        able = decision.strategy in NETWORKS and getattr(self.inpainters[decision.strategy], "sees_photos", False)
        if not (able and self.reference_pixels and self.verifier.agrees(face, refs)):
            return []
        return sorted(refs.used, key=lambda item: -item.weight)[:MOST_PICTURES]

    def _paint(self, inpainter: Inpainter, request: FillRequest, embed: np.ndarray | None) -> list[Candidate]:
        face, made = request.face, []
        turns = [(turn, predicted) for turn in one_photo_each(request) for predicted in inpainter.fill(turn)]
        for index, (turn, predicted) in enumerate(turns):
            names = tuple(item.name for item in turn.references)
            crop = fitted(predicted, face)
            crop = self.tint(crop, face.crop_mask) if self.tint else crop
            crop = self.backdrop.behind(crop, face) if self.backdrop else crop
            looked = self.believer and self.believer(crop, face)
            likeness = self._likeness(face, crop, embed)
            made.append(Candidate(crop, request.seed + index, likeness, shown=names, looked=looked))
        return made

    def _likeness(self, face: FaceAnalysis, crop: np.ndarray, embed: np.ndarray | None) -> float | None:
        """Cosine of a filled crop to an identity vector."""
        if embed is None:
            return None
        return similarity(self.verifier.identity.embed([aligned_crop(crop, face)])[0], embed)
