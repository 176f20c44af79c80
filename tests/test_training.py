"""Training scripts run for real, briefly, as `accelerate launch` starts them; splits do not overlap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from safetensors.torch import load_file

from idinpaint.data.photos import list_identity_folders, load_training_masks, read_split, training_photos

REPO = Path(__file__).parents[1]
SPLITS = REPO / "configs" / "splits"


def launch(script: str, config: str, shared: Path, *overrides: str, phase: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--cpu", "--num_processes", "1"]
    command += [f"training/{script}", "--config", f"configs/{config}", "--set", f"train_data_dir={shared / 'data'}"]
    command += ["--phase", phase] if phase else []
    for item in overrides:
        command += ["--set", item]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "src"})


def small_data(shared: Path, tmp_path: Path) -> Path:
    """A data folder with a few people and photos of the real one, by link."""
    data = tmp_path / "data"
    source = shared / "data"
    held = set(read_split(SPLITS / "celeba_id256_test.txt"))
    keep = read_split(SPLITS / "celeba_id256_val.txt")[:3]
    keep += [p.name for p in sorted((source / "celeba_id256").iterdir()) if p.name not in held][:8]
    for name in keep:
        (data / "celeba_id256").mkdir(parents=True, exist_ok=True)
        (data / "celeba_id256" / name).symlink_to(source / "celeba_id256" / name)
    for folder in ("CelebAMask-HQ/CelebA-HQ-img", "CelebAMask-HQ/extra-img", "ffhq256"):
        (data / folder).mkdir(parents=True)
        for path in sorted((source / folder).iterdir())[:4]:
            (data / folder / path.name).symlink_to(path)
    (data / "nvidia_irregular_masks").symlink_to(source / "nvidia_irregular_masks")
    return tmp_path


def vgg_like(path: Path) -> Path:
    """A file in torchvision's layout with narrow layers, random: the training only has to follow it."""
    torch.manual_seed(0)
    state = {}
    for index, i, o in ((0, 3, 4), (2, 4, 4), (5, 4, 8), (7, 8, 8), (10, 8, 8)):
        state[f"features.{index}.weight"], state[f"features.{index}.bias"] = torch.randn(o, i, 3, 3) / 5, torch.zeros(o)
    torch.save(state, path)
    return path


def test_a_resumed_run_equals_an_uninterrupted_one(shared, tmp_path):
    root = small_data(shared, tmp_path)
    common = ("resolution=64", "perceptual_crop=64", "train_batch_size=2", "mixed_precision=no", "log_steps=1")
    common += (f"perceptual_features={shared}/models/alexnet_features_torchvision.pth", "init_from=null")
    common += ("lr_warmup_steps=1", "checkpointing_steps=2", "max_train_steps=4", "feature_masks=0.5")
    common += ("vgg_weight=0.1", f"vgg={vgg_like(tmp_path / 'vgg.pth')}", "vgg_layers=[1, 6]")
    whole = launch("train_prior.py", "prior.yaml", root, *common, f"output_dir={tmp_path}/whole", phase="128")
    assert whole.returncode == 0, whole.stderr[-2000:]
    # Interrupted after step 2: the newer checkpoint is taken away, and the same command goes on.
    again = tmp_path / "again" / "128"
    again.mkdir(parents=True)
    (tmp_path / "whole" / "128" / "checkpoint-2").rename(again / "checkpoint-2")
    resumed = launch("train_prior.py", "prior.yaml", root, *common, f"output_dir={again.parent}", phase="128")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    first, second = (load_file(tmp_path / n / "128" / "prior.safetensors") for n in ("whole", "again"))
    assert all(torch.allclose(first[k].float(), second[k].float(), atol=1e-6) for k in first)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "128" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "l1" in r] == [1, 2, 3, 4] and all(r["loss"] > 0 for r in rows if "loss" in r)
    assert all(r["vgg"] > 0 for r in rows if "l1" in r)
    assert yaml.safe_load((tmp_path / "whole" / "128" / "config.yaml").read_text())["resolution"] == 64


