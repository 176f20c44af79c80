"""The fill gets the print's grain and tone, from known pixels only; a smooth photo's fill stays as it is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from idinpaint.imaging.compositing import known_ring
from idinpaint.imaging.grain import SIGMA, read_grain
from idinpaint.imaging.print_look import LUMA, read_look, read_tone
from idinpaint.imaging.telea import coarse_fill
from idinpaint.painting.candidates import with_candidate

SEPIA = (np.array([0.9, 0.82, 0.68]), np.array([24, 14, 4]))


def scene(side: int = 256) -> np.ndarray:
    """A smooth grey picture with an edge, float [side, side]."""
    y, x = np.mgrid[:side, :side] / side
    return 90 + 60 * np.sin(3 * x + y) + 25 * (np.hypot(x - 0.6, y - 0.4) < 0.2)


def grainy(strength: float, size: float, colour: bool, seed: int = 0, side: int = 256) -> np.ndarray:
    """The scene as RGB with grain of a deviation (levels) and a size (px, 0: white noise)."""
    noise = np.random.default_rng(seed).standard_normal((side, side, 3 if colour else 1))
    noise = (cv2.GaussianBlur(noise, (0, 0), size) if size else noise).reshape(side, side, -1)
    return np.clip(np.rint(scene(side)[..., None] + noise * strength / noise.std() + np.zeros(3)), 0, 255).astype(
        np.uint8
    )


def hole(side: int = 256) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 3, side // 2), side // 8, 1, -1)
    cv2.line(mask, (side // 2, 10), (side - 10, side - 20), 1, 5)
    return mask.astype(bool)


def high_pass(rgb: np.ndarray) -> np.ndarray:
    luma = rgb.astype(np.float32) @ LUMA
    return luma - cv2.GaussianBlur(luma, (0, 0), SIGMA)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("strength, size", [(4, 0), (8, 0.7), (12, 1.2), (20, 1.6)])
def test_grain_in_the_hole_is_that_of_its_surroundings(strength, size, colour):
    photo, mask = grainy(strength, size, colour), hole()
    smooth = coarse_fill(photo, mask)
    result = read_look(photo, mask, seed=3).finish(smooth, mask)
    inside, around = high_pass(result)[mask].std(), high_pass(photo)[known_ring(mask, 16)].std()
    assert high_pass(smooth)[mask].std() < 0.6 * around
    assert inside == pytest.approx(around, rel=0.2)
    np.testing.assert_array_equal(result[~mask], photo[~mask])
    if colour:  # its colour too: how far the channels go apart
        apart = [(x[..., 0].astype(float) - x[..., 2])[m].std() for x, m in ((result, mask), (photo, ~mask))]
        assert apart[0] == pytest.approx(apart[1], rel=0.25)
    else:
        assert (result[mask].max(-1) == result[mask].min(-1)).all()


def test_grain_has_the_spectrum_of_the_print():
    """Neighbouring pixels of coarse grain are alike, those of white noise are not."""
    likeness = {}
    for size in (0, 1.5):
        field = read_grain(grainy(12, size, False), hole()).field((0,))[..., 0]
        likeness[size] = float(np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1])
    assert abs(likeness[0]) < 0.15 and likeness[1.5] > 0.7


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    photo, mask = grainy(8, 0.7, True), hole()
    smooth = coarse_fill(photo, mask)
    made = [read_look(photo, mask, seed).finish(smooth, mask) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_nothing_under_the_mask_is_read():
    photo, mask = grainy(8, 0.7, True), hole()
    other = photo.copy()
    other[mask] = np.random.default_rng(5).integers(0, 256, (int(mask.sum()), 3))
    smooth = coarse_fill(photo, mask)
    made = [read_look(seen, mask).finish(smooth, mask) for seen in (photo, other)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("kind", ["smooth", "edges", "flat", "texture in one half", "clipped", "tiny"])
def test_a_photo_without_grain_gets_none(kind):
    rng = np.random.default_rng(0)
    photo = np.repeat(scene()[..., None], 3, 2)
    photo[..., 2] *= 0.5  # in colour, so that no tone is laid on either
    photo[:40, :, 0] = 200
    if kind == "edges":
        photo[::70] = 20
    elif kind == "flat":
        photo[:] = (40, 90, 160)
        photo[:, 128:] = (200, 20, 20)
    elif kind == "texture in one half":
        photo[:, :128] += rng.normal(0, 15, (256, 128, 1))
    elif kind == "clipped":
        photo = np.where(photo > 120, 255, 0)
        photo[60:90] = (200, 30, 30)
    photo, mask = np.clip(np.rint(photo), 0, 255).astype(np.uint8), hole()
    if kind == "tiny":
        photo, mask = photo[:24, 120:150].copy(), np.zeros((24, 30), bool)
        mask[5:9, 5:9] = True
    look = read_look(photo, mask)
    assert look.grain is None
    filled = coarse_fill(photo, mask)
    assert look.tone is not None or look.finish(filled, mask) is filled


def test_clean_portrait_keeps_its_fill():
    from skimage.data import astronaut

    photo = astronaut()
    mask = np.zeros(photo.shape[:2], bool)
    mask[120:180, 200:260] = True
    assert read_tone(photo, mask) is None
    smoothed = cv2.GaussianBlur(photo, (0, 0), 1.5)
    assert read_look(smoothed, mask).grain is None


@pytest.mark.parametrize("noise", [0, 6])
def test_red_paint_in_a_neutral_print_becomes_neutral(noise):
    photo, mask = grainy(max(noise, 0.01), 0, False), hole()
    painted = coarse_fill(photo, mask)
    painted[mask] = np.clip(painted[mask].astype(int) + (70, -10, -20), 0, 255)
    result = read_look(photo, mask).finish(painted, mask)
    assert int((result[mask].max(-1).astype(int) - result[mask].min(-1)).max()) <= 2
    np.testing.assert_array_equal(result[~mask], photo[~mask])


def test_red_paint_in_a_sepia_print_becomes_sepia():
    factor, lift = SEPIA
    photo = np.clip(np.rint(grainy(4, 0.7, False) * factor + lift), 0, 255).astype(np.uint8)
    mask = hole()
    painted = coarse_fill(photo, mask)
    painted[mask] = np.clip(painted[mask].astype(int) + (80, -20, 10), 0, 255)
    look = read_look(photo, mask)
    result = look.finish(painted, mask)
    luma = result[mask].astype(float) @ LUMA
    grey = (luma - lift @ LUMA) / (factor @ LUMA)
    assert np.abs(result[mask] - (grey[:, None] * factor + lift)).max() <= 4
    assert look.said()["tone"] == "toned"


def test_a_photo_in_colour_keeps_its_colours():
    photo, mask = np.repeat(scene()[..., None], 3, 2).astype(np.uint8), hole()
    photo[150:200, 150:200] = (200, 60, 60)  # lips in a grey world: not a print of one tone
    assert read_tone(photo, mask) is None


def test_restored_with_grain_or_without(restorer):
    photo, mask = grainy(8, 0.7, False), hole()
    made = {grain: restorer(photo, mask, strategy="telea", seed=1, grain=grain) for grain in ("auto", "none")}
    deviation = {grain: high_pass(done.image)[mask].std() for grain, done in made.items()}
    assert deviation["auto"] > 2 * deviation["none"]
    assert made["auto"].report["print_look"]["grain"] > 2 and made["none"].report["print_look"]["grain"] is None
    for done in made.values():
        assert done.report["print_look"]["tone"] == "neutral"
        np.testing.assert_array_equal(done.image[~mask], photo[~mask])


def test_a_face_in_a_sepia_print_gets_grain_and_no_red_lips(restorer):
    from skimage.data import astronaut

    factor, lift = SEPIA
    grey = (astronaut() @ LUMA)[..., None] + np.random.default_rng(0).normal(0, 6, (512, 512, 1))
    photo = np.clip(np.rint(grey * factor + lift), 0, 255).astype(np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[138:160, 190:262] = True  # mouth and chin
    done = restorer(photo, mask, references=[astronaut()], strategy="prior", num_samples=2, seed=0)
    second = with_candidate(done, photo, mask, 2)
    for image in (done.image, second.image):
        inside = mask & (image < 255).all(axis=-1)  # paper white is cut off
        luma = image[inside].astype(float) @ LUMA
        tone = ((luma - lift @ LUMA) / (factor @ LUMA))[:, None] * factor + lift
        assert np.abs(image[inside] - tone).max() <= 4
        ring = known_ring(mask, 24)
        assert high_pass(image)[mask].std() > 0.6 * np.percentile(np.abs(high_pass(photo)[ring]), 50)
        np.testing.assert_array_equal(image[~mask], photo[~mask])


def test_a_tiny_photo_has_no_grain_to_read():
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    hole = np.zeros((64, 64), bool)
    hole[20:40, 20:40] = True
    assert read_look(np.where(hole[..., None], 0, photo).astype(np.uint8), hole).grain is None
