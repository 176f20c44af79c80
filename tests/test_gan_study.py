"""The GAN study's measures on pictures whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))

from gan_study import checkerboard, main, map_picture, zones
from methods import generator_of
from PIL import Image


def test_zones_are_the_deeper_and_the_shallower_half():
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    centre, border = zones(mask)
    assert centre[32, 32] and border[16, 20] and not (centre & border).any()
    assert np.array_equal(centre | border, mask) and 0.35 < centre.sum() / mask.sum() < 0.6


def test_checkerboard_is_seen_and_noise_is_none():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(256, 256))
    ys, xs = np.mgrid[:256, :256]
    assert checkerboard(noise) == pytest.approx(1, abs=0.3)
    assert checkerboard(noise + 0.5 * (-1.0) ** xs) > 10
    assert checkerboard(noise + 0.5 * (-1.0) ** (xs + ys)) > 10


def test_map_picture_has_both_maps(tmp_path):
    mask = np.zeros((256, 256), bool)
    mask[64:192, 64:192] = True
    picture = map_picture(mask)
    assert picture.shape == (3 * 256, 3 * 256)
    known, plain, counted = (picture[512:, i * 256 : (i + 1) * 256] for i in range(3))
    assert (plain[known == 255] == 255).all() and (counted[known == 255] == 255).all()
    assert len(np.unique(plain)) <= 8 < len(np.unique(counted))  # steps, and a slope
    assert main(["maps", "--output", str(tmp_path / "maps.png")]) == 0
    assert Image.open(tmp_path / "maps.png").size == (768, 768)


def test_generator_of_a_method():
    assert generator_of("gan:runs/x/generator+ref2") == "runs/x/generator" and generator_of("gan") is None
    assert generator_of("diffusion+ref1") is None and generator_of("gan:lafin") == "lafin"
