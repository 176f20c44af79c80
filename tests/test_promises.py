"""The three promises of the design, as properties of the real bundled model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idinpaint.judging.ranking import TIE

ROUNDS = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
FACE_BOX = (170.0, 60.0, 110.0, 130.0)  # of the astronaut


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return skimage.data.astronaut()


@st.composite
def masks(draw: st.DrawFn, size: int = 512) -> np.ndarray:
    """One to four strokes or boxes that tend to hit the face; never empty, never full."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(draw(st.integers(1, 4))):
        x, y = draw(st.integers(130, 320)), draw(st.integers(20, 230))
        if draw(st.booleans()):
            cv2.line(
                mask, (x, y), (draw(st.integers(0, size - 1)), draw(st.integers(0, 260))), 1, draw(st.integers(1, 18))
            )
        else:
            cv2.rectangle(mask, (x, y), (x + draw(st.integers(1, 60)), y + draw(st.integers(1, 50))), 1, -1)
    mask[draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))] = 1
    return mask.astype(bool)


@pytest.mark.parametrize("strategy", ["auto", "telea", "prior", "gan", "diffusion"])
@ROUNDS
@given(mask=masks(), force=st.booleans(), seed=st.integers(0, 1000))
def test_known_pixels_are_bit_identical(restorer, portrait, strategy, mask, force, seed):
    result = restorer(portrait, mask, strategy=strategy, num_samples=1, steps=2, seed=seed, force=force)
    assert np.array_equal(result.image[~mask], portrait[~mask])


@pytest.mark.parametrize("strategy", ["auto", "telea", "gan", "diffusion"])
@ROUNDS
@given(mask=masks(), noise_seed=st.integers(0, 1000))
def test_nothing_under_the_mask_leaks(restorer, portrait, strategy, mask, noise_seed):
    noisy = portrait.copy()
    noisy[mask] = np.random.default_rng(noise_seed).integers(0, 256, (int(mask.sum()), 3))
    arguments = {"strategy": strategy, "num_samples": 1, "steps": 2, "seed": 3}
    first, second = restorer(portrait, mask, **arguments), restorer(noisy, mask, **arguments)
    assert np.array_equal(first.image[mask], second.image[mask])
    assert first.decision == second.decision
    seconds = "seconds"
    assert {k: v for k, v in first.report.items() if k != seconds} == {
        k: v for k, v in second.report.items() if k != seconds
    }


def hidden_face() -> np.ndarray:
    mask = np.zeros((512, 512), bool)
    mask[95:165, 180:270] = True
    return mask


def test_abstaining_is_a_result_with_a_reason(restorer, portrait):
    mask = hidden_face()
    result = restorer(portrait, mask, face_box=FACE_BOX)
    assert result.abstained and result.report["status"] == "abstained"
    assert "invented" in result.decision.reason
    assert np.array_equal(result.image[~mask], portrait[~mask])
    # The hole is marked in grey, not repainted.
    assert np.all(result.image[mask] == result.image[mask][:, :1])


def test_force_overrides_and_says_so(restorer, portrait):
    result = restorer(portrait, hidden_face(), face_box=FACE_BOX, force=True, num_samples=1, steps=2)
    assert not result.abstained
    assert result.decision.forced and "forced" in result.decision.reason
    own = [candidate for candidate in result.candidates[0] if candidate.painter is None]
    assert len(own) == 1 and len(result.candidates[0]) <= 3  # the two other networks paint where it is not believable


def test_same_seed_same_bytes_and_samples_differ(restorer, portrait):
    mask = np.zeros((512, 512), bool)
    mask[100:125, 195:235] = True
    runs = [restorer(portrait, mask, strategy="diffusion", num_samples=2, steps=2, seed=s) for s in (1, 1, 9)]
    assert np.array_equal(runs[0].image, runs[1].image)
    assert not np.array_equal(runs[0].image, runs[2].image)
    first, second = (c.image for c in runs[0].candidates[0])
    assert not np.array_equal(first, second)
    similarities = [c.identity_similarity for c in runs[0].candidates[0]]
    assert similarities[0] >= max(similarities) - TIE
