"""The tonal fill: smooth, within the range of its surroundings, no feature, nothing read under the mask."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.painting.colorize import tonal_fill


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 90), st.integers(10, 90))
def test_smooth_and_within_the_range_of_the_surroundings(seed, x, y):
    rng = np.random.default_rng(seed)
    rgb = cv2.resize(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((128, 128), bool)
    mask[y : y + 30, x : x + 28] = True
    filled = tonal_fill(rgb, mask)
    assert np.array_equal(filled[~mask], rgb[~mask])
    near = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15))).astype(bool) & ~mask
    assert (filled[mask] >= rgb[near].min(0)).all() and (filled[mask] <= rgb[near].max(0)).all()
    inner = filled[y + 2 : y + 28, x + 2 : x + 26].astype(int)
    assert max(np.abs(np.diff(inner, axis=0)).max(), np.abs(np.diff(inner, axis=1)).max()) <= 24
    noisy = rgb.copy()
    noisy[mask] = 255 - noisy[mask]
    assert np.array_equal(tonal_fill(noisy, mask), filled)


def test_no_known_pixel_and_no_hole():
    rgb = np.full((40, 40, 3), 7, np.uint8)
    assert (tonal_fill(rgb, np.ones((40, 40), bool)) == 128).all()
    assert np.array_equal(tonal_fill(rgb, np.zeros((40, 40), bool)), rgb)