def test_diffusion_training_writes_a_pipeline_that_restores(shared, tmp_path):
    root = small_data(shared, tmp_path)
    bundled = REPO / "src" / "idinpaint" / "weights_bundled"
    parts = {n: bundled / f"{n}.safetensors" for n in ("landmarks", "identity", "parsing")}
    parts["perceptual_features"] = shared / "models" / "alexnet_features_torchvision.pth"
    parts["identity_teacher"] = shared / "models" / "mobilefacenet_foamliu_arcface.pt"
    weights = "diffusion_pytorch_model.safetensors"
    parts |= {"prior": bundled / "pipeline" / "prior", "autoencoder": bundled / "pipeline" / "autoencoder" / weights}
    options = [f"{k}={v}" for k, v in parts.items()]
    options += [
        "max_train_steps=2",
        "train_batch_size=2",
        "pool_size=16",
        "log_steps=1",
        "init_from=null",
        "widths=[32, 32, 64]",
        "token_dim=64",
        "pixel_window=256",
        "pixel_samples=1",
        "skin_weight=0.5",
        "heatmap_weight=0.01",
        "identity_weight=0.1",
        "vgg_weight=0.1",
        f"vgg={vgg_like(tmp_path / 'vgg.pth')}",
        "vgg_layers=[1, 6]",
        f"residual_std={[0.7] * 16}",  # measuring it takes a minute
    ]
    run = launch("train_diffusion.py", "diffusion.yaml", root, *options, f"output_dir={tmp_path}/run", phase="base")
    assert run.returncode == 0, run.stderr[-2000:]
    rows = [json.loads(line) for line in (tmp_path / "run" / "base" / "log.jsonl").read_text().splitlines()]
    terms = ("diffusion", "l1", "perceptual", "skin", "heatmap", "identity", "vgg")
    assert [r["step"] for r in rows if "loss" in r] == [1, 2]
    assert all(np.isfinite(r[term]) and r[term] >= 0 for r in rows if "loss" in r for term in terms)
    from idinpaint import Restorer

    portrait = skimage.data.astronaut()
    mask = np.zeros((512, 512), bool)
    mask[100:120, 200:230] = True
    restorer = Restorer.from_pretrained(str(tmp_path / "run" / "base" / "pipeline"), device="cpu")
    result = restorer(portrait, mask, strategy="diffusion", num_samples=1, steps=1)
    assert np.array_equal(result.image[~mask], portrait[~mask]) and not result.abstained


def test_a_misspelt_key_and_missing_data_are_one_line(tmp_path):
    wrong = launch("train_prior.py", "prior.yaml", tmp_path, "learning_rat=1")
    assert wrong.returncode != 0 and "did you mean `learning_rate`" in wrong.stderr
    missing = launch("train_prior.py", "prior.yaml", tmp_path, f"output_dir={tmp_path}/run")
    assert missing.returncode != 0 and "no such folder" in missing.stderr


def test_splits_are_disjoint_by_identity():
    test, val = (set(read_split(SPLITS / f"celeba_id256_{n}.txt")) for n in ("test", "val"))
    assert len(test) >= 30 and not test & val
    assert len(read_split(SPLITS / "celeba_id112_test.txt")) >= 100


def test_training_never_sees_the_test_split(shared):
    held = set(read_split(SPLITS / "celeba_id256_test.txt")) | set(read_split(SPLITS / "celeba_id256_val.txt"))
    entries = training_photos(shared / "data", SPLITS)
    assert len(entries) > 3000 and not {e.person for e in entries if e.person} & held
    names = {e.path.stem for e in entries if e.path.parent.name == "CelebA-HQ-img"}
    assert len(names) == 900 and not names & set(read_split(SPLITS / "celebamask_test.txt"))
    people = list_identity_folders(shared / "data" / "celeba_id112", read_split(SPLITS / "celeba_id112_test.txt"))
    assert len({e.person for e in people}) == 2300
    assert len(load_training_masks(shared / "data", SPLITS, max_bin=60)) == 900 - 240


@pytest.mark.parametrize("name", ["celeba_id256_test", "celeba_id256_val", "celeba_id112_test", "celebamask_test"])
def test_split_entries_exist(shared, name):
    roots = {
        "celeba_id256": "celeba_id256",
        "celeba_id112": "celeba_id112",
        "celebamask": "CelebAMask-HQ/CelebA-HQ-img",
    }
    root = shared / "data" / roots[name.rsplit("_", 1)[0]]
    found = {p.stem if p.is_file() else p.name for p in root.iterdir()}
    assert set(read_split(SPLITS / f"{name}.txt")) <= found
