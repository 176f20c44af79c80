"""Similarity, verdicts and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from idinpaint.faces import likeness
from idinpaint.report import reporting as verify
from idinpaint.types import Candidate, Decision, FaceAnalysis


def face(id_embed: np.ndarray | None) -> FaceAnalysis:
    blank = np.zeros((256, 256), bool)
    return FaceAnalysis(
        box=(np.float64(1), 2.0, 3.0, 4.0),
        crop_to_photo=np.eye(2, 3),
        crop=np.zeros((256, 256, 3), np.uint8),
        crop_mask=blank,
        landmarks=np.zeros((68, 2)),
        landmark_confidence=np.full(68, 0.5, np.float32),
        regions={},
        coverage={"nose": np.float32(0.25)},
        face_coverage=0.1,
        id_embed=id_embed,
    )


def test_similarity() -> None:
    a = np.array([3.0, 4.0])
    assert likeness.similarity(a, a * 7) == pytest.approx(1)
    assert likeness.similarity(a, -a) == pytest.approx(-1)
    for b in (np.zeros(2), np.array([np.nan, 1]), np.ones(3), np.ones((1, 2))):
        with pytest.raises(ValueError, match="similarity"):
            likeness.similarity(a, b)


@pytest.mark.parametrize(
    ("value", "name"), [(0.9, "same"), (0.36, "same"), (0.3, "uncertain"), (0.26, "uncertain"), (0.24, "different")]
)
def test_verdicts(value: float, name: str) -> None:
    verdict = likeness.verdict_for(value, 0.3)
    assert verdict.verdict == name and verdict.same == (name == "same") and "0.30" in verdict.text


def test_verdict_refuses_nan() -> None:
    with pytest.raises(ValueError, match="nan"):
        likeness.verdict_for(float("nan"), 0.3)


def test_report_is_json() -> None:
    decision = Decision("abstain", "eyes", "both eyes are hidden", 0.6, np.float64(0.2))
    made = [Candidate(np.zeros((256, 256, 3), np.uint8), 5, np.float32(0.5), 1.5, 2.0, "why")]
    rows = [verify.face_report(face(None), decision, made), verify.face_report(face(np.ones(4)))]
    report = verify.build_report(
        decision,
        rows,
        "abstained",
        notices=["the mask was resized"],
        seconds={"inpaint": 1.5},
        image=Path("a.png"),
        bad=float("nan"),
    )
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again["status"] == "abstained" and again["decision"]["reason"] == "both eyes are hidden"
    first, second = again["faces"]
    assert first["candidates"] == [
        {"seed": 5, "identity_similarity": 0.5, "seam": 1.5, "landmark_shift": 2.0, "reason": "why"}
        | {"shown": [], "believable": None, "painter": None, "apart": None}
    ]
    assert not first["identity_readable"] and second["identity_readable"] and second["verification"] is None
    assert first["invented"]["features"] == [], "nothing is painted when it abstains"
    assert again["image"] == "a.png" and again["bad"] is None and again["notices"] == ["the mask was resized"]
    lines = verify.summary_lines(again)
    assert lines[0] == "face 1: nose hidden in part" and "  kept: one try" in lines
