"""A smear where a mouth, a nose or an eye was is told from the true pixels under the same mask."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.imaging.telea import coarse_fill
from idinpaint.judging.believability import NO_TWIN, hidden_features, twin_colour, twin_likeness, window

REPO = Path(__file__).parents[1]
PARTS = {"mouth": range(48, 60), "nose": range(27, 36), "left_eye": range(36, 42)}


@pytest.fixture(scope="module")
def face(restorer):
    """The whole portrait as analysed without a hole."""
    spot = np.zeros((512, 512), bool)
    spot[100:104, 200:204] = True
    return max(restorer.analyzer.analyze(skimage.data.astronaut(), spot), key=lambda f: f.box[2])


def hidden(face, name):
    """The face with one feature under an ellipse: what is known of it, and the mask in it."""
    points = face.landmarks[list(PARTS[name])]
    low, high = points.min(0), points.max(0)
    hole = np.zeros((256, 256), np.uint8)
    axes = tuple(int(v) for v in (high - low) / 2 * 1.35 + 8)
    cv2.ellipse(hole, tuple(int(v) for v in (low + high) / 2), axes, 0, 0, 360, 1, -1)
    shares = {part: float((hole > 0)[region].mean()) for part, region in face.regions.items() if region.any()}
    return replace(face, crop_mask=hole > 0, coverage={**face.coverage, **shares})


@pytest.mark.parametrize("name", PARTS)
def test_smears_are_refused_and_true_pixels_believed(restorer, face, name):
    one = hidden(face, name)
    hole = one.crop_mask[..., None]
    assert name in hidden_features(one)
    true = restorer.believer(face.crop, one)
    assert true.believable and true.worst >= 1 and true.reason == ""
    ring = cv2.dilate(one.crop_mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~one.crop_mask
    smears = {
        "telea": coarse_fill(np.where(hole, 0, face.crop).astype(np.uint8), one.crop_mask),
        "blur": np.where(hole, cv2.GaussianBlur(face.crop, (0, 0), 9), face.crop),
        "mean": np.where(hole, face.crop[ring].mean(0), face.crop).astype(np.uint8),
    }
    for fill, crop in smears.items():
        looked = restorer.believer(crop, one)
        assert name in looked.failed and looked.worst < 1, fill
        assert name.replace("_", " ") in looked.reason and "could not be painted" in looked.reason


def test_an_eye_is_held_against_its_visible_twin(face):
    one = hidden(face, "left_eye")
    patch = window(face.crop, one.crop_mask, "left_eye", face.landmarks, None)
    flat = np.full_like(patch, 128)
    alike = twin_likeness(patch, face.crop, one, "left_eye")
    assert alike > 0.6 > twin_likeness(flat, face.crop, one, "left_eye")
    blind = replace(one, coverage={**one.coverage, "right_eye": 1.0})
    assert twin_likeness(patch, face.crop, blind, "left_eye") == NO_TWIN
    assert twin_likeness(patch, face.crop, one, "mouth") == NO_TWIN


def test_a_red_corner_is_told_from_the_twins_colour(face):
    one = hidden(face, "left_eye")
    red = face.crop.copy()
    x, y = face.landmarks[36].astype(int)
    red[y - 4 : y + 4, x - 2 : x + 8] = (150, 40, 50)
    true = twin_colour(face.crop, one, "left_eye")
    assert twin_colour(red, one, "left_eye") > 2 * true > 0
    darker = (face.crop.astype(float) * 0.8).round().astype(np.uint8)
    shaded = np.where(one.crop_mask[..., None], darker, face.crop)
    assert twin_colour(shaded, one, "left_eye") < 1.5 * true, "shadow is no other colour"
    assert twin_colour(face.crop, one, "mouth") is None
    both = replace(one, coverage={**one.coverage, "right_eye": 1.0})
    assert twin_colour(face.crop, both, "left_eye") is None
    assert twin_colour(face.crop, both, "left_eye", painted=True) == true, (
        "two painted eyes are held against each other"
    )


def test_its_training_runs_on_a_few_photos_with_the_bundled_painters(shared, tmp_path):
    settings = ["photos=24", "held_photos=12", "epochs=1", "painted=3", "held_painted=3", "corners=6", 'bundle=""']
    settings += [f"output_dir={tmp_path / 'run'}", f"data={shared / 'data'}", "leave_out=telea"]
    command = [sys.executable, "training/train_believability.py", "--config", "configs/believability.yaml"]
    flags = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run([*command, *flags], cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-800:]
    written = json.loads((tmp_path / "run" / "believability.json").read_text())["files"]["believability.safetensors"]
    assert (
        written["sha256"] == hashlib.sha256((tmp_path / "run" / "believability.safetensors").read_bytes()).hexdigest()
    )
