"""Candidates: identity first, then the fit; what they disagree about."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from idinpaint.judging.believability import Believability
from idinpaint.judging.ranking import TIE, disagreement, disagreement_picture, rank, seam_ratio
from idinpaint.types import Candidate

MASK = np.zeros((64, 64), bool)
MASK[20:44, 20:44] = True
PLAIN = np.random.default_rng(0).integers(100, 110, (64, 64, 3)).astype(np.uint8)


FACE = SimpleNamespace(crop_mask=MASK)


def candidate(seed: int, identity: float | None, step: int = 0, spot: int = 0) -> Candidate:
    """step: of the whole fill from its surroundings; spot: of its middle, which leaves the seam alone."""
    crop = PLAIN.copy()
    crop[MASK] += np.uint8(step)
    crop[26:38, 26:38] += np.uint8(spot)
    return Candidate(crop, seed, identity)


def order(*candidates: Candidate) -> list[int]:
    return [c.seed for c in rank(candidates, FACE)]


def test_identity_decides_beyond_a_tie():
    assert order(candidate(1, 0.5), candidate(2, 0.5 + 2 * TIE, step=80, spot=60)) == [2, 1]


def believed(number, identity, worst):
    return replace(candidate(number, identity), looked=Believability({}, [] if worst >= 1 else ["mouth"], worst))


def test_what_looks_like_nobody_never_wins_by_similarity():
    smear, person = believed(1, 0.9, 0.4), believed(2, 0.1, 1.2)
    better = believed(3, 0.9, 0.6)
    assert order(smear, person, better) == [2, 3, 1]
    assert "believable only 0.40" in rank([smear, person], FACE)[1].reason


def test_the_fit_decides_within_a_tie():
    assert order(candidate(1, 0.5 + TIE / 2, step=80), candidate(2, 0.5)) == [2, 1]
    blemished = candidate(1, 0.5 + TIE / 2, spot=60)
    assert order(blemished, candidate(2, 0.5), candidate(3, 0.5, spot=2)) == [2, 3, 1]
    assert order(candidate(1, None, step=40), candidate(2, None), candidate(3, None, step=80)) == [2, 1, 3]


def test_an_eye_of_its_twins_colour_and_form_comes_first():
    def with_eye(seed, colour, likeness):
        return replace(believed(seed, 0.5, 1.5), looked=Believability({}, [], 1.5, None, colour, likeness))

    red, blind, like = with_eye(1, 6.0, 0.9), with_eye(2, 1.0, 0.3), with_eye(3, 1.0, 0.9)
    assert order(red, blind, like) == [3, 1, 2]
    assert "the eye 0.90 like its twin, its colour 1.0 from" in rank([red, like], FACE)[0].reason


def test_each_place_is_explained():
    ranked = rank([candidate(1, 0.9), candidate(2, 0.6), candidate(3, 0.6, step=50)], FACE)
    assert [c.seed for c in ranked] == [1, 2, 3]
    assert "nearest in identity" in ranked[0].reason and "best fit of 2" in ranked[1].reason
    assert ranked[0].seam < 1.5 < ranked[2].seam and ranked[0].apart > 0
    assert rank([candidate(1, 0.9)], FACE)[0].reason == "the only candidate"


def test_seam_of_a_full_and_an_empty_mask_is_zero():
    assert seam_ratio(PLAIN, np.zeros_like(MASK)) == seam_ratio(PLAIN, np.ones_like(MASK)) == 0


def test_disagreement_lies_in_the_hole_only():
    other = candidate(2, 0.5, step=10)
    other.image[0, 0] = 200  # outside the hole
    spread = disagreement([candidate(1, 0.5), other], MASK)
    assert np.allclose(spread[MASK], 5) and not spread[~MASK].any()
    assert disagreement([candidate(1, 0.5)], MASK) is None
    picture = disagreement_picture(spread)
    assert picture.dtype == np.uint8 and picture[30, 30, 0] == 40


def test_of_two_alike_the_earlier_sample_is_kept():
    assert order(candidate(7, 0.5), candidate(6, 0.5), candidate(5, 0.5)) == [5, 6, 7]
