"""The odd pictures of tests/attack.py through the whole product: a typed result each, no traceback."""

from __future__ import annotations

import attack
import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.judging.verification import VERDICTS
from idinpaint.types import InputError


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])


def holed(photo: np.ndarray, kind: str) -> np.ndarray:
    """bool [H, W]: strokes, a watermark, or dark glasses over both eyes of the portrait."""
    mask = np.zeros(photo.shape[:2], np.uint8)
    height, width = mask.shape
    if kind == "text":
        for y in range(60, height, 45):
            cv2.putText(mask, "SAMPLE COPY", (12, y), cv2.FONT_HERSHEY_SIMPLEX, 1.1, 1, 5)
    elif kind == "glasses":
        for x in (0.375, 0.62):
            centre, axes = (int(x * width), int(0.475 * height)), (int(0.11 * width), int(0.075 * height))
            cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    else:
        cv2.line(mask, (0, height // 3), (width - 1, height // 2), 1, 5)
    return mask.astype(bool)


@pytest.mark.parametrize("kind", [*attack.PICTURES, "text", "glasses"])
def test_a_typed_result_for_each(restorer, portrait, kind):
    photo = np.ascontiguousarray(attack.PICTURES.get(kind, np.copy)(portrait))
    mask = holed(photo, kind)
    result = restorer(photo, mask, num_samples=1)
    assert photo.dtype == np.uint8 and np.array_equal(result.image[~mask], photo[~mask])
    assert result.report["status"] in ("restored", "abstained") and result.decision.rule
    assert result.decision.strategy in ("telea", "gan", "diffusion", "colorize", "abstain")
    assert result.decision.reason and "\n" not in result.decision.reason
    assert result.report["verdict"] in (None, *VERDICTS)


def test_a_wholly_hidden_photo_and_a_reference_without_a_face_are_refused(restorer, portrait):
    with pytest.raises(InputError):
        restorer(portrait, np.ones(portrait.shape[:2], bool))
    with pytest.raises(InputError, match="face"):
        restorer(portrait, holed(portrait, "line"), references=[attack.PICTURES["no face"](portrait)])
