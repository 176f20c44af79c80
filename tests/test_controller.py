"""Every row and every boundary of the controller's table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idinpaint.controller import VERIFIED_ONLY_RULES, ControllerConfig, decide


@pytest.mark.parametrize(
    "face, references, strategy, rule",
    [
        (0.0, False, "telea", "face-untouched"),
        (0.0, True, "telea", "face-untouched"),
        (0.001, False, "telea", "thin"),
        (0.0199, True, "telea", "thin"),
        (0.02, False, "diffusion", "up-to-15"),
        (0.15, False, "diffusion", "up-to-15"),
        (0.1501, False, "diffusion", "15-25"),
        (0.2499, True, "diffusion", "15-25"),
        (0.25, False, "abstain", "25-30"),
        (0.25, True, "diffusion", "25-30-with-references"),
        (0.30, False, "abstain", "25-30"),
        (0.3001, False, "abstain", "above-30"),
        (0.3001, True, "diffusion", "above-30-with-references"),
        (1.0, False, "abstain", "above-30"),
        (1.0, True, "diffusion", "above-30-with-references"),
    ],
)
def test_table(face, references, strategy, rule):
    decision = decide({}, face, 0.1, references)
    assert (decision.strategy, decision.rule, decision.forced) == (strategy, rule, False)
    assert decision.face_coverage == face and decision.hole_ratio == 0.1
    assert decision.reason and "\n" not in decision.reason


@pytest.mark.parametrize(
    "left, right, references, strategy",
    [
        (0.91, 0.91, False, "abstain"),
        (0.91, 0.91, True, "diffusion"),
        (0.90, 0.91, False, "diffusion"),
        (1.0, 0.0, False, "diffusion"),
    ],
)
def test_both_eyes_hidden(left, right, references, strategy):
    decision = decide({"left_eye": left, "right_eye": right}, 0.1, 0.05, references)
    assert decision.strategy == strategy
    assert decision.rule.startswith("both-eyes") == (min(left, right) > 0.9)


def test_force_overrides_an_abstention_and_says_so():
    decision = decide({}, 0.5, 0.2, False, force=True)
    assert decision.strategy == "diffusion" and decision.forced and decision.rule == "above-30"
    assert "forced" in decision.reason
    assert not decide({}, 0.1, 0.2, False, force=True).forced


def test_high_coverage_with_references_is_delivered_only_when_verified():
    for face in (0.25, 0.30, 0.31, 1.0):
        assert decide({}, face, 0.1, True).rule in VERIFIED_ONLY_RULES
    assert decide({"left_eye": 1.0, "right_eye": 1.0}, 0.1, 0.1, True).rule in VERIFIED_ONLY_RULES
    assert decide({}, 0.2, 0.1, True).rule not in VERIFIED_ONLY_RULES


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_more_damage_is_never_treated_more_boldly(a, b, references):
    caution = {"telea": 0, "diffusion": 1, "abstain": 2}
    low, high = sorted((a, b))
    first, second = (caution[decide({}, face, 0.1, references).strategy] for face in (low, high))
    assert first <= second


@pytest.mark.parametrize("face, hole, eye", [(-0.1, 0, 0), (1.1, 0, 0), (float("nan"), 0, 0), (0, 2, 0), (0, 0, -1)])
def test_numbers_out_of_range_are_refused(face, hole, eye):
    with pytest.raises(ValueError, match="within"):
        decide({"left_eye": eye}, face, hole, False)


def test_thresholds_must_rise():
    with pytest.raises(ValueError, match="thresholds"):
        ControllerConfig(thin=0.5, low=0.1)
    assert decide({}, 0.2, 0.1, False, ControllerConfig(stop=0.2)).strategy == "abstain"
