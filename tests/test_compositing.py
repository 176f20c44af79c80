"""Promises 1 and 2 at the place where they are kept: known pixels stay, hole pixels are never read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.imaging import compositing
from idinpaint.imaging.compositing import composite, harmonize, mark_hole, paste_crop
from idinpaint.imaging.telea import coarse_fill, hole_boxes

CROP = np.random.default_rng(7).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@st.composite
def photos(draw):
    """A random photo and a random mask of dots, boxes and strokes, with the generator for more noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(2, 90)), draw(st.integers(2, 90))
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98]))
    for _ in range(draw(st.integers(0, 3))):
        y, x = rng.integers(0, height), rng.integers(0, width)
        mask[y : y + rng.integers(1, 60), x : x + rng.integers(1, 60)] = True
    return rgb, mask, rng


def every_operation(rgb, mask, predicted, matrix):
    """All public operations that fill a hole."""
    yield coarse_fill(rgb, mask)
    yield coarse_fill(rgb, mask, max_side=24)
    yield harmonize(predicted, rgb, mask)
    yield composite(predicted, rgb, mask)
    yield paste_crop(rgb, mask, CROP, matrix)
    yield mark_hole(rgb, mask)


@given(photos(), st.floats(0.2, 3), st.floats(-3.2, 3.2), st.integers(-60, 60), st.integers(-60, 60))
@settings(max_examples=60, deadline=None)
def test_known_pixels_are_bit_identical(photo, scale, angle, dx, dy):
    rgb, mask, rng = photo
    before = rgb.copy()
    predicted = rng.integers(0, 256, rgb.shape, dtype=np.uint8)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    for result in every_operation(rgb, mask, predicted, np.array([[c, -s, dx], [s, c, dy]])):
        assert result.dtype == np.uint8 and result.shape == rgb.shape
        assert np.array_equal(result[~mask], rgb[~mask])
    assert np.array_equal(rgb, before), "the input was changed"


