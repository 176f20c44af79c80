"""How a run is started: the launcher's precision, flags beside --set, trackers, the one clear line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[1]
sys.path[:0] = [str(REPO / "training"), str(REPO / "tests")]

import run_log  # noqa: E402
from test_engine import COMMON  # noqa: E402

QUIET = ("-m", "accelerate.commands.launch", "-q", "--cpu")


def launch(folder: Path, *words: str, launcher: tuple[str, ...] = QUIET, **environment) -> subprocess.CompletedProcess:
    """Start the tiny recipe, which says bf16."""
    folder.mkdir(exist_ok=True)
    config = folder / "recipe.yaml"
    recipe = {**COMMON, "max_train_steps": 1, "output_dir": str(folder / "run"), "mixed_precision": "bf16"}
    config.write_text(yaml.safe_dump(recipe))
    command = [sys.executable, *launcher, str(REPO / "tests" / "tiny_recipe.py"), "--config", str(config), *words]
    env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder), **environment}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)


def precision(folder: Path) -> str:
    return json.loads((folder / "run" / "run.json").read_text())["starts"][-1]["mixed_precision"]


def test_the_launchers_precision_is_kept_when_it_was_asked_for(tmp_path):
    config = tmp_path / "accelerate.yaml"
    plain = (REPO / "configs" / "accelerate" / "cpu.yaml").read_text()
    config.write_text(plain + "mixed_precision: 'no'\n")
    ours = (
        "-m",
        "accelerate.commands.launch",
        "-q",
        "--config_file",
        str(REPO / "configs" / "accelerate" / "cpu.yaml"),
    )
    for name, launcher, words, wanted in (
        ("recipe", QUIET, (), "bf16"),
        ("flag", (*QUIET, "--mixed_precision", "no"), (), "no"),
        ("file", ("-m", "accelerate.commands.launch", "-q", "--config_file", str(config)), (), "no"),
        ("ours", ours, (), "bf16"),
        ("nearest", (*QUIET, "--mixed_precision=no"), ("--mixed_precision=bf16",), "bf16"),
    ):
        done = launch(tmp_path / name, *words, launcher=launcher)
        assert done.returncode == 0, done.stderr[-2000:]
        assert precision(tmp_path / name) == wanted, name


def test_settings_are_flags_too(tmp_path):
    words = (
        "--max_train_steps=2",
        "--learning_rate",
        "2e-3",
        "--batch_norm",
        "--set",
        "log_steps=2",
        "--use_ema=false",
    )
    done = launch(tmp_path, *words, launcher=())
    assert done.returncode == 0, done.stderr[-2000:]
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    wanted = {"max_train_steps": 2, "learning_rate": 0.002, "batch_norm": True, "log_steps": 2, "use_ema": False}
    assert wanted.items() <= kept.items()


def test_the_clear_line_is_the_last_one(tmp_path):
    for words, said in (
        (("--learning_rat=1",), "did you mean `learning_rate`"),
        (("--report_to=nonesuch",), "report_to: nonesuch is not one of tensorboard, wandb, comet_ml, none"),
        (("--mixed_precision=fp16",), "mixed_precision: fp16 wants a GPU"),
        (("--init_from=none.safetensors",), "none.safetensors"),
    ):
        done = launch(tmp_path, *words)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode != 0 and last.startswith("error: ") and said in last
        assert "Traceback" not in done.stderr


def test_wandb_logs_offline_through_accelerate(tmp_path):
    pytest.importorskip("wandb", reason="pip install wandb to run this")
    done = launch(tmp_path, "--report_to=wandb", "--max_train_steps=2", WANDB_MODE="offline", WANDB_SILENT="true")
    assert done.returncode == 0, done.stderr[-2000:]
    alone = launch(tmp_path / "other", "--report_to=wandb", HOME=str(tmp_path), WANDB_API_KEY="", WANDB_SILENT="true")
    assert "report_to: wandb" in alone.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "other" / "run").exists()
    (run,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb")) and list(run.glob("files/media/images/validation*.png"))


def test_every_documented_launch_is_quiet():
    """accelerate's traceback would bury the one clear line."""
    for path in (*REPO.glob("configs/**/*.yaml"), REPO / "README.md", *REPO.glob("*/*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert "accelerate launch" not in line or "accelerate launch -q" in line, f"{path}: {line}"


def test_what_takes_minutes_shows_a_bar_or_says_so(monkeypatch, capsys):
    assert list(run_log.progress(range(3), 3, "reading")) == [0, 1, 2]
    assert capsys.readouterr().err == "reading: 3 batches\n"

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(run_log.progress(range(3), 3, "reading")) == [0, 1, 2]
    assert "reading: 100%" in screen.getvalue()
    monkeypatch.setenv("RANK", "1")
    screen.truncate(0)
    assert list(run_log.progress(range(3), 3, "reading")) == [0, 1, 2] and not screen.getvalue().strip("\0")
