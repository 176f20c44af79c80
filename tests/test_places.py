"""Where data and published networks are looked for, and what the fetching tool keeps."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from idinpaint.types import InputError

REPO = Path(__file__).parents[1]
sys.path[:0] = [str(REPO / "training"), str(REPO / "eval")]

import fetch_metric_weights as fetching  # noqa: E402
import places  # noqa: E402
from command import add_data  # noqa: E402
from loop_config import LoopConfig  # noqa: E402


def test_the_data_folder_is_named_by_the_environment_or_by_hand(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("IDINPAINT_DATA", raising=False)
    assert LoopConfig().train_data_dir == ""
    with pytest.raises(InputError, match="set IDINPAINT_DATA=DATA, --train_data_dir=DATA"):
        LoopConfig(mixed_precision="no", report_to="none").prepare()
    parser = argparse.ArgumentParser()
    add_data(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "required: --data" in capsys.readouterr().err
    monkeypatch.setenv("IDINPAINT_DATA", str(tmp_path))
    assert LoopConfig().train_data_dir == str(tmp_path)
    parser = argparse.ArgumentParser()
    add_data(parser)
    assert parser.parse_args([]).data == tmp_path
    assert parser.parse_args(["--data", "here"]).data == Path("here")


def test_files_are_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IDINPAINT_WEIGHTS", str(tmp_path / "mine"))
    assert places.find_file("splits_dir", "configs/splits") == REPO / "configs" / "splits"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "splits").mkdir()
    assert places.find_file("splits_dir", "configs/splits") == Path("configs/splits")  # one's own comes first
    for folder in (tmp_path / "models", tmp_path / "mine"):  # beside the data, then the user's
        folder.mkdir()
        (folder / "net.pth").touch()
        assert places.find_file("vgg", "net.pth", tmp_path / "data") == folder / "net.pth"
    with pytest.raises(InputError, match="vgg: other.pth is in none of .*fetch_metric_weights.py DIR"):
        places.find_file("vgg", "other.pth")
    with pytest.raises(InputError, match="prior: no such file runs/x/prior"):
        places.find_file("prior", "runs/x/prior")


def test_the_tool_keeps_published_bytes_only_and_turns_layouts(tmp_path):
    (tmp_path / "a").write_bytes(b"other")
    with pytest.raises(InputError, match="sha256 of the download differs"):
        fetching.keep(tmp_path / "a", tmp_path / "inception_fid.pt")
    assert not (tmp_path / "inception_fid.pt").exists()
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(3, 5, 2, 4)), rng.normal(size=(1, 1, 4, 3))]  # flax: height, width, in, out
    tree = {"Net": {f"Conv_{i}": {"kernel": k, "bias": rng.normal(size=k.shape[-1])} for i, k in enumerate(kernels)}}
    state = fetching.torchvision_layout(tree, "Net", (0, 3))
    assert set(state) == {f"features.{i}.{part}" for i in (0, 3) for part in ("weight", "bias")}
    assert state["features.0.weight"].shape == (4, 2, 3, 5)
    assert state["features.3.weight"][2, 1, 0, 0] == torch.tensor(kernels[1][0, 0, 1, 2])