@given(photos(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_nothing_under_the_mask_leaks(photo, seed):
    rgb, mask, _ = photo
    noisy = rgb.copy()
    noisy[mask] = np.random.default_rng(seed).integers(0, 256, (mask.sum(), 3), dtype=np.uint8)
    predicted = cv2.GaussianBlur(coarse_fill(rgb, mask), (5, 5), 1)
    for max_side in (None, 16):
        filled = coarse_fill(rgb, mask, max_side)
        assert np.array_equal(filled, coarse_fill(noisy, mask, max_side))
        matrix = np.array([[0.7, 0.1, -5], [-0.1, 0.7, 3]])
        assert np.array_equal(paste_crop(filled, mask, CROP, matrix), paste_crop(filled, mask, CROP, matrix))
    assert np.array_equal(harmonize(predicted, rgb, mask), harmonize(predicted, noisy, mask))
    assert np.array_equal(mark_hole(rgb, mask), mark_hole(noisy, mask))


def smooth_photo(height=300, width=400):
    ys, xs = np.mgrid[:height, :width]
    return np.stack([xs * 200 / width, ys * 200 / height, (xs + ys) * 120 / (width + height)], -1).astype(np.uint8)


def test_a_deep_hole_in_a_smooth_photo_is_filled_smoothly():
    rgb = smooth_photo(400, 400)
    mask = np.zeros((400, 400), bool)
    mask[100:300, 100:300] = True  # 100 px deep: the reduced scale
    error = np.abs(coarse_fill(rgb, mask).astype(int) - rgb)[mask]
    assert error.mean() < 20
    edge = np.zeros_like(mask)
    edge[100:103, 100:300] = True
    assert np.abs(coarse_fill(rgb, mask).astype(int) - rgb)[edge].mean() < 6


def test_a_thin_scratch_disappears():
    rgb = smooth_photo()
    mask = np.zeros(rgb.shape[:2], bool)
    mask[:, 200:204] = True
    assert np.abs(coarse_fill(rgb, mask).astype(int) - rgb)[mask].mean() < 3


def test_coarse_fill_without_any_known_pixel_is_grey():
    assert (coarse_fill(smooth_photo(), np.ones((300, 400), bool)) == 128).all()


def test_hole_boxes_cover_each_hole_pixel_once():
    mask = np.random.default_rng(0).random((333, 257)) < 0.001
    count = np.zeros(mask.shape, int)
    for rows, columns, member in hole_boxes(mask):
        count[rows, columns] += member
    assert np.array_equal(count, mask.astype(int))


def test_harmonize_takes_a_colour_cast_off():
    rgb = smooth_photo() + np.uint8(30)
    mask = np.zeros(rgb.shape[:2], bool)
    mask[100:160, 120:200] = True
    cast = rgb.astype(np.float32) + [20, -15, 10]
    error = np.abs(harmonize(cast, rgb, mask, falloff_px=1e6).astype(int) - rgb)[mask]
    assert error.max() <= 2
    near, far = np.zeros_like(mask), np.zeros_like(mask)
    near[100:102, 120:200] = far[128:132, 150:170] = True
    faded = np.abs(harmonize(cast, rgb, mask, falloff_px=10).astype(int) - rgb)
    assert faded[near].mean() < 4 < 10 < faded[far].mean()


def test_harmonize_on_a_reduced_grid_agrees_with_the_full_one(monkeypatch):
    rgb = smooth_photo()
    mask = np.zeros(rgb.shape[:2], bool)
    mask[100:160, 120:200] = True
    predicted = np.clip(rgb.astype(int) + 25, 0, 255).astype(np.uint8)
    full = harmonize(predicted, rgb, mask).astype(int)
    monkeypatch.setattr(compositing, "TONE_GRID", 100)
    assert np.abs(harmonize(predicted, rgb, mask).astype(int) - full)[mask].max() <= 4


def test_paste_crop_puts_the_crop_where_the_matrix_says():
    rgb = smooth_photo()
    crop = cv2.resize(rgb[50:250, 100:300], (64, 64), interpolation=cv2.INTER_AREA)
    scale = 200 / 64
    matrix = np.array([[scale, 0, 100 + scale / 2 - 0.5], [0, scale, 50 + scale / 2 - 0.5]])
    mask = np.zeros(rgb.shape[:2], bool)
    mask[110:190, 160:240] = True
    holed = rgb.copy()
    holed[mask] = 0
    assert np.abs(paste_crop(holed, mask, crop, matrix).astype(int) - rgb).max() <= 3


def test_paste_crop_fades_out_towards_the_crops_border():
    base = np.zeros((200, 200, 3), np.uint8)
    mask = np.ones((200, 200), bool)
    result = paste_crop(base, mask, np.full((64, 64, 3), 200, np.uint8), np.array([[2.0, 0, 30], [0, 2.0, 30]]))
    row = result[94, :, 0].astype(int)
    assert row[29] == 0 and row[31] < 20 and row[94] == 200
    assert (np.diff(row[30:94]) >= 0).all() and np.abs(np.diff(row)).max() < 30


def test_paste_crop_does_not_fade_where_the_photo_ends():
    base, crop = np.zeros((64, 90, 3), np.uint8), np.full((64, 64, 3), 200, np.uint8)
    mask = np.ones((64, 90), bool)
    result = paste_crop(base, mask, crop, np.array([[1.0, 0, 0], [0, 1.0, 0]]))[..., 0].astype(int)
    assert (result[:, :51] == 200).all(), "three sides of the crop are the photo's own"
    assert (np.diff(result[30, 50:65]) < 0).any() and result[30, 63] < 20 and (result[:, 64:] == 0).all()
    assert (paste_crop(base[:, :64], mask[:, :64], crop, np.array([[1.0, 0, 0], [0, 1.0, 0]])) == 200).all()


def test_paste_crop_shrinks_without_aliasing():
    checks = np.zeros((256, 256, 3), np.uint8)
    checks[::2, 1::2] = checks[1::2, ::2] = 255
    mask = np.ones((40, 40), bool)
    base = np.full((40, 40, 3), 128, np.uint8)
    result = paste_crop(base, mask, checks, np.array([[0.12, 0, 4], [0, 0.12, 4]]))
    assert np.abs(result.astype(int) - 128).max() <= 6


def test_paste_crop_outside_the_photo_changes_nothing():
    rgb = smooth_photo()
    mask = np.ones(rgb.shape[:2], bool)
    assert np.array_equal(paste_crop(rgb, mask, CROP, np.array([[1.0, 0, 5000], [0, 1.0, 0]])), rgb)


def test_wrong_shapes_and_types_are_refused():
    rgb = smooth_photo()
    with pytest.raises(ValueError, match="mask must be bool"):
        coarse_fill(rgb, np.zeros((10, 10), bool))
    with pytest.raises(ValueError, match="mask must be bool"):
        mark_hole(rgb, np.zeros(rgb.shape[:2], np.uint8))
    with pytest.raises(ValueError, match="image must be uint8"):
        coarse_fill(rgb.astype(np.float32), np.zeros(rgb.shape[:2], bool))
