"""An enlarged fill is made as crisp as the known pixels are, no crisper, and never where nothing was lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.imaging.acutance import MOST, crisper, lost
from idinpaint.types import LUMA

SHARP = np.ascontiguousarray(skimage.data.astronaut()[:320, 60:380])
HOLE = cv2.ellipse(np.zeros((320, 320), np.uint8), (160, 110), (46, 40), 0, 0, 360, 1, -1).astype(bool)


def energy(rgb: np.ndarray) -> float:
    luma = rgb.astype(np.float32) @ np.float32(LUMA)
    return float((np.square(cv2.Sobel(luma, -1, 1, 0)) + np.square(cv2.Sobel(luma, -1, 0, 1)))[HOLE].mean())


def enlarged(photo: np.ndarray, scale: float) -> np.ndarray:
    """The photo as a crop of its resolution / scale leaves it."""
    small = cv2.resize(photo, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("scale", [1.6, 2.0, 3.0])
def test_what_the_crop_lost_is_given_back_in_part_and_not_more(scale):
    fill = enlarged(SHARP, scale)
    before = np.where(HOLE[..., None], 90, SHARP).astype(np.uint8)
    done = crisper(fill, before, HOLE, scale)
    assert energy(fill) < energy(done) < 1.15 * energy(SHARP)
    assert lost(before, HOLE, scale) > 1.1
    assert (
        np.abs(done[HOLE].astype(int) - SHARP[HOLE]).mean() < 1.05 * np.abs(fill[HOLE].astype(int) - SHARP[HOLE]).mean()
    )


def test_a_soft_photo_loses_nothing_so_its_fill_stays():
    soft = cv2.GaussianBlur(SHARP, (0, 0), 5)
    fill = enlarged(soft, 2.0)
    done = crisper(fill, soft, HOLE, 2.0)
    assert lost(soft, HOLE, 2.0) < 1.05
    assert np.abs(done.astype(int) - fill).max() <= 2


def test_nothing_is_done_at_the_crops_own_size_or_without_known_pixels():
    assert crisper(SHARP, SHARP, HOLE, 1.0) is SHARP
    everything = np.ones_like(HOLE)
    assert lost(SHARP, everything, 3.0) == 1.0
    assert np.array_equal(crisper(SHARP, SHARP, everything, 3.0), SHARP)
    noise = np.random.default_rng(0).integers(0, 256, SHARP.shape, dtype=np.uint8)
    flat = np.full_like(SHARP, 128)
    assert np.array_equal(crisper(flat, noise, HOLE, 4.0), flat), "there are no forms to strengthen"
    assert MOST <= 1.0
