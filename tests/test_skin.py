"""Painted skin keeps to the colours of the known skin, and what it does not know it leaves."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.painting.skin import like_skin, skin_area


@pytest.fixture(scope="module")
def face(restorer):
    hole = np.zeros((512, 512), bool)
    hole[105:150, 205:245] = True  # the nose
    return max(restorer.analyzer.analyze(skimage.data.astronaut(), hole), key=lambda f: f.box[2])


@pytest.fixture(scope="module")
def true(face):
    photo = skimage.data.astronaut()
    return cv2.warpAffine(photo, face.crop_to_photo, (256, 256), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def chroma_error(crop, true, where):
    a, b = (cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[where][:, 1:] for x in (crop, true))
    return float(np.linalg.norm(a - b, axis=1).mean())


def test_a_green_streak_on_a_nose_turns_to_skin_and_keeps_its_brightness(face, true):
    streak = np.zeros((256, 256), np.uint8)
    cv2.line(streak, *(tuple(np.rint(face.landmarks[i]).astype(int).tolist()) for i in (27, 30)), 1, 6)
    streak = (streak > 0) & face.crop_mask & skin_area(face.landmarks)
    lab = cv2.cvtColor(true.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[streak] += (0, -18, -4)
    green = np.clip(np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255), 0, 255).astype(np.uint8)
    crop = np.where(face.crop_mask[..., None], green, face.crop)
    made = like_skin(crop, face)
    assert streak.sum() > 50
    assert chroma_error(made, true, streak) < 0.6 * chroma_error(crop, true, streak)
    before, after = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB)[streak][:, 0].mean() for x in (crop, made))
    assert abs(before - after) < 3
    assert np.array_equal(made[~face.crop_mask], crop[~face.crop_mask])


def test_true_skin_hardly_moves(face, true):
    crop = np.where(face.crop_mask[..., None], true, face.crop)
    assert chroma_error(like_skin(crop, face), crop, face.crop_mask) < 1.0


def test_a_mouth_keeps_its_colour(face, true):
    lips = np.zeros((256, 256), np.uint8)
    cv2.fillConvexPoly(lips, cv2.convexHull(np.rint(face.landmarks[48:60]).astype(np.int32)), 1)
    painted = replace(face, crop_mask=lips > 0)
    assert np.array_equal(like_skin(true, painted)[lips > 0], true[lips > 0])


def test_nothing_changes_where_too_little_skin_is_known(face, true):
    hidden = replace(face, crop_mask=np.ones((256, 256), bool))
    assert np.array_equal(like_skin(true, hidden), true)
