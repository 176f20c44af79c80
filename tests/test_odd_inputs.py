"""A handful of the odd inputs of eval/odd_inputs.py on scikit-image's portrait: a typed result each, no traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "eval"))

import odd_inputs  # noqa: E402


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])


@pytest.mark.parametrize(
    "kind, outcomes",
    [
        ("text", ("restored", "abstained")),
        ("two_faces", ("restored", "abstained")),
        ("drawing", ("restored", "abstained")),
        ("lollipop", ("restored", "abstained")),
        ("sunglasses", ("restored", "abstained")),
        ("full_mask", ("refused",)),
    ],
)
def test_a_typed_result_for_each(restorer, portrait, kind, outcomes):
    row = odd_inputs.run_one(restorer, kind, 0, portrait)
    assert row["outcome"] in outcomes, row
    assert row["message"] and "\n" not in row["message"]
    if row["outcome"] != "refused":
        assert row["strategy"] in ("telea", "gan", "diffusion", "colorize", "abstain") and row["rule"]
        assert row["verdict"] is None or row["verdict"] in ("verified", "plausible", "not_verified", "abstained")


def test_every_kind_makes_a_photo_and_a_mask_of_one_size(portrait):
    for kind, maker in odd_inputs.KINDS.items():
        odd = maker(portrait.copy(), np.random.default_rng(0))
        assert odd.photo.dtype == np.uint8 and odd.photo.shape == (*odd.mask.shape, 3), kind
        assert odd.mask.dtype == bool and odd.mask.any(), kind


def test_the_table_counts_what_happened():
    rows = [
        {"kind": "text", "outcome": "restored", "strategy": "gan", "verdict": "plausible", "seconds": 1.0},
        {"kind": "text", "outcome": "abstained", "strategy": "abstain", "verdict": "abstained", "seconds": 3.0},
        {"kind": "sliver", "outcome": "refused", "seconds": 0.1},
    ]
    table = odd_inputs.markdown(rows)
    assert "| text | 2 | restored 1, abstained 1 | gan 1, abstain 1 | plausible 1, abstained 1 | 2.00 |" in table
    assert "| sliver | 1 | refused 1 | - | - | 0.10 |" in table
