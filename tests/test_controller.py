"""Every row and every boundary of the controller's ladder, its file, and what a user may override."""

from __future__ import annotations

from dataclasses import MISSING, replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idinpaint.judging.calibration import load_calibration
from idinpaint.judging.controller import ControllerConfig, decide, in_words, load_controller
from idinpaint.types import FEATURE_WEIGHTS, InputError

WITHOUT_GAN = ("telea", "diffusion", "colorize", "abstain")
ARTICLE = load_controller(Path(__file__).parents[1] / "configs" / "controller-article.yaml")
SHIPPED = load_controller()
LITTLE = 1e-4  # share of a face
LOW, STOP, COLOUR = (f"{100 * share:g}" for share in (SHIPPED.low, SHIPPED.stop, SHIPPED.colour))


@pytest.mark.parametrize("ladder, light", [(ARTICLE, "gan"), (SHIPPED, "diffusion")])
@pytest.mark.parametrize("references", [False, True])
def test_every_rung_up_to_its_edge(ladder, light, references):
    """Shares at both sides of each threshold of the file."""
    low, stop, colour = (f"{100 * share:g}" for share in (ladder.low, ladder.stop, ladder.colour))
    tail = "-with-references" if references else ""
    marked = ("diffusion", "abstain") if references else ("abstain", None)
    toned = ("diffusion", "colorize") if references else ("colorize", None)
    for face, outcome, rule in (
        (0.0, ("telea", None), "face-untouched"),
        (LITTLE, ("telea", None), "thin"),
        (ladder.thin - LITTLE, ("telea", None), "thin"),
        (ladder.thin, (light, None), f"up-to-{low}"),
        (ladder.low, (light, None), f"up-to-{low}"),
        (ladder.low + LITTLE, ("diffusion", None), f"{low}-{stop}"),
        (ladder.stop - LITTLE, ("diffusion", None), f"{low}-{stop}"),
        (ladder.stop, marked, f"{stop}-{colour}{tail}"),
        (ladder.colour, marked, f"{stop}-{colour}{tail}"),
        (ladder.colour + LITTLE, toned, f"above-{colour}{tail}"),
        (1.0, toned, f"above-{colour}{tail}"),
    ):
        check_row(face, references, *outcome, rule, ladder)
    assert decide({}, ladder.stop, 0.1, references) == decide({}, ladder.stop, 0.1, references, SHIPPED)


def test_the_shipped_thresholds_are_the_measured_ones():
    proposed = load_calibration().values["proposed_controller"]
    for name in ("low", "stop", "colour"):
        assert getattr(SHIPPED, name) == pytest.approx(proposed[name], abs=0.0051)


def test_a_share_in_words():
    said = [in_words(share) for share in (0.0, 0.02, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0)]
    assert said[:3] == ["hardly any of", "hardly any of", "about a tenth of"]
    assert said[3:] == ["about a quarter of", "about a third of", "about half of", "most of", "all of"]


def check_row(face, references, strategy, unless_verified, rule, ladder):
    decision = decide({}, face, 0.1, references, ladder)
    assert (decision.strategy, decision.unless_verified, decision.rule) == (strategy, unless_verified, rule)
    assert not decision.forced and decision.instead_of is None
    assert decision.face_coverage == face and decision.hole_ratio == 0.1
    assert decision.numbers["face_coverage"] == face
    assert decision.reason and "\n" not in decision.reason
    if face:
        assert in_words(face) in decision.reason
    assert decision.paints_no_face == (strategy in ("abstain", "colorize"))


@pytest.mark.parametrize("references", [False, True])
def test_both_eyes_hidden_with_5_per_cent_of_the_frame(references):
    for left, right in ((1, 1), (LITTLE, LITTLE), (0, LITTLE), (1, -SHIPPED.eyes)):
        left, right = (min(1.0, SHIPPED.eyes + part) for part in (left, right))
        decision, both = (
            decide({"left_eye": left, "right_eye": right}, 0.1, 0.05, references),
            right > SHIPPED.eyes < left,
        )
        assert decision.rule.startswith("both-eyes") == both
        assert decision.strategy == ("abstain" if both and not references else "diffusion")
        assert decision.numbers["left_eye"] == left and decision.numbers["hole_ratio"] == 0.05
        assert decision.unless_verified == ("abstain" if both and references else None)


def test_a_model_without_gan_paints_with_diffusion_and_says_so():
    decision = decide({}, 0.1, 0.1, False, ARTICLE, available=WITHOUT_GAN)
    assert (decision.strategy, decision.instead_of, decision.rule) == (
        "diffusion",
        "gan",
        f"up-to-{100 * ARTICLE.low:g}",
    )
    assert "no gan" in decision.reason
    assert decide({}, 0.2, 0.1, False, available=WITHOUT_GAN).instead_of is None


@pytest.mark.parametrize(
    "face, references, rule", [(SHIPPED.stop, False, f"{STOP}-{COLOUR}"), (1.0, False, f"above-{COLOUR}")]
)
def test_force_overrides_and_says_so(face, references, rule):
    decision = decide({}, face, 0.2, references, force=True)
    assert decision.strategy == "diffusion" and decision.forced and decision.rule == rule
    assert "forced" in decision.reason and "guess" in decision.reason
    assert not decide({}, 0.1, 0.2, False, force=True).forced


def test_force_delivers_without_verification():
    decision = decide({}, 0.6, 0.2, True, force=True)
    assert decision.strategy == "diffusion" and decision.forced and decision.unless_verified is None


