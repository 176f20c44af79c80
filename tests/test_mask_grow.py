"""Damage that goes on beyond the mask: measured, said, and taken into the mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from idinpaint.imaging.mask_grow import fit_mask, grow_mask, measured_rim
from idinpaint.types import InputError

PHOTO = data.astronaut()


def scratched(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(photo with a soft scratch, a mask of its core only, where the scratch shows)."""
    ends = rng.integers(40, 470, (2, 2))
    stroke = np.zeros(PHOTO.shape[:2], np.uint8)
    cv2.line(stroke, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 255, int(rng.integers(3, 9)))
    soft = cv2.GaussianBlur(stroke, (0, 0), rng.uniform(0.8, 2.5))
    share = soft[..., None] / 255
    photo = (PHOTO * (1 - share) + share * 245).round().astype(np.uint8)
    return photo, soft > 0.75 * soft.max(), np.abs(photo.astype(int) - PHOTO).max(-1) > 8


def test_the_rim_of_soft_scratches_is_measured_and_taken_in():
    rng = np.random.default_rng(0)
    before, after, found = [], [], 0
    for _ in range(30):
        photo, mask, shows = scratched(rng)
        used, notices = fit_mask(photo, mask, "auto")
        assert not (mask & ~used).any()
        found += "grown by" in notices[0]
        before.append((shows & ~mask).sum() / shows.sum())
        after.append((shows & ~used).sum() / shows.sum())
    assert found >= 22 and np.median(before) > 0.4 and np.median(after) < 0.03


def test_a_tiny_photo_is_not_measured():
    grey = np.full((100, 100, 3), 90, np.uint8)
    grey[30:70, 30:70] = 200
    mask = np.zeros((100, 100), bool)
    mask[34:66, 34:66] = True
    assert (
        measured_rim(grey, mask)
        == 0
        < measured_rim(np.pad(grey, ((60, 60), (60, 60), (0, 0)), "edge"), np.pad(mask, 60))
    )


def test_an_undamaged_photo_shows_no_rim():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(60):
        mask = np.zeros(PHOTO.shape[:2], np.uint8)
        centre, axes = rng.integers(40, 470, 2), rng.integers(5, 60, 2)
        cv2.ellipse(mask, tuple(map(int, centre)), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360, 1, -1)
        wrong += measured_rim(PHOTO, mask > 0) > 0
    assert wrong <= 1


def test_what_lies_under_the_mask_is_not_read():
    photo, mask, _ = scratched(np.random.default_rng(0))
    other = photo.copy()
    other[mask] = np.random.default_rng(1).integers(0, 256, (mask.sum(), 3))
    assert measured_rim(photo, mask) == measured_rim(other, mask) > 0


def test_growing_by_a_number_and_not_growing():
    mask = np.zeros((40, 40), bool)
    mask[20, 20] = True
    photo = np.full((40, 40, 3), 90, np.uint8)
    assert np.array_equal(grow_mask(mask, 0), mask)
    used, notices = fit_mask(photo, mask, 3)
    y, x = np.mgrid[:40, :40]
    assert np.abs(used.astype(int) - (np.hypot(y - 20, x - 20) <= 3.5)).sum() <= 8 and "grown by 3 px" in notices[0]
    assert fit_mask(photo, mask, None) == (mask, [])
    assert "no damage was measured" in fit_mask(photo, mask, "auto")[1][0]
    with pytest.raises(InputError, match="whole photo"):
        fit_mask(photo, mask, 64)


def test_without_the_option_it_is_said_and_not_grown():
    photo, mask, _ = scratched(np.random.default_rng(0))
    used, notices = fit_mask(photo, mask, None)
    assert np.array_equal(used, mask) and "--grow auto" in notices[0] and "px beyond the mask" in notices[0]
