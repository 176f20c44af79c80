"""Weights and pipelines that are damaged or not what they say: one line that names the file, before painting."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from idinpaint import Restorer
from idinpaint.loading.bundle import HUB_ID, load_bundle, load_faces, load_pipeline, resolve_model
from idinpaint.models.tensors import to_uint8
from idinpaint.models.weights import BUNDLED, WeightStore, hashes, sha256_of
from idinpaint.painting.gan import load_gan
from idinpaint.types import InputError


@pytest.fixture
def model(tmp_path):
    shutil.copytree(BUNDLED, tmp_path / "model")
    return tmp_path / "model"


def register(folder, name):
    """The manifest agrees with the file as it is now."""
    manifest = json.loads((folder / "weights.json").read_text())
    manifest["files"][name]["sha256"] = sha256_of(folder / name)
    (folder / "weights.json").write_text(json.dumps(manifest))


def change(path, how):
    """Damages a safetensors file."""
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "text":
        path.write_text("hello")
    else:
        state = load_file(path)
        first = next(name for name, values in state.items() if values.is_floating_point() and values.numel())
        if how == "missing key":
            del state[first]
        else:
            state[first].view(-1)[0] = float(how)
        save_file(state, path)


@pytest.mark.parametrize("how", ["cut", "text", "missing key", "nan", "inf"])
@pytest.mark.parametrize("name", ["parsing.safetensors", "identity.safetensors"])
def test_face_networks_damaged_under_the_right_hash(model, name, how):
    change(model / name, how)
    register(model, name)
    with pytest.raises(InputError) as caught:
        load_faces(WeightStore(model))
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["cut", "text", "nan", "inf"])
@pytest.mark.parametrize("part", ["unet", "autoencoder"])
def test_pipelines_damaged(model, part, how):
    change(next((model / "pipeline" / part).glob("*.safetensors")), how)
    with pytest.raises(InputError) as caught:
        load_pipeline(model / "pipeline")
    assert "pipeline" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["cut", "nan"])
def test_generators_damaged(model, how):
    folder = model / "gan" / "pdgan-face"
    change(next(folder.glob("*.safetensors")), how)
    with pytest.raises(InputError, match="pdgan-face"):
        load_gan(folder, None)


@pytest.mark.parametrize("text", ["[]", "{", "", "5", "null", '{"_class_name": 5}', "[" * 100_000])
def test_indexes_and_configs_that_are_none(model, text):
    index, config = model / "pipeline" / "model_index.json", model / "gan" / "pdgan-face" / "config.json"
    for path, load in ((index, lambda: load_pipeline(index.parent)), (config, lambda: load_gan(config.parent, None))):
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            load()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "text", ['{"files": {"a": {}}}', '{"files": {"a": 5}}', '{"files": []}x', "[]", '{"files": 3}']
)
def test_manifests_that_are_none(model, text):
    (model / "weights.json").write_text(text)
    with pytest.raises(InputError, match="not a weights manifest"):
        WeightStore(model)


def test_a_file_that_the_manifest_does_not_list_is_not_loaded(model):
    shutil.copy(model / "parsing.safetensors", model / "pipeline" / "unet" / "more.safetensors")
    with pytest.raises(InputError, match="more.safetensors: weights.json does not list it"):
        load_bundle(str(model))


def test_the_report_names_what_was_loaded(model, restorer):
    """A pipeline of another folder is hashed itself; the bundled one's sums are not given for it."""
    state_file = next((model / "pipeline" / "unet").glob("*.safetensors"))
    state = load_file(state_file)
    name = next(iter(state))
    state[name] = state[name] + 0.001
    save_file(state, state_file)
    found = load_bundle(str(model / "pipeline")).weights
    changed = f"pipeline/unet/{state_file.name}"
    assert found[changed] == sha256_of(state_file) != restorer.bundle.weights[changed]
    assert restorer.verifier.differences(found) and not restorer.verifier.differences({})
    assert {n: d for n, d in restorer.bundle.weights.items() if n.startswith("gan/")} == hashes(
        BUNDLED / "gan" / "pdgan-face", "gan/pdgan-face"
    )


def test_a_slip_in_a_local_path_asks_no_network(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(InputError, match="no such folder, though runs/ is here"):
        resolve_model("runs/modle")


def test_a_hub_id_may_name_its_revision(tmp_path, monkeypatch):
    asked = []
    shutil.copytree(BUNDLED, tmp_path / "snapshot")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **given: asked.append((name, given)) or tmp_path / "snapshot"
    )
    resolve_model("owner/name@0123abc")
    assert asked[0][0] == "owner/name" and asked[0][1]["revision"] == "0123abc"
    assert HUB_ID.fullmatch("owner/name").groups() == ("owner/name", None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_of_no_numbers_is_not_delivered(value):
    picture = torch.zeros(1, 3, 4, 4)
    picture[0, 0, 0, 0] = value
    with pytest.raises(InputError, match="no numbers"):
        to_uint8(picture)


def test_analysing_and_verifying_load_no_network_that_paints(tmp_path):
    code = (
        "import sys; from idinpaint.cli import main; status = main(sys.argv[1:]); "
        "assert not {'diffusers', 'transformers', 'peft'} & set(sys.modules); sys.exit(status)"
    )
    photo, mask = tmp_path / "a.png", tmp_path / "m.png"
    picture = skimage.data.astronaut()
    Image.fromarray(picture).save(photo)
    hole = np.zeros(picture.shape[:2], np.uint8)
    hole[95:110, 190:215] = 255  # an eye
    Image.fromarray(hole).save(mask)
    given = ["analyze", photo, "--mask", mask], ["verify", photo, photo]
    for words in given:
        done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    restorer = Restorer.from_pretrained(painters=False)
    faces, decision = restorer.analyze(picture, hole > 0)
    full = Restorer.from_pretrained()
    assert full.available == restorer.available and full.analyze(picture, hole > 0)[1] == decision
    with pytest.raises(InputError, match="load one that paints"):
        restorer(picture, hole > 0)
