"""The adaptive parts with the real bundled model: ladder, overrides, references, ranking, verification, report."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from idinpaint import Restorer
from idinpaint.controller import load_controller

FACE_BOX = (170.0, 60.0, 110.0, 130.0)  # of the astronaut


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(autouse=True)
def shipped_ladder(restorer):
    yield
    restorer.use_controller(None)


def lower_face() -> np.ndarray:
    """Mouth, nose and cheeks: above 30 % of the features."""
    mask = np.zeros((512, 512), bool)
    mask[118:185, 175:275] = True
    return mask


def one_eye() -> np.ndarray:
    mask = np.zeros((512, 512), bool)
    mask[100:125, 195:222] = True
    return mask


def test_above_the_ladder_the_hole_is_toned_and_counts_as_abstained(restorer, portrait):
    mask = lower_face()
    result = restorer(portrait, mask, face_box=FACE_BOX)
    assert result.decision.strategy == "colorize" and result.abstained, result.decision
    assert result.report["status"] == "abstained" and result.candidates == [[]]
    assert np.array_equal(result.image[~mask], portrait[~mask])
    inner = result.image[125:178, 182:268].astype(int)
    assert np.abs(np.diff(inner, axis=0)).max() <= 12 and np.abs(np.diff(inner, axis=1)).max() <= 12


def test_what_a_user_sets_is_recorded(restorer, portrait, tmp_path):
    result = restorer(portrait, lower_face(), face_box=FACE_BOX, max_coverage=0.9, num_samples=1)
    assert result.decision.strategy == "diffusion" and not result.abstained
    assert result.report["decision"]["overrides"] == {"max_coverage": 0.9}
    ladder = tmp_path / "mine.yaml"
    ladder.write_text("above_colour: [telea, telea]\nweights: {mouth: 1.0}\n")
    restorer.use_controller(ladder)
    result = restorer(portrait, lower_face(), face_box=FACE_BOX)
    assert result.decision.strategy == "telea"
    assert result.decision.face_coverage == pytest.approx(result.faces[0].coverage["mouth"])
    assert result.report["decision"]["overrides"] == {"controller": str(ladder)}
    assert load_controller() is not restorer.controller


def test_a_missing_strategy_falls_back(restorer, portrait, tmp_path):
    ladder = tmp_path / "mine.yaml"
    ladder.write_text("up_to_low: [gan, gan]\nlow: 0.9\nstop: 0.95\ncolour: 0.95\n")
    restorer.use_controller(ladder)
    restorer_available, restorer.available = restorer.available, ("telea", "diffusion", "colorize", "abstain")
    try:
        result = restorer(portrait, one_eye(), face_box=FACE_BOX, num_samples=1)
    finally:
        restorer.available = restorer_available
    assert (result.decision.strategy, result.decision.instead_of) == ("diffusion", "gan")
    assert len(result.candidates[0]) == 1
