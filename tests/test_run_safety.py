"""A run's folder: one run at a time, whole checkpoints or none, damage told, nothing left by a signal."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
import torch
import yaml
from test_engine import COMMON, REPO, here, load_file

from checkpoints import Checkpoints, clear_leftovers  # isort: skip  test_engine puts training/ on the path
from idinpaint.imaging.folder_lock import locked
from idinpaint.types import InputError

LAUNCHER = ("-m", "accelerate.commands.launch", "-q", "--cpu")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@contextmanager
def largest_file(size: int):
    """No file may grow beyond `size` bytes: the system refuses the write, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save(keeper: Checkpoints, step: int, weights: int = 1000, moments: int = 1000) -> None:
    keeper.save(step, {"model": {"w": torch.full((weights,), float(step))}}, {"adam": {"m": torch.ones(moments)}}, {})


@pytest.mark.parametrize("name", ["model.safetensors", "adam.bin", "state.json", "SHA256SUMS"])
def test_one_flipped_bit_anywhere_is_told(tmp_path, name):
    keeper = Checkpoints(tmp_path)
    save(keeper, 5)
    path = tmp_path / "checkpoint-5" / name
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 20)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match="checkpoint-5: not a readable checkpoint"):
            keeper.load(tmp_path / "checkpoint-5")
    path.write_bytes(whole)
    assert keeper.load(tmp_path / "checkpoint-5")[2] == {"step": 5}


@pytest.mark.parametrize("sizes", [(100_000, 10), (10, 100_000)])
def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(tmp_path, sizes):
    keeper = Checkpoints(tmp_path, total_limit=1)
    save(keeper, 5)
    with largest_file(50_000), pytest.raises(InputError, match="cannot be written .*the files before it are kept"):
        save(keeper, 6, *sizes)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]
    assert keeper.load(keeper.find("latest"))[2]["step"] == 5


def test_a_folder_is_for_one_run(tmp_path):
    with locked(tmp_path / "a" / "run"):
        with pytest.raises(InputError, match="another run is writing into it"), locked(tmp_path / "a" / "run"):
            pass
        (tmp_path / "a" / "kept").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]  # an empty folder of ours is taken away


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / "checkpoint-7.tmp").mkdir()
    (tmp_path / "checkpoint-7.tmp" / "model.safetensors").write_text("half")
    (tmp_path / "tiny.tmp").write_text("half")
    (tmp_path / "log.jsonl").write_text("")
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_signal_to_the_launcher_ends_the_run_which_then_goes_on(tmp_path):
    """SIGTERM to `accelerate launch`, which passes nothing on: the trainer ends, leaves nothing half-written and keeps
    a second run out while it lives; resumed it ends with the weights of an undisturbed run."""
    same = {"checkpointing_steps": 10, "checkpoints_total_limit": 1, "batch_norm": True, "threads": 1}
    same |= {"max_train_steps": 300, "validation_steps": 300, "log_steps": 300}
    run, config = tmp_path / "run", tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump({**COMMON, **same, "output_dir": str(run)}))
    command = [sys.executable, *LAUNCHER, str(REPO / "tests" / "tiny_recipe.py"), "--config", str(config)]
    env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path)}
    launcher = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while launcher.poll() is None and not list(run.glob("checkpoint-*[0-9]")):
        time.sleep(0.1)
    (trainer,) = psutil.Process(launcher.pid).children()
    with pytest.raises(InputError, match="another run"), locked(run):
        pass
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(60)
    trainer.wait(60)
    said = launcher.stderr.read()
    assert said.splitlines()[-1] == "error: terminated; the same command goes on from the last checkpoint", said
    assert not list(run.rglob("*.tmp"))
    assert 0 < Checkpoints.load(Checkpoints(run).find("latest"))[2]["step"] < 300
    one, again = here(tmp_path / "one", **same), here(run, **same)
    first, second = (load_file(folder / "tiny.safetensors") for folder in (one, again))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_while_an_old_checkpoint_is_taken_away(tmp_path, number):
    """It comes at the very moment that shutil.rmtree begins; the folder is gone all the same, then the signal acts."""
    script = f"""
import signal, sys
import torch
sys.path.insert(0, {str(REPO / "training")!r})
from checkpoints import Checkpoints
from idinpaint.exits import Terminated, unwinding
signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background job of a shell ignores
keeper = Checkpoints({str(tmp_path)!r}, total_limit=1)
keeper.save(5, {{"model": {{"w": torch.ones(9)}}}}, {{}}, {{}})
sys.addaudithook(lambda event, _: signal.raise_signal(signal.{number}) if event == "shutil.rmtree" else None)
try:
    with unwinding():
        keeper.save(6, {{"model": {{"w": torch.ones(9)}}}}, {{}}, {{}})
        sys.exit("the signal was lost")
except (Terminated, KeyboardInterrupt) as stop:
    print(type(stop).__name__)
"""
    env = {**os.environ, "PYTHONPATH": str(REPO / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [{"SIGTERM": "Terminated", "SIGINT": "KeyboardInterrupt"}[number]], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-6"]
