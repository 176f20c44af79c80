"""Every kind of mask file a person might bring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from idinpaint.imaging.encoders import write_png16
from idinpaint.imaging.mask_io import load_mask
from idinpaint.types import InputError

SIZE = (40, 30)
HOLE = np.zeros((30, 40), bool)
HOLE[5:15, 8:20] = True


def save(tmp_path, values, name="m.png", mode=None):
    image = Image.fromarray(np.asarray(values, np.uint8))
    (image.convert(mode) if mode else image).save(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_modes(tmp_path, mode):
    mask, notices = load_mask(save(tmp_path, HOLE * 255, mode=mode), SIZE)
    assert mask.dtype == np.bool_ and np.array_equal(mask, HOLE) and notices == []


def test_sixteen_bits(tmp_path):
    with open(tmp_path / "m.png", "wb") as file:
        write_png16(file, (HOLE * 65535).astype(np.uint16)[..., None], None, None)
    assert np.array_equal(load_mask(tmp_path / "m.png", SIZE)[0], HOLE)


def test_invert(tmp_path):
    assert np.array_equal(load_mask(save(tmp_path, ~HOLE * 255), SIZE, invert=True)[0], HOLE)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_inverting_twice_is_the_same(tmp_path_factory, seed):
    values = 255 * np.random.default_rng(seed).integers(0, 2, (30, 40))
    path = save(tmp_path_factory.mktemp("mask"), values)
    assert np.array_equal(load_mask(path, SIZE)[0], ~load_mask(path, SIZE, invert=True)[0])
    assert np.array_equal(load_mask(path, SIZE)[0], values >= 128)


@pytest.mark.parametrize("scale", [2, 5])
def test_same_aspect_ratio_is_resized_nearest_and_said(tmp_path, scale):
    mask, notices = load_mask(save(tmp_path, HOLE * 255), (40 * scale, 30 * scale))
    assert np.array_equal(mask, np.kron(HOLE, np.ones((scale, scale), bool)))
    assert "resized from 40x30" in notices[0] and "NEAREST" in notices[0]
    big = np.kron(HOLE, np.ones((scale, scale), bool))
    assert np.array_equal(load_mask(save(tmp_path, big * 255), SIZE)[0], HOLE)


def test_aspect_ratio_rounded_to_a_pixel_is_accepted(tmp_path):
    load_mask(save(tmp_path, np.kron(HOLE, np.ones((9, 9))) * 255), (4001, 3000))
    load_mask(save(tmp_path, HOLE * 255), (1333, 1000))


@pytest.mark.parametrize("size, said", [((30, 40), "turned by 90"), ((40, 40), "aspect ratio"), ((80, 55), "aspect")])
def test_another_aspect_ratio_is_refused(tmp_path, size, said):
    with pytest.raises(InputError, match=said):
        load_mask(save(tmp_path, HOLE * 255), size)


@pytest.mark.parametrize(
    "value, said", [(0, "empty"), (255, "whole photo"), (127, "uniform grey"), (128, "uniform grey")]
)
def test_uniform_masks_are_refused(tmp_path, value, said):
    with pytest.raises(InputError, match=said) as error:
        load_mask(save(tmp_path, np.full((30, 40), value)), SIZE)
    assert "\n" not in str(error.value) and "m.png" in str(error.value)


def test_a_hole_drawn_in_dark_grey_is_refused_with_the_value(tmp_path):
    with pytest.raises(InputError, match="127, below half"):
        load_mask(save(tmp_path, HOLE * 127), SIZE)


@pytest.mark.parametrize("invert", [False, True])
def test_all_that_a_soft_rim_touches_is_hole_and_said(tmp_path, invert):
    values = HOLE * 255
    values[5, 8:20], values[14, 8:20] = 40, 128
    values[25, 30] = 100  # grey that touches no hole
    values = 255 - values if invert else values
    mask, notices = load_mask(save(tmp_path, values), SIZE, invert=invert)
    assert np.array_equal(mask, HOLE) and "grey" in notices[0]


def test_the_rings_of_a_jpeg_are_no_rim(tmp_path):
    hole = np.zeros((60, 80), bool)
    hole[21:41, 19:50] = True
    Image.fromarray((hole * 255).astype(np.uint8)).save(tmp_path / "m.jpg", quality=75)
    assert np.mean(load_mask(tmp_path / "m.jpg", (80, 60))[0] != hole) < 0.01


def test_a_mask_lost_by_shrinking_is_refused(tmp_path):
    values = np.zeros((300, 400))
    values[1, 1] = 255
    with pytest.raises(InputError, match="empty"):
        load_mask(save(tmp_path, values), SIZE)


def test_inverted_looking_masks_are_warned_about(tmp_path):
    mask, notices = load_mask(save(tmp_path, ~HOLE * 255), SIZE)
    assert np.array_equal(mask, ~HOLE) and "--invert-mask" in notices[0]


@pytest.mark.parametrize("colour", ["black", "photo", "white strokes", "black and white"])
def test_transparency(tmp_path, colour):
    rng = np.random.default_rng(0)
    rgba = np.zeros((30, 40, 4), np.uint8)
    if colour == "white strokes":
        rgba[HOLE] = 255
    elif colour == "black and white":
        rgba[:20, :, 3] = 255
        rgba[HOLE] = 255
    else:
        rgba[..., :3] = rng.integers(0, 256, (30, 40, 3)) if colour == "photo" else 0
        rgba[..., 3] = ~HOLE * 255
    mask, notices = load_mask(save(tmp_path, rgba), SIZE)
    assert np.array_equal(mask, HOLE) and "transparency" in notices[0]


def test_a_wholly_transparent_mask_is_refused(tmp_path):
    with pytest.raises(InputError, match="transparent"):
        load_mask(save(tmp_path, np.zeros((30, 40, 4))), SIZE)


def test_exif_orientation_of_a_mask_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(HOLE * 255).astype(np.uint8)).save(tmp_path / "m.png", exif=exif)
    assert np.array_equal(load_mask(tmp_path / "m.png", SIZE)[0], HOLE)


# what people paint ------------------------------------------------------------------------------------------------

COLOURS = {"red": (255, 0, 0), "black": (0, 0, 0), "yellow": (255, 255, 0), "grey": (128, 128, 128), "blue": (0, 0, 90)}


def portrait(size=SIZE):
    """A colourful picture without flat parts."""
    y, x = np.mgrid[: size[1], : size[0]]
    noise = np.random.default_rng(0).normal(0, 15, (size[1], size[0], 3))
    return np.clip(np.stack([40 + 4 * x, 200 - 5 * y, 90 + 2 * (x + y)], -1) + noise, 0, 230).astype(np.uint8)


@pytest.mark.parametrize("opacity", [255, 100])
@pytest.mark.parametrize("colour", COLOURS)
def test_strokes_on_a_transparent_layer_whatever_their_colour(tmp_path, colour, opacity):
    rgba = np.zeros((30, 40, 4), np.uint8)
    rgba[HOLE] = (*COLOURS[colour], opacity)
    mask, notices = load_mask(save(tmp_path, rgba), SIZE)
    assert np.array_equal(mask, HOLE) and "transparen" in notices[0]


@pytest.mark.parametrize("ground", [0, 255])
@pytest.mark.parametrize("colour", ["red", "yellow", "blue"])
def test_coloured_strokes_on_a_plain_ground(tmp_path, colour, ground):
    rgb = np.full((30, 40, 3), ground, np.uint8)
    rgb[HOLE] = COLOURS[colour]
    for mode in (None, "P"):
        mask, notices = load_mask(save(tmp_path, rgb, mode=mode), SIZE)
        assert np.array_equal(mask, HOLE) and "colour" in notices[0]


def test_masks_of_zero_and_one(tmp_path):
    mask, notices = load_mask(save(tmp_path, HOLE), SIZE)
    assert np.array_equal(mask, HOLE) and "0 and 1" in notices[0]
    assert np.array_equal(load_mask(save(tmp_path, HOLE), SIZE, invert=True)[0], ~HOLE)


@pytest.mark.parametrize("colour", ["red", "black", "blue"])
@pytest.mark.parametrize("name", ["m.png", "m.jpg"])
def test_a_marked_copy_of_the_photo_is_the_mask_of_its_marks(tmp_path, colour, name):
    photo = np.kron(portrait(), np.ones((4, 4, 1))).astype(np.uint8)
    hole = np.kron(HOLE, np.ones((4, 4), bool))
    marked = photo.copy()
    marked[hole] = COLOURS[colour]
    Image.fromarray(marked).save(tmp_path / name, **({} if name.endswith("png") else {"quality": 92}))
    mask, notices = load_mask(tmp_path / name, (160, 120), photo=photo)
    wrong = mask != hole
    assert wrong.sum() == 0 if name == "m.png" else wrong.mean() < 0.02
    assert any("marked copy" in notice for notice in notices)


def test_a_photo_is_no_mask(tmp_path):
    photo = portrait()
    with pytest.raises(InputError, match="without marks"):
        load_mask(save(tmp_path, photo), SIZE, photo=photo)
    for other in (None, photo[::-1].copy()):
        with pytest.raises(InputError, match="looks like a photo"):
            load_mask(save(tmp_path, photo), SIZE, photo=other)
