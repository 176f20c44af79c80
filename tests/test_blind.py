"""Blind grading: what graders see is mixed, and what they gave comes back to what made it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idinpaint.data.grading import TILE, read_grades, write_sheets
from idinpaint.types import InputError

REPO = Path(__file__).parents[1]


def run(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, "eval/blind.py", *map(str, words)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)


def picture(level: int) -> np.ndarray:
    return np.full((TILE, TILE, 3), level, np.uint8)


def test_grades_come_back_to_their_labels(tmp_path):
    rows = [[(["nose", i, k], picture(40 * k)) for k in range(4 if i < 5 else 2)] for i in range(6)]
    assert write_sheets(rows, tmp_path) == 2
    assert json.loads((tmp_path / "kinds.json").read_text()) == {"000": ["nose"] * 5, "001": ["nose"]}
    sheet = np.asarray(Image.open(tmp_path / "000.png"))
    assert sheet[TILE + 100, 3 * TILE + 100, 0] == 120
    grades = tmp_path / "grades.json"
    grades.write_text(json.dumps({"000": "0123" * 5, "001": "2-"}))
    told = list(read_grades(tmp_path, [grades]))
    assert len(told) == 21 and all(grade == k for (_, i, k), _, grade in told if i < 5)
    assert told[-1] == (["nose", 5, 0], 0, 2)
    grades.write_text("[1]")
    with pytest.raises(InputError, match=r"grades\.json: no grades; write"):
        list(read_grades(tmp_path, [grades]))


def test_restored_features_are_painted_mixed_and_judged(shared, tmp_path):
    for name in ("before", "after"):
        done = run("paint", "--data", shared / "data", "--output", tmp_path / name, "--count", 3)
        assert done.returncode == 0, done.stderr[-800:]
    sheets = tmp_path / "sheets"
    assert run("sheets", tmp_path / "before", tmp_path / "after", "--output", sheets).returncode == 0
    plan = json.loads((sheets / "plan.json").read_text())
    assert len(plan) == 12 and sum(row[5] == "true" for row in plan) == 2
    marks = {"true": "3", "after delivered": "2", "after first": "2", "before delivered": "0", "before first": "1"}
    grades = tmp_path / "grades.json"
    grades.write_text(json.dumps({"000": "".join(marks[row[5]] for row in plan)}))
    told = run("table", sheets, grades).stdout
    assert "| true | 100% of 2 | 0% | 3.00 |" in told and "| before delivered | 0% of 3 | 100% | 0.00 |" in told
    assert "after delivered - before delivered: +2.00 [+2.00, +2.00]" in told
    (tmp_path / "after" / "cases.json").write_text("[]")
    refused = run("sheets", tmp_path / "before", tmp_path / "after", "--output", sheets)
    assert refused.returncode == 2 and "other photos" in refused.stderr
