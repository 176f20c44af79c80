"""Is the restored face the person's? An encoder's answer with its error rate, and what is expected at this damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from idinpaint.faces.features import whole_coverage
from idinpaint.faces.identity import IdentityEncoder, arcface_crop
from idinpaint.faces.likeness import UNCERTAIN_MARGIN, Verdict, similarity, verdict_for
from idinpaint.faces.references import References
from idinpaint.judging.believability import Believability
from idinpaint.judging.calibration import Calibration
from idinpaint.judging.witnesses import testimony, witnesses
from idinpaint.types import Candidate, Decision, FaceAnalysis

VERDICTS = ("verified", "plausible", "not_verified", "abstained")  # from the best to the most cautious
PLAUSIBLE = 0.80  # expected acceptance from which a face without references counts as plausible
UNMEASURED = 0.15  # of the features: beyond, a face counts as plausible only by measured acceptance


@dataclass(frozen=True)
class Verification:
    """The verdict on one face and what it stands on; similarities are cosines in [-1, 1].

    evidence: references, visible (the face's own known part) or none. independent: the encoder neither conditioned
    nor ranked the painting. false_accept_rate: of the threshold, over photos of different persons; None when this
    encoder was not calibrated. expected_acceptance: probability with a 95 % interval, or None. wrong_reference: see
    Verifier.suspicion.
    """

    verdict: str
    text: str
    evidence: str
    encoder: str
    independent: bool
    similarity: float | None
    threshold: float
    false_accept_rate: float | None
    per_reference: list[dict[str, Any]]
    visible_similarity: float | None
    expected_acceptance: dict[str, float] | None
    wrong_reference: dict[str, Any] | None = None
    believability: dict[str, Any] | None = None


def evidence_terms(cosines: Mapping[str, float], coverage: float, count: int) -> dict[str, float]:
    """What the log-odds of a wrong reference are linear in; eval/wrong_reference.py fits the weights.

    cosines: of `count` references' mean to the face's visible part and to the restored face, by encoder. The more is
    hidden the less each says, and one photo says less than the mean of several.
    """
    fading = {f"{name}*coverage": value * coverage for name, value in cosines.items()}
    return {**cosines, **fading, "coverage": coverage, "one_over_count": 1.0 / count}


class Verifier:
    """Judges delivered faces. independent: an encoder that neither conditions nor trains, or None."""

    def __init__(
        self,
        identity: IdentityEncoder,
        independent: IdentityEncoder | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.identity, self.encoder, self.calibration = identity, independent or identity, calibration
        self.independent = independent is not None

    def threshold(self) -> tuple[float, float | None]:
        """(cosine, its false-accept rate), measured ones when this encoder was calibrated."""
        measured = self.calibration and self.calibration.encoder(self.encoder.name, _digest(self.encoder))
        if measured:
            return float(measured["threshold"]), float(measured["false_accept_rate"])
        return self.encoder.threshold + UNCERTAIN_MARGIN, None

    def same_person(self, aligned_a: np.ndarray, aligned_b: np.ndarray) -> Verdict:
        """Of two faces on the 112 px template, uint8: the judge's answer, at the threshold that restoring uses too."""
        value = similarity(*self.encoder.embed([aligned_a, aligned_b]))
        return verdict_for(value, self.threshold()[0], 0.0, UNCERTAIN_MARGIN)

    def comparison(self, faces: Sequence[FaceAnalysis]) -> tuple[IdentityEncoder, float, np.ndarray | None]:
        """By what reference photos are compared: the encoder, the cosine from which two photos show one person, and its
        vector of the visible part of the first of the faces that has enough of one."""
        face = next((face for face in faces if face.id_embed is not None), None)
        seen = None if face is None else self.encoder.embed([visible_part(face)])[0]
        return self.encoder, self.threshold()[0], seen

    def encoders(self) -> dict[str, dict[str, Any]]:
        """Name -> sha256 and role of the encoders in use."""
        roles = {self.identity.name: "conditions and ranks"}
        roles[self.encoder.name] = "verifies" if self.independent else "conditions, ranks and verifies"
        both = {self.identity.name: self.identity, self.encoder.name: self.encoder}
        return {name: {"sha256": _digest(both[name]), "role": role} for name, role in roles.items()}

    def differences(self, weights: dict[str, str]) -> list[str]:
        """A notice when model or encoders are not those of the calibration."""
        if self.calibration is None:
            return []
        digests = {name: entry["sha256"] for name, entry in self.encoders().items()}
        return self.calibration.differences(digests, weights)

    def made(self) -> dict[str, Any] | None:
        """Where the calibration comes from."""
        return self.calibration and self.calibration.values.get("made")

    def agrees(self, face: FaceAnalysis, references: References) -> bool:
        """Whether the face's visible part says that the references show this person; needed before pixels are taken.

        By the encoder that conditions, so that the other can still judge. On 39 validation faces with 20-40 % of the
        features hidden it refused every stranger's three photos, and the person's own in 5 % of the cases.
        """
        if not references or face.id_embed is None:
            return False
        return similarity(references.mean, face.id_embed) >= self.identity.threshold * (1 - face.face_coverage)

    def suspicion(self, crop: np.ndarray, face: FaceAnalysis, references: References) -> dict[str, Any] | None:
        """Whether the references show another person than the face: suspected, log_odds, limit, false_alarms.

        By the face's visible part and by the filled crop, uint8 [256, 256, 3], with both encoders where both were
        calibrated; without a calibration by the visible part alone, and log_odds and false_alarms are None. None
        without references, and where too little is visible to tell.
        """
        if not references or face.id_embed is None:
            return None
        share, encoders = face.face_coverage, {"judge": self.encoder, "bundled": self.identity}
        model = None
        if self.calibration:
            digests = {name: _digest(encoder) for name, encoder in encoders.items()}
            model = self.calibration.wrong_reference(digests, share)
        if model is None:
            # The visible part of a damaged face says less than a whole face: well below the threshold.
            limit = self.identity.threshold * (1 - share) - UNCERTAIN_MARGIN
            suspected = similarity(references.mean, face.id_embed) < limit
            return {"suspected": suspected, "log_odds": None, "limit": None, "false_alarms": None}
        seen = {
            "visible": arcface_crop(face.crop, face.crop_mask, face.landmarks),
            "restored": aligned_crop(crop, face),
        }
        weights, cosines = [item.weight for item in references.used], {}
        for name in model["encoders"]:
            given = encoders[name].embed([item.aligned for item in references.used])
            mean = np.average(given, axis=0, weights=weights)
            for kind, vector in zip(seen, encoders[name].embed(list(seen.values())), strict=True):
                cosines[f"{name}_{kind}"] = similarity(vector, mean)
        terms = evidence_terms(cosines, share, len(references.used))
        odds = model["intercept"] + sum(weight * terms[name] for name, weight in model["weights"].items())
        limit = model["limit"]
        return {"suspected": odds > limit, "log_odds": odds, "limit": limit, "false_alarms": model["false_alarms"]}

    def check(
        self,
        crop: np.ndarray,
        face: FaceAnalysis,
        references: References,
        decision: Decision,
        candidates: Sequence[Candidate] = (),
        looked: Believability | None = None,
    ) -> Verification:
        """Verdict on a filled crop, uint8 [256, 256, 3], aligned as `face` is; candidates as ranked, crop the first.
        looked: whether the hidden features are there now, None where nobody looked.

        A crop that was painted after a reference photo is held against the other photos, since it is like that one by
        its making; when there is no other, the candidate that was painted without any is judged instead.
        """
        threshold, rate = self.threshold()
        aligned, plain = aligned_crop(crop, face), crop
        shown = candidates[0].shown if candidates else ()
        if shown:
            plain = next((c.image for c in candidates if not c.shown), crop)
        vector = self.encoder.embed([aligned])[0]
        per_reference, value, seen, apart = [], None, None, ""
        if references:
            used = references.used
            vectors = self.encoder.embed([item.aligned for item in used])
            per_reference = [
                {"name": item.name, "similarity": similarity(vector, v)} for item, v in zip(used, vectors, strict=True)
            ]
            keep = witnesses(shown, used)
            apart = testimony(shown, keep, used, plain is not crop)
            judged = vector if keep else self.encoder.embed([aligned_crop(plain, face)])[0]
            keep = keep or list(range(len(used)))
            weights = [used[i].weight for i in keep]
            value = similarity(judged, np.average(vectors[keep], axis=0, weights=weights))
        if face.id_embed is not None:
            # The bundled encoder was trained to read masked faces; another one need not be able to.
            seen = similarity(self.identity.embed([aligned])[0], face.id_embed)
        expected = None
        if self.calibration:
            hidden = face.face_coverage, whole_coverage(face.coverage)
            expected = self.calibration.expected_acceptance(decision.strategy, bool(references), *hidden)
        verdict, text = self._judge(decision, value, threshold, seen, expected)
        if looked is not None and not looked.believable and not decision.paints_no_face:
            verdict, text = "not_verified", f"{looked.reason}; that it looks like nobody counts before any likeness"
        text += apart if value is not None and not decision.paints_no_face else ""
        return Verification(
            verdict, text, "references" if references else "none" if seen is None else "visible", self.encoder.name,
            self.independent, seen if value is None else value, threshold, rate, per_reference, seen, expected,
            self.suspicion(plain, face, references), None if looked is None else asdict(looked),
        )  # fmt: skip

    def _judge(
        self,
        decision: Decision,
        value: float | None,
        threshold: float,
        seen: float | None,
        expected: dict[str, float] | None,
    ) -> tuple[str, str]:
        """(verdict, why in words); value: similarity to the references."""
        if decision.paints_no_face:
            return "abstained", "no face was painted"
        if value is not None:
            if value < threshold:
                return "not_verified", "not recognised as the person in the references"
            if not self.independent:
                own = "the comparison also guided the painting, so it cannot verify it alone"
                return "plausible", f"like the person in the references, but {own}"
            return "verified", "the same person as in the references, by a comparison that had no part in the painting"
        if seen is None:
            return "not_verified", "no reference photo, and too little of the face is visible to compare with"
        if decision.forced:
            return "not_verified", "painted against the rule, a guess; no reference photo"
        if decision.rule == "face-untouched" and seen >= self.identity.threshold:
            return "plausible", "no feature of the face was hidden, so none was invented"
        if seen < self.identity.threshold:
            return "not_verified", "no reference photo, and it is unlike the visible part of the face itself"
        if expected is None and decision.face_coverage > UNMEASURED:
            return "not_verified", "no reference photo, and nothing was measured for damage like this"
        agrees = "it agrees with the visible part of the face"
        if expected is None:
            return "plausible", f"{agrees}; no reference photo"
        share = expected["probability"]
        many = "nearly all" if share >= 0.95 else "most" if share >= PLAUSIBLE else "too few"
        with_it = f"{many} such restorations are recognised as the person"
        if share >= PLAUSIBLE:
            return "plausible", f"{agrees}, and {with_it}; no reference photo"
        return "not_verified", f"no reference photo; {agrees}, but {with_it}"


def withhold(decision: Decision, verification: Verification) -> tuple[Decision, Verification]:
    """Abstain (or only tone) after all when the rule delivers only verified faces and this one is not."""
    recognised = verification.evidence == "references" and verification.verdict in ("verified", "plausible")
    if decision.unless_verified is None or recognised:
        return decision, verification
    said = verification.text if verification.evidence == "references" else "nothing to verify with"
    reason = f"painted, but not verified against the references: {said}"
    return (
        replace(decision, strategy=decision.unless_verified, reason=reason),
        replace(verification, verdict="abstained", text=reason),
    )


def wrong_person(verification: Verification) -> list[str]:
    """A notice, by name, when the references look like another person than the damaged face."""
    found = verification.wrong_reference
    if not found or not found["suspected"]:
        return []
    rate = found["false_alarms"]
    how_often = "" if rate is None else f"; {100 * rate:g} % of right references raise this warning too"
    names = [str(item["name"]) for item in verification.per_reference]
    which = f"{', '.join(names[:4])}{' ...' if len(names) > 4 else ''}: " if names else ""
    return [f"{which}the reference photos look like another person than the damaged face{how_often}; check them"]


def overall_verdict(verifications: list[Verification]) -> str | None:
    """The most cautious verdict over the faces; None without any."""
    return max((v.verdict for v in verifications), key=VERDICTS.index, default=None)


def aligned_crop(crop: np.ndarray, face: FaceAnalysis) -> np.ndarray:
    """The crop's face on the 112 px template, grey beyond the crop."""
    return arcface_crop(crop, None, face.landmarks)


def visible_part(face: FaceAnalysis) -> np.ndarray:
    """The face on the 112 px template, grey where it is hidden and beyond the crop."""
    return arcface_crop(face.crop, face.crop_mask, face.landmarks)


def _digest(encoder: Any) -> str | None:
    return getattr(encoder, "sha256", None)
