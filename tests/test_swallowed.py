"""When a hole counts as one that may hide a whole face."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data

from idinpaint.faces.swallowed import abstained, swallowing_part
from idinpaint.types import Decision

NOBODY = SimpleNamespace(locate=lambda photo: [])


def disc(size: int, radius: int, at: tuple[int, int]) -> np.ndarray:
    ys, xs = np.mgrid[:size, :size]
    return np.hypot(xs - at[0], ys - at[1]) <= radius


def test_only_the_part_that_is_wide_enough_counts():
    photo, hole = np.zeros((256, 256, 3), np.uint8), disc(256, 30, (80, 90))
    scratch = np.zeros_like(hole)
    scratch[200:230, 10:240] = True  # long, but no circle of 38 px fits
    found = swallowing_part(photo, hole | scratch, NOBODY)
    assert np.array_equal(found, hole)
    assert swallowing_part(photo, scratch, NOBODY) is None
    assert swallowing_part(np.zeros((90, 90, 3), np.uint8), disc(90, 14, (45, 45)), NOBODY) is None, "below 32 px"


def test_a_hole_at_the_edge_counts_by_what_is_inside_the_photo():
    photo = np.zeros((256, 256, 3), np.uint8)
    assert swallowing_part(photo, disc(256, 40, (0, 128)), NOBODY) is not None
    assert swallowing_part(photo, disc(256, 17, (0, 128)), NOBODY) is None


def test_a_visible_face_makes_the_hole_background(restorer):
    photo, hole = skimage.data.astronaut().copy(), disc(512, 60, (420, 420))
    photo[hole] = 0
    assert swallowing_part(photo, hole, restorer.analyzer.search) is None
    assert swallowing_part(photo[256:, 256:], hole[256:, 256:], restorer.analyzer.search) is not None


@pytest.mark.parametrize("force", [False, True])
def test_the_decision_says_the_way_out(force):
    found = abstained(Decision("telea", "face-untouched", "", 0.0, 0.2, numbers={"hole_ratio": 0.2}), force)
    assert (found.strategy, found.forced, found.paints_no_face) == (
        ("telea", True, False) if force else ("abstain", False, True)
    )
    assert "--face-box" in found.reason and "--strategy telea" in found.reason and found.numbers == {"hole_ratio": 0.2}
