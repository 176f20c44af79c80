"""A painted iris has its visible twin's colour, and no other pixel changes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.faces.references import combine
from idinpaint.judging.believability import Believability
from idinpaint.painting.painter import HELPERS, Painter
from idinpaint.painting.twin import as_pair, iris_disc, like_twin
from idinpaint.types import Decision


@pytest.fixture(scope="module")
def face(restorer):
    hole = np.zeros((512, 512), bool)
    hole[85:120, 180:225] = True  # the left eye of the picture
    return max(restorer.analyzer.analyze(skimage.data.astronaut(), hole), key=lambda f: f.box[2])


def test_a_blue_eye_beside_a_brown_one_turns_brown(face):
    left, right = (iris_disc(face.landmarks, name) > 0.5 for name in ("left_eye", "right_eye"))
    crop = face.crop.copy()
    crop[face.crop_mask] = (200, 160, 140)
    crop[left] = (70, 110, 180)
    made = like_twin(crop, face)
    lab = cv2.cvtColor(made, cv2.COLOR_RGB2LAB).astype(float)
    apart = np.median(lab[left], 0) - np.median(lab[right], 0)
    before = np.median(cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(float)[left], 0)
    assert np.abs(apart[1:]).max() < 8 and abs(np.median(lab[left], 0)[0] - before[0]) < 8
    assert np.array_equal(made[~face.crop_mask], crop[~face.crop_mask])
    grown = cv2.dilate(left.astype(np.uint8), np.ones((61, 61), np.uint8)) > 0
    assert np.array_equal(made[~grown], crop[~grown])


def test_violet_lids_beside_plain_ones_turn_plain_and_keep_their_brightness(face):
    eye = face.landmarks[36:42].astype(np.float32)
    lids = np.zeros((256, 256), np.uint8)
    wide = float(np.hypot(*(eye[3] - eye[0])))
    cv2.ellipse(lids, (tuple(map(float, eye.mean(0))), (1.4 * wide, 0.9 * wide), 0.0), 1, -1)
    hole, whole = face.crop_mask & (lids > 0), skimage.data.astronaut()
    true = cv2.warpAffine(whole, face.crop_to_photo, (256, 256), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    lab = cv2.cvtColor(true, cv2.COLOR_RGB2LAB).astype(float)
    violet = lab + np.array([0, 14, -22])
    crop = cv2.cvtColor(np.clip(violet, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    crop = np.where(hole[..., None], crop, face.crop)
    made = cv2.cvtColor(like_twin(crop, face), cv2.COLOR_RGB2LAB).astype(float)
    start = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(float)
    before, after = (np.abs(x[hole][:, 1:].mean(0) - lab[hole][:, 1:].mean(0)).max() for x in (start, made))
    assert before > 12 and after < 6
    assert abs(made[hole][:, 0].mean() - start[hole][:, 0].mean()) < 2


def test_nothing_changes_without_a_twin_that_shows_its_colour(face):
    both = face.crop_mask | (iris_disc(face.landmarks, "right_eye") > 0.5)
    assert np.array_equal(like_twin(face.crop, replace(face, crop_mask=both)), face.crop)
    none = replace(face, crop_mask=np.zeros_like(face.crop_mask))
    assert np.array_equal(like_twin(face.crop, none), face.crop)


def test_a_painted_brown_eye_and_a_painted_blue_one_become_a_pair(face):
    discs = [iris_disc(face.landmarks, name) > 0.5 for name in ("left_eye", "right_eye")]
    hole = cv2.dilate((discs[0] | discs[1]).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    both = replace(face, crop_mask=hole)
    crop = face.crop.copy()
    crop[hole] = (200, 160, 140)
    for disc, colour in zip(discs, ((120, 70, 50), (70, 110, 180)), strict=True):
        crop[disc] = colour
    made = as_pair(crop, both)
    before, after = (
        np.subtract(*(cv2.cvtColor(x, cv2.COLOR_RGB2LAB).astype(float)[d].mean(0) for d in discs)) for x in (crop, made)
    )
    assert np.hypot(*before[1:]) > 25 and np.hypot(*after[1:]) < 0.6 * np.hypot(*before[1:])
    assert abs(after[0] - before[0]) < 3  # light comes from one side
    assert np.array_equal(made[~hole], crop[~hole])
    one_hidden = replace(face, crop_mask=hole & ~cv2.dilate(discs[1].astype(np.uint8), np.ones((9, 9))).astype(bool))
    assert np.array_equal(as_pair(crop, one_hidden), crop)


def test_the_other_networks_are_asked_where_nothing_is_believable(restorer, face):
    def paint(believer, rule="test"):
        painter = Painter(restorer.inpainters, restorer.verifier, True, believer)
        decision = Decision("diffusion", rule, "test", face.face_coverage, 0.1)
        return painter(face, decision, combine([], 0.35), 2, None, 0)

    def believer(crop, face, calls=[]):  # noqa: B006 - counts the looks: the first two find nothing
        calls.append(crop)
        worst = 0.5 if len(calls) <= 2 else 1.5
        return Believability({}, ["left_eye"] if worst < 1 else [], worst, 1.0)

    def nobody(crop, face):
        return Believability({}, ["left_eye"], 0.5, 1.0)

    for made in (paint(nobody), paint(nobody, "user")):  # what looks no better than the decided network's is not shown
        assert len(made) == 2 and all(c.painter is None for c in made)
    made = paint(believer)
    assert made[0].painter in HELPERS and made[0].believable == 1.5 and "painted by" in made[0].reason
    assert [c.painter for c in made].count(None) == 2 and len(made) == 4
    assert all(c.painter is None for c in paint(lambda crop, face: Believability({}, [], 2.0, 1.0)))
