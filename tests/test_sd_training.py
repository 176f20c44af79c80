"""Losses, card and recipe of the Stable Diffusion base."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_sd import save_tiny_sd

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from equations.diffusion import (  # noqa: E402
    latent_weight,
    low_noise,
    pred_original_sample,
    prediction_target,
    weighted_mse,
)
from equations.pictures import relative_heatmap_loss, skin_l1  # noqa: E402

REPO = Path(__file__).parents[1]


@settings(max_examples=25, deadline=None)
@given(st.floats(0.02, 0.99), st.sampled_from(["epsilon", "v_prediction"]), st.integers(0, 99))
def test_the_true_prediction_gives_the_clean_latents_back(alpha, kind, seed):
    draw = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 2, 4, 3, 3, generator=draw).double()
    alpha = torch.full((2,), alpha, dtype=torch.float64)
    a = alpha.view(-1, 1, 1, 1)
    noisy = a.sqrt() * clean + (1 - a).sqrt() * noise
    target = prediction_target(clean, noise, alpha, kind)
    assert torch.allclose(pred_original_sample(noisy, target, alpha, kind), clean, atol=1e-9)
    assert weighted_mse(target, target, torch.ones(2, 1, 3, 3)).tolist() == [0, 0]


def test_an_unknown_prediction_type_is_an_error():
    with pytest.raises(ValueError, match="flow"):
        prediction_target(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.ones(1), "flow")


def test_weights_and_gates():
    mask, skin = torch.zeros(2, 1, 1, 16, 16)
    mask[..., :8], skin[..., :8, :] = 1, 1
    weight = latent_weight(mask, skin, 2, 0.1, 0.5)[0, 0]
    assert torch.allclose(weight, torch.tensor([[1.5, 0.1], [1.0, 0.1]]))
    error = torch.zeros(1, 4, 2, 2)
    error[..., 0, 1] = 1  # a known cell: a 27th of the weights
    assert weighted_mse(error, torch.zeros_like(error), weight[None, None]).item() == pytest.approx(0.1 / 2.7)
    assert low_noise(torch.tensor([0.49, 0.5, 0.9]), 0.5).tolist() == [False, True, True]


def test_skin_l1_and_heatmap_loss_by_hand():
    target, skin = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    skin[..., 0, :] = 1
    predicted = torch.full_like(target, 7.0)
    predicted[..., 0, :] = 0.5
    assert skin_l1(predicted, target, skin).item() == pytest.approx(0.5)
    assert skin_l1(predicted, target, skin * 0).item() == 0
    sharp = torch.full((1, 2, 4, 4), -50.0)
    sharp[..., 1, 1] = 50
    moved = sharp.roll(1, -1)
    assert relative_heatmap_loss(sharp, sharp).item() == 0
    assert relative_heatmap_loss(moved, sharp).item() == pytest.approx(2.0)  # one peak gone, one too many


def test_model_card_names_what_was_done_and_no_path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "training"))
    from huggingface_hub import ModelCard
    from model_card import write_model_card

    config = {"max_train_steps": 7, "train_batch_size": 2, "seed": 3, "train_data_dir": "/home/someone/photos"}
    run = {"config": config, "commit": "abc123", "command": "accelerate launch x.py"}
    path = write_model_card(tmp_path, run, "user/base-model", "user/mine", {"diffusion": 0.1234})
    card = ModelCard.load(path)
    assert card.data.base_model == "user/base-model" and card.data.library_name == "diffusers"
    assert "diffusion 0.1234" in card.text and "abc123" in card.text and '"user/mine"' in card.text
    assert "someone" not in path.read_text() and [p.name for p in tmp_path.iterdir()] == ["README.md"]


def launch(*overrides: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "training/train_diffusion.py", "--config", "configs/diffusion-sd15-inpaint.yaml"]
    for item in overrides:
        command += ["--set", item]
    env = {**os.environ, "PYTHONPATH": "src", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=env)


def test_the_base_chooses_the_recipe(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(REPO / "training"))
    from train_diffusion import asked_base, run_chosen

    sd = ["--config", str(REPO / "configs" / "diffusion-sd15-inpaint.yaml")]
    assert asked_base(sd) == "sd" and asked_base([*sd, "--set", "base=small"]) == "small"
    assert asked_base(["--config", str(REPO / "configs" / "diffusion.yaml")]) == "small"
    monkeypatch.setattr(sys, "argv", ["x", *sd, "--set", "base=tiny"])
    with pytest.raises(SystemExit) as caught:
        run_chosen()
    assert caught.value.code == 2 and "use one of small, sd" in capsys.readouterr().err


def test_lora_training_writes_a_pipeline_and_the_small_files(shared, tmp_path):
    """The recipe as it is started, from a Stable Diffusion folder to one that `restore --model` takes."""
    from test_training import small_data

    from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
    from idinpaint.models.sd_pipeline import IdentitySDInpaintPipeline

    data = small_data(shared, tmp_path) / "data"
    base, run = save_tiny_sd(tmp_path / "sd"), tmp_path / "run"
    done = launch(
        f"pretrained_model_name_or_path={base}", f"train_data_dir={data}", f"output_dir={run}", "lora_rank=2",
        "resolution=256", "train_batch_size=3", "max_train_steps=2", "checkpointing_steps=2", "log_steps=1",
        "mixed_precision=no", "pixel_every=1", "min_alpha=0", "pixel_samples=1", "learning_rate=1e-3",
        "lr_warmup_steps=1", f"identity_teacher={shared}/models/mobilefacenet_foamliu_arcface.pt",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(row[name] > 0 for row in rows for name in ("loss", "diffusion", "skin_l1", "heatmap", "identity"))
    pipeline = IdentityInpaintPipeline.from_pretrained(run / "pipeline")
    assert isinstance(pipeline, IdentitySDInpaintPipeline) and pipeline.config.resolution == 256
    assert not [name for name, _ in pipeline.unet.named_parameters() if "lora" in name]
    assert "diffusion" in (run / "pipeline" / "README.md").read_text()
    assert {p.name for p in (run / "lora").iterdir()} == {
        "pytorch_lora_weights.safetensors", "conditions.safetensors"
    }  # fmt: skip
