"""Verdicts: what each stands on, and what changes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data

from idinpaint.faces.references import combine
from idinpaint.judging.believability import Believability
from idinpaint.judging.calibration import Calibration
from idinpaint.judging.controller import load_controller, near_threshold, twin_share
from idinpaint.judging.verification import Verifier, overall_verdict, withhold
from idinpaint.types import Decision

NONE = combine([], 0.35)
MASK = np.zeros((512, 512), bool)
MASK[100:125, 195:222] = True


@pytest.fixture(scope="module")
def face(restorer):
    (found,) = restorer.analyzer.analyze(skimage.data.astronaut(), MASK, (170.0, 60.0, 110.0, 130.0))
    return found


def decision(strategy="diffusion", coverage=0.1, **more) -> Decision:
    return Decision(strategy, "rule", "reason", coverage, 0.1, **more)


def calibrated(restorer, probability: float, threshold: float = 0.3) -> Calibration:
    curve = {"coverage": [0, 1], **dict.fromkeys(("probability", "low", "high"), [probability, probability])}
    encoder = {"sha256": restorer.identity.sha256, "threshold": threshold, "false_accept_rate": 0.01}
    return Calibration(
        {"encoders": {"bundled": encoder}, "acceptance": {"diffusion": {"without_references": curve}}}, ""
    )


@pytest.mark.parametrize(
    "probability, coverage, verdict",
    [(None, 0.1, "plausible"), (None, 0.2, "not_verified"), (0.9, 0.2, "plausible"), (0.5, 0.1, "not_verified")],
)
def test_without_references_the_measured_acceptance_decides(restorer, face, probability, coverage, verdict):
    calibration = None if probability is None else calibrated(restorer, probability)
    found = Verifier(restorer.identity, None, calibration).check(face.crop, face, NONE, decision(coverage=coverage))
    assert (found.verdict, found.evidence) == (verdict, "visible") and found.visible_similarity > 0.35
    assert (found.expected_acceptance is None) == (probability is None)


def test_with_references_similarity_decides_at_a_stated_error_rate(restorer, face):
    reference = restorer.references.read_one("same.png", skimage.data.astronaut())
    verifier = Verifier(restorer.identity, None, calibrated(restorer, 0.9))
    found = verifier.check(face.crop, face, combine([reference], 0.35), decision())
    assert found.verdict == "plausible" and found.threshold == 0.3 and found.false_accept_rate == 0.01
    assert found.per_reference[0]["name"] == "same.png" and not found.independent and "also guided" in found.text
    # The same photo shown to a judge whose threshold it cannot reach.
    strict = Verifier(restorer.identity, None, calibrated(restorer, 0.9, threshold=0.9999))
    found = strict.check(face.crop, face, combine([reference], 0.35), decision(unless_verified="abstain"))
    assert found.verdict == "not_verified"
    withheld, told = withhold(decision(unless_verified="abstain"), found)
    assert withheld.strategy == "abstain" and told.verdict == "abstained" and told.similarity == found.similarity
    assert withhold(decision(), found) == (decision(), found)


class Another:
    """The bundled encoder under another name: a judge that neither conditioned nor ranked."""

    name, threshold, sha256 = "another", 0.35, "x"

    def __init__(self, encoder) -> None:
        self.embed = encoder.embed


def test_only_a_judge_of_its_own_verifies_and_both_commands_agree(restorer, face):
    photo = skimage.data.astronaut()
    reference = restorer.references.read_one("same.png", photo)
    alone, apart = Verifier(restorer.identity), Verifier(restorer.identity, Another(restorer.identity))
    assert alone.check(face.crop, face, combine([reference], 0.35), decision()).verdict == "plausible"
    assert apart.check(face.crop, face, combine([reference], 0.35), decision()).verdict == "verified"
    for judge in (alone, apart):
        said = judge.same_person(reference.aligned, reference.aligned)
        assert said.verdict == "same" and said.threshold == judge.threshold()[0]


def test_a_face_that_looks_like_nobody_is_neither_verified_nor_plausible(restorer, face):
    smear = Believability({"mouth": 0.01}, ["mouth"], 0.05)
    reference = restorer.references.read_one("same.png", skimage.data.astronaut())
    judge = Verifier(restorer.identity, Another(restorer.identity))
    for refs in (NONE, combine([reference], 0.35)):
        found = judge.check(face.crop, face, refs, decision(), looked=smear)
        assert found.verdict == "not_verified" and found.text.startswith("the mouth could not be painted")
    found = judge.check(face.crop, face, combine([reference], 0.35), decision(unless_verified="abstain"), looked=smear)
    held, told = withhold(decision(unless_verified="abstain"), found)
    assert held.strategy == "abstain" and "the mouth could not be painted" in told.text


def test_an_uncalibrated_encoder_has_no_stated_error_rate(restorer):
    other = calibrated(restorer, 0.9)
    other.values["encoders"]["bundled"]["sha256"] = "another"
    threshold, rate = Verifier(restorer.identity, None, other).threshold()
    assert rate is None and threshold > restorer.identity.threshold
    (notice,) = Verifier(restorer.identity, None, other).differences({})
    assert "encoder bundled" in notice


def test_nothing_painted_and_nothing_visible(restorer, face):
    verifier = Verifier(restorer.identity)
    abstained = verifier.check(face.crop, face, NONE, decision("colorize"))
    blind = verifier.check(face.crop, replace(face, id_embed=None), NONE, decision())
    assert abstained.verdict == "abstained"
    assert (blind.verdict, blind.evidence, blind.similarity) == ("not_verified", "none", None)
    assert overall_verdict([blind, abstained]) == "abstained" and overall_verdict([]) is None


def test_a_close_decision_is_called_one(face):
    low, high = face.coverage_interval
    assert low <= face.face_coverage <= high
    ladder = replace(load_controller(), thin=0.0, low=0.0, stop=0.9, colour=1.0)
    middle = (low + high) / 2 - twin_share(face.coverage, ladder)  # its visible twin moves the limit
    (notice,) = near_threshold(face, replace(ladder, stop=middle))
    assert "close one" in notice
    assert near_threshold(face, ladder) == []
