"""A fill is no finer than its photo: blurred in a soft one, left alone in a sharp one, known pixels never touched."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from idinpaint.painting.softness import MORE, areas, as_soft, fineness
from idinpaint.types import LUMA

FACE = np.ascontiguousarray(skimage.data.astronaut()[10:266, 96:352])
HOLE = cv2.ellipse(np.zeros((256, 256), np.uint8), (128, 128), (40, 26), 0, 0, 360, 1, -1).astype(bool)


def fine(rgb: np.ndarray, area: np.ndarray) -> float:
    return fineness(rgb.astype(np.float32) @ np.float32(LUMA), area)


@pytest.mark.parametrize("sigma", [0.9, 1.5, 2.5])
def test_a_sharp_fill_in_a_soft_photo_becomes_as_soft(sigma):
    soft = cv2.GaussianBlur(FACE, (0, 0), sigma)
    painted = np.where(HOLE[..., None], FACE, soft)
    inner, ring = areas(HOLE)
    done = as_soft(painted, HOLE)
    assert fine(painted, inner) > MORE * fine(painted, ring), "else nothing is shown"
    assert fine(done, inner) < 0.8 * fine(painted, inner)
    assert np.abs(done[HOLE].astype(int) - soft[HOLE]).mean() < np.abs(painted[HOLE].astype(int) - soft[HOLE]).mean()


def test_a_fill_as_fine_as_its_photo_stays_to_the_byte():
    assert np.array_equal(as_soft(FACE, HOLE), FACE)
    softer = np.where(HOLE[..., None], cv2.GaussianBlur(FACE, (0, 0), 2), FACE)
    assert np.array_equal(as_soft(softer, HOLE), softer)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_known_pixels_never_change(seed, share):
    rng = np.random.default_rng(seed)
    crop = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = rng.random((64, 64)) < share
    assert np.array_equal(as_soft(crop, mask)[~mask], crop[~mask])
