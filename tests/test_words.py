"""No sentence of a run contradicts another: coverage, references, force and strategy in 200 combinations."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import skimage.data

from idinpaint.faces.references import combine
from idinpaint.judging.controller import near_threshold
from idinpaint.judging.groups import face_place, share_out
from idinpaint.judging.verification import withhold
from idinpaint.report.reporting import build_report, face_report, headline, hidden_words, next_step, summary_lines
from idinpaint.types import Candidate, RestoreOptions

HOLE = np.zeros((512, 512), bool)
HOLE[100:125, 195:222] = True
COVERAGES = (0.0, 0.01, 0.05, 0.16, 0.18, 0.23, 0.3, 0.5, 0.6, 0.95)
STRATEGIES = ("auto", "telea", "prior", "diffusion", "colorize")


@pytest.fixture(scope="module")
def face(restorer):
    return max(restorer.analyzer.analyze(skimage.data.astronaut(), HOLE), key=lambda f: f.box[2])


@pytest.fixture(scope="module")
def reference(restorer):
    return combine([restorer.references.read_one("same.png", skimage.data.astronaut())], 0.35)


@pytest.mark.parametrize("force, strategy", list(product((False, True), STRATEGIES)))
def test_no_sentence_contradicts_another(restorer, face, reference, force, strategy):
    for share, refs in product(COVERAGES, (combine([], 0.35), reference)):
        hidden = dict.fromkeys(face.coverage, share)
        one = replace(face, coverage=hidden, face_coverage=share, coverage_interval=(share * 0.9, min(share * 1.1, 1)))
        decision = restorer._decide(one, HOLE, refs, RestoreOptions(strategy, force=force))
        inpaints = decision.strategy in restorer.inpainters and decision.strategy != "colorize"
        made = [Candidate(face.crop, 0, 0.5, 1.0, 1.0, "the only candidate")] if inpaints else []
        found = restorer.verifier.check(face.crop, one, refs, decision, made)
        decision, found = withhold(decision, found)
        report = build_report(decision, [face_report(one, decision, made, found)], found.verdict, possible_faces=[])
        words = " ".join([headline(report), decision.reason, *summary_lines(report)])
        case = f"{share} {bool(refs)} {force} {strategy}: {words}"
        assert not ("a guess" in words and "are recognised" in words), case
        assert not re.search(r"\d", words.replace("face 1", "")), case  # figures: the report
        assert headline(report).startswith("abstained") == (found.verdict == "abstained"), case
        assert not (found.verdict == "abstained" and "the same person as" in words), case
        if refs and not decision.paints_no_face:
            assert "no reference photo" not in found.text, case
        if decision.forced and not refs:
            assert found.verdict not in ("verified", "plausible"), case
        if strategy == "auto" and share == 0 and not refs and not force:
            assert "recognised" not in words and "none was invented" in words, case
        if found.verdict == "verified":
            assert found.independent and "also guided" not in words, case
        for notice in near_threshold(one, restorer.controller, bool(refs)):
            low, high = one.coverage_interval
            assert low <= share <= high and "close one" in notice and not re.search(r"\d", notice), case


def test_an_interval_holds_its_own_value(restorer):
    rng = np.random.default_rng(0)
    photo = skimage.data.astronaut()
    for _ in range(12):
        hole = np.zeros((512, 512), bool)
        x, y, w, h = *rng.integers([170, 70], [240, 150]), *rng.integers(6, 60, 2)
        hole[y : y + h, x : x + w] = True
        for face in restorer.analyzer.analyze(np.where(hole[..., None], 0, photo).astype(np.uint8), hole):
            low, high = face.coverage_interval
            assert low <= face.face_coverage <= high


def test_in_a_group_a_photo_serves_the_person_it_shows(restorer, face, reference):
    other = replace(face, id_embed=-face.id_embed, crop=np.roll(face.crop[::-1], 60, 1))
    first, second = share_out(reference, [face, other], restorer.verifier)
    assert [item.name for item in first.used] == ["same.png"] and not second.items
    assert share_out(reference, [face], restorer.verifier) == [reference]
    assert face_place(face, (512, 512)).endswith(" px") and "middle" in face_place(face, (512, 512))


def test_hidden_features_in_words():
    shares = {"left_eye": 0.9, "right_eye": 0.5, "left_brow": 0.01, "right_brow": 0.3, "nose": 1.0, "mouth": 0.05}
    assert hidden_words(shares) == "both eyes, nose hidden; right brow, mouth hidden in part"
    assert hidden_words({**shares, "skin": 0.4}) == hidden_words(shares)
    assert hidden_words({"nose": 0.0, "skin": 0.4}) == "skin hidden in part"
    assert hidden_words(dict.fromkeys(shares, 0.01)) == "no feature is hidden"


def test_the_headline_counts():
    def of(*strategies, hidden=0):
        rows = [{"decision": {"strategy": s}} for s in strategies]
        return headline({"faces": rows, "possible_faces": [{}] * hidden, "status": "abstained"})

    assert of("diffusion", "abstain", "telea") == "2 of 3 faces restored"
    assert of("diffusion", hidden=1) == "restored, and 1 place left marked that may hide a face"
    assert of("colorize") == "abstained, the hole is only given a smooth tone"
    assert of() == "abstained, the hole is left marked"


def test_the_next_step_fits_the_verdict():
    def of(verdict, failed=(), referenced=False, forced=False):
        return next_step(
            {"verdict": verdict, "believability": {"failed": list(failed)}}, referenced, {"forced": forced}
        )

    assert of("verified") == of("plausible") == ""
    assert "--num-samples" in of("not_verified", ["mouth"]) and "--reference" in of("not_verified", ["mouth"])
    assert "--reference" not in of("not_verified", ["mouth"], referenced=True)
    assert "--force" in of("abstained") and "--force" not in of("not_verified", forced=True)
    assert "another photo" in of("abstained", referenced=True)
    looked = {"verdict": "not_verified", "believability": {"failed": ["hair"]}}
    advice = next_step(looked, True, {"forced": False, "strategy": "telea"})
    assert "--strategy diffusion" in advice and "--num-samples" not in advice, "telea has one try"
