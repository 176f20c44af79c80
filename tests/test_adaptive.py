"""The adaptive parts with the real bundled model: ladder, overrides, references, ranking, verification, report."""

from __future__ import annotations

import json

import cv2
import jsonschema
import numpy as np
import pytest
import skimage.data

from idinpaint.faces.quality import FaceQuality
from idinpaint.faces.references import Reference, References
from idinpaint.judging.controller import load_controller
from idinpaint.report.reporting import SCHEMA_VERSION, report_schema

FACE_BOX = (170.0, 60.0, 110.0, 130.0)  # of the astronaut


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(autouse=True)
def shipped_ladder(restorer):
    yield
    restorer.use_controller(None)


def lower_face() -> np.ndarray:
    """Mouth, nose and cheeks: 38 % of the features."""
    mask = np.zeros((512, 512), bool)
    mask[118:185, 175:275] = True
    return mask


def one_eye() -> np.ndarray:
    mask = np.zeros((512, 512), bool)
    mask[100:125, 195:222] = True
    return mask


def test_above_the_ladder_the_hole_is_toned_and_counts_as_abstained(restorer, portrait):
    mask = lower_face()
    mask[85:118, 222:275] = True  # and an eye: above 53 %
    result = restorer(portrait, mask, face_box=FACE_BOX)
    assert result.decision.strategy == "colorize" and result.abstained, result.decision
    assert result.report["status"] == "abstained" and result.candidates == [[]]
    assert np.array_equal(result.image[~mask], portrait[~mask])
    inner = result.image[125:178, 182:268].astype(int)
    assert np.abs(np.diff(inner, axis=0)).max() <= 12 and np.abs(np.diff(inner, axis=1)).max() <= 12


def test_what_a_user_sets_is_recorded(restorer, portrait, tmp_path):
    result = restorer(portrait, lower_face(), face_box=FACE_BOX, max_coverage=0.9, num_samples=1)
    assert result.decision.strategy == "diffusion" and not result.abstained
    assert result.report["decision"]["overrides"] == {"max_coverage": 0.9}
    ladder = tmp_path / "mine.yaml"
    ladder.write_text("above_colour: [telea, telea]\nweights: {mouth: 1.0}\n")
    restorer.use_controller(ladder)
    result = restorer(portrait, lower_face(), face_box=FACE_BOX)
    assert result.decision.strategy == "telea"
    assert result.decision.face_coverage == pytest.approx(result.faces[0].coverage["mouth"])
    assert result.report["decision"]["overrides"] == {"controller": str(ladder)}
    assert load_controller() is not restorer.controller


def test_a_missing_strategy_falls_back(restorer, portrait, tmp_path):
    ladder = tmp_path / "mine.yaml"
    ladder.write_text("up_to_low: [gan, gan]\nlow: 0.9\nstop: 0.95\ncolour: 0.95\n")
    restorer.use_controller(ladder)
    restorer_available, restorer.available = restorer.available, ("telea", "diffusion", "colorize", "abstain")
    try:
        result = restorer(portrait, one_eye(), face_box=FACE_BOX, num_samples=1)
    finally:
        restorer.available = restorer_available
    assert (result.decision.strategy, result.decision.instead_of) == ("diffusion", "gan")
    assert len([c for c in result.candidates[0]]) == 1


def test_the_report_follows_its_schema(restorer, portrait):
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    validate = jsonschema.Draft202012Validator(schema).validate
    references = [portrait[:300, 80:380], portrait[:280, 90:370]]
    painted = restorer(portrait, one_eye(), face_box=FACE_BOX, num_samples=2, references=references)
    plain = restorer(portrait, one_eye(), face_box=FACE_BOX, num_samples=1)
    for result in (painted, plain, restorer(portrait, lower_face(), face_box=FACE_BOX)):
        validate(json.loads(json.dumps(result.report, allow_nan=False)))
    validate({**painted.report, "faces": [], "verdict": None})
    (face,) = painted.report["faces"]
    alone = "verified" if face["verification"]["independent"] else "plausible"  # the bundled encoder also guided
    assert painted.report["verdict"] == face["verification"]["verdict"] == alone
    assert len(face["verification"]["per_reference"]) == 2 and face["verification"]["evidence"] == "references"
    assert face["invented"]["features"] and face["candidates"][0]["reason"]
    low, high = face["face_coverage_interval"]
    assert low <= face["face_coverage"] <= high and 0 < high - low < 0.15
    assert plain.report["faces"][0]["verification"]["evidence"] == "visible"


def test_what_was_invented_is_a_map(restorer, portrait):
    mask = one_eye()
    result = restorer(portrait, mask, face_box=FACE_BOX, num_samples=2)
    assert result.invented.shape == mask.shape and result.invented[mask].max() > 0
    assert not result.invented[~mask].any()
    cheek = np.zeros_like(mask)
    cheek[140:150, 185:200] = True  # no eye, so no candidate from the other half
    assert restorer(portrait, cheek, face_box=FACE_BOX, num_samples=1, strategy="diffusion").invented is None


def test_a_stranger_as_reference_is_warned_about_and_not_verified(restorer, portrait):
    """Another person's vector stands in for a stranger's photo."""
    stranger = np.roll(restorer.analyzer.analyze(portrait, one_eye(), FACE_BOX)[0].id_embed, 7)
    mask = lower_face()
    restorer.references.read = lambda *given: References(
        [Reference("stranger.jpg", stranger, np.full((112, 112, 3), 90, np.uint8), FaceQuality(40, 0.5, 0, 0.9, 1.0))],
        stranger,
    )
    try:
        result = restorer(portrait, mask, face_box=FACE_BOX, num_samples=1, references=[portrait])
    finally:
        del restorer.references.read
    assert any("another person" in notice for notice in result.report["notices"])
    assert result.abstained and result.decision.strategy == "abstain" and "not verified" in result.decision.reason
    assert result.report["verdict"] == "abstained"


def test_quality_falls_with_size_and_blur(restorer, portrait):
    photo = portrait[:300, 80:380]
    plain = restorer.references.read_one("plain.png", photo)
    blurred = restorer.references.read_one("blurred.png", cv2.GaussianBlur(photo, (0, 0), 3))
    small = restorer.references.read_one("small.png", cv2.resize(photo, (90, 90), interpolation=cv2.INTER_AREA))
    assert plain.weight > 0.9 and plain.quality.remarks == ()
    assert "blurred" in blurred.quality.remarks and blurred.weight < 0.5
    assert any("small" in words for words in small.quality.remarks) and small.weight < 0.6
    assert plain.embed @ blurred.embed > 0.35


def test_a_photo_is_read_once(restorer, portrait, monkeypatch):
    photo = portrait[:300, 80:380]
    first = restorer.references.read_one("first.png", photo)
    monkeypatch.setattr(restorer.analyzer, "analyze", None)  # a second reading would fail
    again = restorer.references.read_one("second.png", photo.copy())
    assert again.name == "second.png" and np.array_equal(first.embed, again.embed)
