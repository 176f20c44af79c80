"""Pixels taken from a reference photo: they fit, stay under the mask, the report names them, a judge skips them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

import idinpaint
from idinpaint.compositing import coarse_fill
from idinpaint.exemplar import (
    TWIN,
    exemplars,
    face_area,
    from_other_half,
    match_colours,
    mirrored,
    pose_distance,
    transfer,
)
from idinpaint.faces.alignment import transform_points
from idinpaint.painting import Painter

FACE_BOX = (170.0, 60.0, 110.0, 130.0)  # of the astronaut
SCHEMA = json.loads((Path(idinpaint.__file__).parent / "report.schema.json").read_text())


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def other_photo(portrait) -> np.ndarray:
    """The same face smaller, turned by 8 degrees, darker and bluer."""
    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((225, 125), 8, 0.85)
    turned = cv2.warpAffine(portrait, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.clip(turned * np.array([0.55, 0.6, 0.75]), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def mask(portrait) -> np.ndarray:
    """The picture's left eye and a part of the nose."""
    hidden = np.zeros(portrait.shape[:2], bool)
    hidden[100:135, 195:232] = True
    return hidden


@pytest.fixture(scope="module")
def face(restorer, portrait, mask):
    return restorer.analyzer.analyze(portrait, mask, FACE_BOX)[0]


@pytest.fixture(scope="module")
def reference(restorer, other_photo):
    return restorer.references.read_one("other.png", other_photo)


def restore(restorer, photo, mask, references):
    return restorer(
        photo, mask, references=references, strategy="diffusion", num_samples=1, steps=1, force=True, face_box=FACE_BOX
    )


def test_the_hidden_eye_comes_back(restorer, portrait, face, reference):
    filled = coarse_fill(face.crop, face.crop_mask)
    truth = restorer.analyzer.analyze(portrait, np.zeros(portrait.shape[:2], bool), FACE_BOX)[0].crop
    (made,) = exemplars(face, filled, [reference])
    hole, known = face.crop_mask, ~face.crop_mask
    assert np.array_equal(made.image[known], filled[known])
    assert made.name == "other.png" and 0.9 < made.share <= 1 and made.pose < 0.1
    before, after = (np.abs(p[hole].astype(float) - truth[hole]).mean() for p in (filled, made.image))
    assert after < 0.6 * before  # tone and turn of the other photo are made good
    painter = Painter(restorer.inpainters, restorer.bundle.landmarker, restorer.verifier)
    likeness = [painter._likeness(face, p, reference.embed) for p in (filled, made.image)]
    assert likeness[1] > likeness[0] + 0.1


def test_only_where_it_helps(face, reference):
    filled = coarse_fill(face.crop, face.crop_mask)
    seen = replace(face, coverage=dict.fromkeys(face.coverage, 0.3))
    assert exemplars(seen, filled, [reference]) == []
    profile = reference.landmarks * [0.35, 1.0] + [80, 0]
    assert exemplars(face, filled, [replace(reference, landmarks=profile)]) == []
    assert exemplars(face, filled, [replace(reference, landmarks=None)]) == []
    nothing = replace(reference, crop_mask=np.ones((256, 256), bool))
    assert transfer(face, filled, nothing) is None


def test_report_names_the_photo_and_the_judge_leaves_it_out(restorer, portrait, mask, other_photo):
    result = restore(restorer, portrait, mask, [other_photo])
    assert np.array_equal(result.image[~mask], portrait[~mask])
    first = result.report["faces"][0]["candidates"][0]
    assert first["reference"] == "photo 1" and first["reference_share"] > 0.9
    assert "without the pixels taken from photo 1" in result.report["faces"][0]["verification"]["text"]
    jsonschema.validate(result.report, SCHEMA)
    # The same photo a second time is no second witness.
    twice = restore(restorer, portrait, mask, [other_photo, np.clip(other_photo * 1.02, 0, 255).astype(np.uint8)])
    assert "without the pixels" in twice.report["faces"][0]["verification"]["text"]


def test_nothing_under_the_mask_leaks_with_references(restorer, portrait, mask, other_photo):
    noisy = portrait.copy()
    noisy[mask] = np.random.default_rng(0).integers(0, 256, (int(mask.sum()), 3))
    first, second = (restore(restorer, photo, mask, [other_photo]) for photo in (portrait, noisy))
    assert np.array_equal(first.image[mask], second.image[mask])


def test_doubted_references_give_no_pixels(restorer, portrait, mask, other_photo, monkeypatch):
    monkeypatch.setattr(restorer.verifier.identity, "threshold", 1.3)
    result = restore(restorer, portrait, mask, [other_photo])
    assert all(c["reference"] is None for c in result.report["faces"][0]["candidates"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-180, 180), st.floats(0.5, 2), st.floats(-50, 50))
def test_pose_distance_sees_no_shift_turn_or_scale(seed, degrees, scale, shift):
    points = np.random.default_rng(seed).uniform(60, 200, (68, 2))
    turn = scale * cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2]
    assert pose_distance(points, points @ turn.T + shift) == pytest.approx(0, abs=1e-6)
    assert pose_distance(points, points * [0.5, 1]) > 0.05


def test_colours_and_area(face):
    rng = np.random.default_rng(0)
    goal = rng.integers(90, 160, (64, 64, 3)).astype(np.uint8)
    picture = (goal * 0.5).astype(np.uint8)
    matched = match_colours(picture, goal, np.ones((64, 64), bool))
    assert abs(float(matched.mean()) - float(goal.mean())) < 3
    assert match_colours(picture, goal, np.zeros((64, 64), bool)) is picture
    area = face_area(face.landmarks)
    x, y = np.rint(face.landmarks[27:]).astype(int).T
    assert area[y, x].all() and 0.1 < area.mean() < 0.6


def test_a_hidden_eye_is_taken_from_its_visible_twin(restorer, portrait):
    assert np.array_equal(TWIN[TWIN], np.arange(68)) and not (TWIN[36:48] == np.arange(36, 48)).any()
    whole = restorer.analyzer.analyze(portrait, np.zeros(portrait.shape[:2], bool), FACE_BOX)[0]
    x, y = transform_points(whole.crop_to_photo, whole.landmarks)[36:42].T
    mask = np.zeros(portrait.shape[:2], bool)
    mask[int(y.min()) - 8 : int(y.max()) + 8, int(x.min()) - 8 : int(x.max()) + 8] = True
    result = restore(restorer, portrait, mask, [])
    first = result.candidates[0][0]
    face = result.faces[0]
    assert mirrored(face).crop_mask[:, ::-1][face.crop_mask].all()  # what the mirror hides is not looked at
    assert first.own_share > 0.7 and "own other half" in first.reason
    assert np.array_equal(result.image[~mask], portrait[~mask])
    truth = whole.crop[face.crop_mask].astype(float)
    network = next(c for c in result.candidates[0] if c.own_share is None)
    errors = [np.abs(c.image[face.crop_mask] - truth).mean() for c in (first, network)]
    assert errors[0] < errors[1]
    noisy = portrait.copy()
    noisy[mask] = np.random.default_rng(0).integers(0, 256, (int(mask.sum()), 3))
    assert np.array_equal(restore(restorer, noisy, mask, []).image[mask], result.image[mask])
    both = mask.copy()
    both[int(y.min()) - 8 : int(y.max()) + 8, :] = True
    hidden = restorer.analyze(portrait, both)[0][0]
    assert from_other_half(hidden, hidden.crop) is None
