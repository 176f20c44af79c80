"""The fill has the print's tint and grain; known pixels stay; the same seed gives the same pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from idinpaint.compositing import coarse_fill
from idinpaint.print_look import print_look

PHOTO = data.astronaut()
GREY = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)
HOLE = np.zeros(GREY.shape, bool)
HOLE[140:190, 185:260] = True
PLAIN = np.full((256, 256, 3), 120, np.uint8)


def colour_fill(photo: np.ndarray) -> np.ndarray:
    """The photo with the colour portrait's own mouth in its hole: red lips."""
    return np.where(HOLE[..., None], PHOTO, photo)


def test_a_neutral_photo_stays_neutral():
    photo = np.repeat(GREY[..., None], 3, -1)
    result = print_look(colour_fill(photo), HOLE, HOLE)
    assert np.ptp(result.astype(int), axis=-1).max() <= 2
    assert np.array_equal(result[~HOLE], photo[~HOLE])
    assert np.corrcoef(result[HOLE][:, 0], GREY[HOLE])[0, 1] > 0.99  # still the same picture


def test_a_sepia_print_keeps_its_tint():
    grey = GREY.astype(float)
    photo = np.clip(np.stack([grey + 18, grey * 0.9 + 5, grey * 0.68], -1), 0, 255).astype(np.uint8)
    result = print_look(colour_fill(photo), HOLE, HOLE).astype(float)[HOLE]
    base = result[:, 0] - 18
    inside = (base >= 0) & (result[:, 0] < 255)
    assert inside.mean() > 0.9
    assert np.abs(result[:, 1] - (base * 0.9 + 5))[inside].max() <= 3
    assert np.abs(result[:, 2] - base * 0.68)[inside].max() <= 3


def test_a_colour_photo_without_grain_is_left_alone():
    assert np.array_equal(print_look(PHOTO, HOLE, HOLE), PHOTO)


def high_pass(rgb: np.ndarray, area: np.ndarray) -> float:
    values = rgb.astype(np.float32)
    return float((values - cv2.GaussianBlur(values, (0, 0), 1.5))[area].std())


@pytest.mark.parametrize("deviation", [4, 8, 12, 20])
@pytest.mark.parametrize("common", [True, False])
def test_grain_is_that_of_the_surroundings(deviation, common):
    noise = np.random.default_rng(0).normal(0, deviation, (256, 256, 1 if common else 3))
    photo = np.clip(PLAIN + noise, 0, 255).round().astype(np.uint8)
    hole = np.zeros((256, 256), bool)
    hole[90:150, 80:170] = True
    result = print_look(coarse_fill(photo, hole), hole, hole, seed=3)
    assert high_pass(result, hole) / high_pass(photo, ~hole) == pytest.approx(1, abs=0.2)
    assert (np.ptp(result[hole].astype(int), axis=-1).max() <= 4) == common  # grey grain stays grey
    assert np.array_equal(result[~hole], photo[~hole])
    assert np.array_equal(result, print_look(coarse_fill(photo, hole), hole, hole, seed=3))
    assert not np.array_equal(result, print_look(coarse_fill(photo, hole), hole, hole, seed=4))


def test_grain_in_a_portrait():
    noise = np.random.default_rng(0).normal(0, 12, (*GREY.shape, 1))
    photo = np.clip(PHOTO + noise, 0, 255).astype(np.uint8)
    smooth = cv2.GaussianBlur(PHOTO, (0, 0), 1.5)
    result = print_look(np.where(HOLE[..., None], smooth, photo), HOLE, HOLE)
    added = np.where(HOLE[..., None], result.astype(np.float32) - smooth, 0)
    inner = cv2.erode(HOLE.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert high_pass(added, inner) / high_pass(np.repeat(noise, 3, -1), inner) == pytest.approx(1, abs=0.2)


def test_a_part_that_was_not_painted_is_left():
    photo = np.repeat(GREY[..., None], 3, -1)
    half = HOLE.copy()
    half[:165] = False
    result = print_look(colour_fill(photo), HOLE, half)
    assert np.array_equal(result[HOLE & ~half], PHOTO[HOLE & ~half])
