"""A sample's noise is made of chosen parts; the same number gives the same noise."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from idinpaint.painting.base import FillRequest
from idinpaint.painting.chosen_noise import parts_of, sample_noise
from idinpaint.painting.diffusion import DiffusionInpainter

REPO = Path(__file__).parents[1]
SHAPE = (16, 32, 32)


def plain(seed: int) -> torch.Tensor:
    return torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(seed))[0]


@pytest.mark.parametrize(("number", "chosen"), [(3, None), (3, []), (1 << 40, None), (-3, None)])
def test_without_a_choice_the_seed_is_the_samples_number(number, chosen):
    assert torch.equal(sample_noise(SHAPE, number, chosen), plain(number))


def test_the_parts_of_a_chosen_sample_come_from_their_seeds():
    noise = sample_noise(SHAPE, 1, [[1, 2, 3], [5, 6, 7]])
    assert torch.equal(noise[:, :14], plain(5)[:, :14]) and torch.equal(noise[:, :21, :12], plain(5)[:, :21, :12])
    assert torch.equal(noise[:, 14:21, 12:20], plain(6)[:, 14:21, 12:20])
    assert torch.equal(noise[:, 21:], plain(7)[:, 21:])
    assert torch.equal(sample_noise(SHAPE, 0, [[4, 4, 4]]), plain(4))
    assert abs(float(noise.std()) - 1) < 0.02 and abs(float(noise.mean())) < 0.02


def test_larger_latents_are_cut_at_the_same_places():
    noise = sample_noise((4, 64, 64), 0, [[1, 2, 3]])
    nose = torch.randn((1, 4, 64, 64), generator=torch.Generator().manual_seed(2))[0]
    assert torch.equal(noise[:, 28:42, 24:40], nose[:, 28:42, 24:40])


def test_the_inpainter_paints_by_its_models_choice(restorer):
    inpainter, seen = restorer.inpainters["diffusion"], []
    chosen = inpainter.pipeline.config["chosen_noise"]
    assert len(chosen) >= 4 and all(len(parts) == 3 for parts in chosen), "as many as are painted unless asked for"

    class Caught(Exception):
        pass

    class Pipeline:
        def __getattr__(self, name):
            return getattr(inpainter.pipeline, name)

        def __call__(self, *_, latents, **__):
            seen.append(latents)
            raise Caught

    hole = np.zeros((512, 512), bool)
    hole[150:170, 205:250] = True
    face = max(restorer.analyzer.analyze(skimage.data.astronaut(), hole), key=lambda f: f.box[2])
    with pytest.raises(Caught):
        DiffusionInpainter(Pipeline()).fill(FillRequest(face, face.id_embed, 3, None, len(chosen) - 1))
    wanted = [sample_noise(SHAPE, len(chosen) - 1 + i, chosen) for i in range(3)]
    assert torch.equal(seen[0], torch.stack(wanted))


@given(number=st.integers(-(2**40), 2**40))
def test_later_samples_mix_the_chosen_parts_and_depend_on_their_number_alone(number):
    chosen = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    upper, nose, mouth = parts_of(number, chosen)
    assert parts_of(number, chosen) == (upper, nose, mouth)
    assert [upper, nose] in [row[:2] for row in chosen] and mouth in (3, 6, 9)
    if 0 <= number < 3:
        assert [upper, nose, mouth] == chosen[number]


def test_later_samples_differ():
    chosen = [[10 * i, 10 * i + 1, 10 * i + 2] for i in range(8)]
    assert len({parts_of(number, chosen) for number in range(8, 108)}) > 45


def run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "training/choose_noise.py", *map(str, words)]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)


def test_seeds_are_painted_on_training_people_graded_and_written(shared, tmp_path):
    sheets = tmp_path / "noise"
    done = run("sheets", "--data", shared / "data", "--output", sheets, "--seeds", "3:8", "--people", "1")
    assert done.returncode == 0, done.stderr[-800:]
    plan = json.loads((sheets / "plan.json").read_text())
    assert sorted(row[3] for row in plan if row[2] == "nose") == [3, 4, 5, 6, 7] and len(plan) == 15
    assert np.asarray(Image.open(sheets / "000.png")).std() > 20
    # A grader who likes seed 5's noses and nothing else.
    digits = {sheet: ["-"] * 20 for sheet, *_ in plan}
    for sheet, tile, kind, seed, _ in plan:
        digits[sheet][tile] = "3" if (kind, seed) == ("nose", 5) else "1"
    grades = tmp_path / "grades.json"
    grades.write_text(json.dumps({sheet: "".join(row) for sheet, row in digits.items()}))
    told = json.loads(run("table", sheets, grades).stdout)
    assert list(told["nose"])[0] == "5" and told["nose"]["5"] == 1.6 and told["mouth"]["5"] == 0


def test_a_choice_is_written_into_the_model_and_its_manifest(tmp_path):
    model = tmp_path / "model"
    (model / "pipeline").mkdir(parents=True)
    (model / "pipeline" / "model_index.json").write_text('{"prior_share": 0.5}')
    (model / "weights.json").write_text('{"files": {}}')
    assert run("write", "--model", model, "1,2").returncode == 2
    assert run("write", "--model", model, "1,2,3", "4,5,6").returncode == 0
    index = model / "pipeline" / "model_index.json"
    assert json.loads(index.read_text()) == {"chosen_noise": [[1, 2, 3], [4, 5, 6]], "prior_share": 0.5}
    listed = json.loads((model / "weights.json").read_text())["files"]["pipeline/model_index.json"]
    assert listed["sha256"] == hashlib.sha256(index.read_bytes()).hexdigest()