def test_max_coverage_replaces_the_limit_both_ways():
    lower = decide({}, 0.2, 0.1, False, max_coverage=0.1)
    assert lower.strategy == "abstain" and lower.rule == "max-coverage" and "10 % set by the user" in lower.reason
    assert decide({}, 0.5, 0.1, True, max_coverage=0.1).strategy == "abstain"
    higher = decide({}, 0.6, 0.1, False, max_coverage=0.7)
    assert higher.strategy == "diffusion" and "although" in higher.reason and higher.numbers["max_coverage"] == 0.7
    assert decide({}, 0.01, 0.1, False, max_coverage=0.0).strategy == "telea"
    eyes = {"left_eye": 1.0, "right_eye": 1.0}
    assert decide(eyes, 0.2, 0.1, False, max_coverage=0.5).strategy == "abstain"


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_more_damage_is_never_treated_more_boldly(a, b, references):
    caution = {"telea": 0, "gan": 1, "diffusion": 2, "abstain": 3, "colorize": 3}
    low, high = sorted((a, b))
    first, second = (caution[decide({}, face, 0.1, references).strategy] for face in (low, high))
    assert first <= second


@pytest.mark.parametrize("face, hole, eye", [(-0.1, 0, 0), (1.1, 0, 0), (float("nan"), 0, 0), (0, 2, 0), (0, 0, -1)])
def test_numbers_out_of_range_are_refused(face, hole, eye):
    with pytest.raises(ValueError, match="within"):
        decide({"left_eye": eye}, face, hole, False)
    with pytest.raises(ValueError, match="max_coverage"):
        decide({}, 0, 0, False, max_coverage=2)


def test_a_file_says_only_what_it_changes(tmp_path):
    """The numbers are in one file: a user's takes what it leaves out from there, and the code has no defaults."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"stop: {SHIPPED.stop + 0.01}\n")
    assert load_controller(path) == replace(SHIPPED, stop=SHIPPED.stop + 0.01)
    fields = ControllerConfig.__dataclass_fields__.values()
    assert [field.name for field in fields if field.default is not MISSING] == ["weights"]
    assert sum(FEATURE_WEIGHTS.values()) == pytest.approx(1.0) and SHIPPED.weights is None


@pytest.mark.parametrize(
    "text, said",
    [
        ("stopp: 0.2", "did you mean `stop`"),
        ("low: 0.3\nstop: 0.2", "rise from thin to colour"),
        ("colour: 1.5", "within"),
        ("twin: 2", "shares in"),
        ("up_to_low: [gna, gan]", "unknown strategy `gna`; did you mean `gan`"),
        ("up_to_low: [gan]", "wants \\[without references, with references\\]"),
        ("up_to_low: [diffusion or abstain, gan]", "nothing can be verified"),
        ("above_colour: [colorize, abstain or diffusion]", "painting no face"),
        ("weights: {left_eyes: 1}", "did you mean `left_eye`"),
        ("weights: {nose: -1}", "number from 0 on"),
        ("weights: {nose: 0}", "at least one"),
        ("thin: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(tmp_path, text, said):
    path = tmp_path / "ladder.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        load_controller(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_rules_are_named_by_their_thresholds():
    config = replace(SHIPPED, low=0.15, stop=0.2, colour=0.4)
    assert decide({}, 0.2, 0.1, False, config).rule == "20-40"
    assert decide({}, 0.41, 0.1, True, config).rule == "above-40-with-references"


def test_a_visible_eye_serves_its_hidden_twin():
    hidden = {"left_eye": 1.0, "left_brow": 1.0, "skin": 0.2}
    share = sum({"left_eye": 0.2, "left_brow": 0.06, "skin": 0.03}.values())
    served = decide({**hidden, "right_eye": 0.0}, share, 0.1, False)
    assert (served.strategy, served.rule) == ("diffusion", f"{STOP}-twin") and "other eye" in served.reason
    assert decide({**hidden, "right_eye": 0.5}, share, 0.1, False).strategy == "abstain", "the twin is damaged too"
    half_a_face = {**hidden, "nose": 0.5, "mouth": 0.5, "skin": 0.5}
    assert decide(half_a_face, 0.47, 0.2, False).strategy == "abstain"
    assert decide({"nose": 1.0, "mouth": 1.0}, share, 0.1, False).strategy == "abstain", "a nose has no twin"


def test_torn_hair_is_painted_though_no_feature_is_hidden():
    for share in (0.0, 0.01):
        torn = decide({}, share, 0.1, False, torn_hair=True)
        assert (torn.strategy, torn.rule) == ("diffusion", "hair") and "hair" in torn.reason
        assert decide({}, share, 0.1, False).strategy == "telea"
    assert decide({}, 0.1, 0.1, False, torn_hair=True).rule == f"up-to-{LOW}", "features decide where they are hidden"


def test_strategies_are_listed_once():
    """What strategies.py has, the command line, the ladder's file and the schema take; its modules are there."""
    from idinpaint.cli.parser import build_parser
    from idinpaint.report.reporting import report_schema
    from idinpaint.strategies import CHOICES, STRATEGIES

    for name in CHOICES[1:]:
        words = ["restore", "a.png", "--mask", "m.png", "-o", "b.png", "--strategy", name]
        assert build_parser().parse_args(words).strategy == name
    assert report_schema()["$defs"]["decision"]["properties"]["strategy"]["enum"] == list(STRATEGIES)
    for name, row in STRATEGIES.items():
        assert not row.module or callable(import_module(f"idinpaint.painting.{name}").load)
        assert row.instead in ("", *STRATEGIES)
