"""An enlarged fill is made as crisp as the known pixels are, no crisper, and never where nothing was lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.imaging.acutance import crisper, lost
from idinpaint.imaging.compositing import paste_crop
from idinpaint.types import LUMA

SHARP = np.ascontiguousarray(skimage.data.astronaut()[:320, 60:380])
HOLE = cv2.ellipse(np.zeros((320, 320), np.uint8), (160, 110), (46, 40), 0, 0, 360, 1, -1).astype(bool)


def energy(rgb: np.ndarray) -> float:
    luma = rgb.astype(np.float32) @ np.float32(LUMA)
    return float((np.square(cv2.Sobel(luma, -1, 1, 0)) + np.square(cv2.Sobel(luma, -1, 0, 1)))[HOLE].mean())


def pasted(photo: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The hole filled by the photo itself as a crop of its resolution / scale has it: (plainly enlarged, by paste_crop
    into a photo whose hole is flat)."""
    side = round(photo.shape[0] / scale)
    crop = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    real = photo.shape[0] / side
    matrix = np.array([[real, 0, (real - 1) / 2], [0, real, (real - 1) / 2]])
    before = np.where(HOLE[..., None], 90, photo).astype(np.uint8)
    plain = cv2.resize(crop, photo.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return plain, paste_crop(before, HOLE, crop, matrix)


@pytest.mark.parametrize("scale", [1.6, 2.0, 3.0])
def test_what_the_crop_lost_is_given_back_in_part_and_not_more(scale):
    plain, done = pasted(SHARP, scale)
    assert lost(SHARP, HOLE, scale) > 1.1
    assert energy(plain) < energy(done) < 1.15 * energy(SHARP)
    off = [np.abs(x[HOLE].astype(int) - SHARP[HOLE]).mean() for x in (done, plain)]
    assert off[0] < 1.12 * off[1]  # strengthened forms that lie a little off cost something
    assert np.array_equal(done[~HOLE], SHARP[~HOLE])


def test_a_soft_photo_loses_nothing_so_its_fill_stays():
    soft = cv2.GaussianBlur(SHARP, (0, 0), 5)
    plain, done = pasted(soft, 2.0)
    assert lost(soft, HOLE, 2.0) < 1.05
    assert np.abs(done[HOLE].astype(int) - plain[HOLE]).max() <= 3


def test_nothing_is_done_at_the_crops_own_size_or_without_known_pixels():
    noise = np.random.default_rng(0).integers(0, 256, SHARP.shape, dtype=np.uint8)
    assert lost(noise, HOLE, 1.0) == 1.0 and lost(noise, np.ones_like(HOLE), 3.0) == 1.0
    assert crisper(SHARP, HOLE, 1.0) is SHARP and crisper(SHARP, np.zeros_like(HOLE), 2.0) is SHARP
    flat = np.full_like(SHARP, 128)
    assert np.array_equal(crisper(flat, HOLE, 4.0), flat), "there are no forms to strengthen"


def test_what_is_under_the_mask_has_no_say():
    inner = np.where(cv2.erode(HOLE.astype(np.uint8), np.ones((9, 9))).astype(bool)[..., None], 255, SHARP)
    assert lost(inner.astype(np.uint8), HOLE, 2.0) == pytest.approx(lost(SHARP, HOLE, 2.0), rel=1e-3)
