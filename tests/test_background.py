"""The background's fill: keeps what is known, reads nothing hidden, goes on with edges, and knows its limits."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.imaging import background
from idinpaint.imaging.background import available, refine_background
from idinpaint.imaging.telea import coarse_fill

needs_waves = pytest.mark.skipif(
    not available(), reason="this OpenCV lacks xphoto: pip install --force-reinstall opencv-contrib-python-headless"
)


def striped(height: int = 120, width: int = 160) -> np.ndarray:
    """Slanted stripes with soft edges, uint8 [H, W, 3]."""
    ys, xs = np.mgrid[:height, :width]
    wave = 127 + 90 * np.sin((xs + 0.5 * ys) / 5)
    return np.repeat(wave.astype(np.uint8)[..., None], 3, 2)


def stroke(shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    cv2.line(mask, (20, 30), (shape[1] - 25, shape[0] - 35), 1, 9)
    return mask.astype(bool)


@needs_waves
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 70), st.integers(1, 70), st.floats(0.01, 0.9), st.booleans())
def test_only_the_hole_changes_and_nothing_in_it_is_read(seed, height, width, share, more):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    hole = rng.random((height, width)) < share
    unknown = (rng.random((height, width)) < 0.2) & ~hole & more
    result = refine_background(photo, hole, unknown)
    assert np.array_equal(result[~hole], photo[~hole])
    noisy = photo.copy()
    hidden = hole | unknown
    noisy[hidden] = rng.integers(0, 256, (int(hidden.sum()), 3))
    again = refine_background(noisy, hole, unknown)
    if not hidden.all():
        assert np.array_equal(again[hole], result[hole])


@needs_waves
def test_edges_go_on_where_telea_smears_them():
    photo = striped()
    hole = stroke(photo.shape[:2])
    lost = np.where(hole[..., None], 0, photo).astype(np.uint8)
    filled = coarse_fill(lost, hole)
    refined = refine_background(filled, hole, np.zeros_like(hole))

    def error(picture: np.ndarray) -> float:
        return np.abs(picture.astype(int) - photo)[hole].mean()

    assert error(refined) < 0.3 * error(filled)


@needs_waves
def test_the_same_photo_gives_the_same_bytes():
    photo, hole = striped(), stroke((120, 160))
    nothing = np.zeros_like(hole)
    assert np.array_equal(refine_background(photo, hole, nothing), refine_background(photo, hole, nothing))


def test_what_is_too_large_or_too_deep_stays_as_it_was(monkeypatch):
    photo = striped(300, 300)
    nothing = np.zeros((300, 300), bool)
    deep = nothing.copy()
    deep[90:210, 90:210] = True
    assert np.array_equal(refine_background(photo, deep, nothing), photo)
    monkeypatch.setattr(background, "MOST", 100)
    assert np.array_equal(refine_background(photo, stroke((300, 300)), nothing), photo)


def test_without_the_contrib_module_it_stays_as_it_was(monkeypatch):
    monkeypatch.setattr(background, "available", lambda: False)
    photo, hole = striped(), stroke((120, 160))
    assert np.array_equal(refine_background(photo, hole, np.zeros_like(hole)), photo)


def test_an_empty_hole_and_a_wrong_mask():
    photo = striped()
    nothing = np.zeros((120, 160), bool)
    assert np.array_equal(refine_background(photo, nothing, nothing), photo)
    with pytest.raises(ValueError, match="mask"):
        refine_background(photo, np.zeros((5, 5), bool), nothing)


@needs_waves
def test_restoring_refines_what_lies_outside_the_faces(restorer):
    photo = pytest.importorskip("skimage.data", reason="scikit-image has the portrait").astronaut()
    hole = np.zeros(photo.shape[:2], np.uint8)
    cv2.line(hole, (390, 345), (470, 430), 1, 16)  # the helmet, far from the face
    cv2.line(hole, (210, 105), (235, 110), 1, 8)  # a brow
    hole = hole.astype(bool)
    helmet, given = hole & (np.arange(512) > 350), {"face_box": (170, 60, 110, 130), "num_samples": 1, "grain": "none"}
    telea = coarse_fill(np.where(hole[..., None], 0, photo).astype(np.uint8), hole)

    def error(picture: np.ndarray) -> float:
        return np.abs(picture.astype(int) - photo)[helmet].mean()

    result = restorer(photo, hole, **given).image
    assert error(result) < 0.8 * error(telea)
    assert np.array_equal(restorer(photo, hole, strategy="telea", **given).image, telea)  # asked for, so kept
    marked = restorer(photo, hole, max_coverage=0, **given)
    assert marked.abstained and np.array_equal(marked.image[helmet], result[helmet])
