"""Mask generation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.imaging.masks import augment, blocks, feature_block, hole_ratio, random_mask, scratches, strokes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([64, 112, 256]))
def test_random_masks_have_the_promised_ratio_and_repeat(seed, size):
    first = random_mask(np.random.default_rng(seed), size, max_ratio=0.5)
    assert first.dtype == bool and first.shape == (size, size)
    assert 0.005 < hole_ratio(first) < 0.5
    assert np.array_equal(first, random_mask(np.random.default_rng(seed), size, max_ratio=0.5))


@pytest.mark.parametrize("maker", [strokes, scratches, blocks, feature_block])
def test_every_generator_draws_something(maker):
    ratios = [maker(np.random.default_rng(i), 128).mean() for i in range(20)]
    assert np.median(ratios) > 0.003 and np.median(ratios) < 0.7


def test_augment_keeps_a_binary_mask_of_the_asked_size():
    mask = np.zeros((90, 90), bool)
    mask[20:60, 10:50] = True
    out = augment(np.random.default_rng(0), mask, 64)
    assert out.shape == (64, 64) and out.dtype == bool and 0 < out.mean() < 1
