"""The training loop: splits of a batch agree, a killed run goes on, what a run leaves behind, and clear errors."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

REPO = Path(__file__).parents[1]
sys.path[:0] = [str(REPO / "training"), str(REPO / "tests")]

import tiny_recipe  # noqa: E402
from checkpoints import Checkpoints, Ema  # noqa: E402
from sampling import SAMPLE, Draw, standard_normal, stream  # noqa: E402

from idinpaint.config import load_config  # noqa: E402
from idinpaint.types import InputError  # noqa: E402

COMMON = {
    "max_train_steps": 20, "train_batch_size": 8, "learning_rate": 0.01, "lr_warmup_steps": 2, "mixed_precision": "no",
    "checkpointing_steps": 20, "log_steps": 1, "ema_decay": 0.9, "report_to": "none", "seed": 3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def here(folder: Path, **settings) -> Path:
    """Train in this process; returns the run folder."""
    tiny_recipe.main(tiny_recipe.TinyConfig(**{**COMMON, "output_dir": str(folder), **settings}))
    return folder


def elsewhere(folder: Path, *launcher: str, **settings) -> subprocess.CompletedProcess:
    """Train in another process, as a user starts it."""
    folder.mkdir(exist_ok=True)
    config = folder / "recipe.yaml"
    config.write_text(yaml.safe_dump({**COMMON, "output_dir": str(folder), **settings}))
    command = [sys.executable, *launcher, str(REPO / "tests" / "tiny_recipe.py"), "--config", str(config)]
    env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, env=env)


def curve(folder: Path, key: str = "loss") -> np.ndarray:
    """The values of a key over the steps, one a step from the first."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rows = [row for row in rows if key in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return np.array([row[key] for row in rows])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """One process, batch 8, 20 steps."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    return here(tmp_path_factory.mktemp("whole"))


def test_two_accumulated_batches_equal_one_of_twice_the_size(whole, tmp_path):
    split = here(tmp_path, train_batch_size=4, gradient_accumulation_steps=2)
    for key in ("loss", "l1", "square", "grad_norm"):
        assert len(curve(whole, key)) == 20 and np.allclose(curve(split, key), curve(whole, key), atol=1e-4)
    assert np.ptp(curve(whole)) > 0.1  # it learns: the agreement is not that of standing still
    first, second = (load_file(f / "tiny.safetensors") for f in (whole, split))
    assert all(torch.allclose(first[k], second[k], atol=1e-4) for k in first)


def test_two_processes_equal_one_with_twice_the_batch(whole, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = elsewhere(tmp_path, *launcher, train_batch_size=2, gradient_accumulation_steps=2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(curve(tmp_path)) == 20 and np.abs(curve(tmp_path) - curve(whole)).max() < 1e-4
    assert json.loads((tmp_path / "run.json").read_text())["starts"][0]["processes"] == 2
    first, second = (load_file(f / "tiny.safetensors") for f in (whole, tmp_path))
    assert all(torch.allclose(first[k], second[k], atol=1e-4) for k in first)


def test_a_run_killed_three_times_ends_with_the_same_weights(tmp_path):
    """Batch normalisation's buffers, AdamW's moments and the average go on bit by bit."""
    same = {"batch_norm": True, "checkpointing_steps": 3, "threads": 1}
    one = here(tmp_path / "one", **same)
    rng = np.random.default_rng()
    fatal = [{"kill_at": int(rng.integers(4, 8))}, {"kill_in_save": 12}, {"kill_at": int(rng.integers(13, 20))}]
    print(fatal)  # shown when the test fails
    for way in fatal:
        done = elsewhere(tmp_path / "two", **same, **way)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    again = here(tmp_path / "two", **same)
    assert np.array_equal(curve(one), curve(again)) and len(curve(one)) == 20
    for name in ("tiny.safetensors", "checkpoint-20/model.safetensors", "checkpoint-20/ema.safetensors"):
        first, second = load_file(one / name), load_file(again / name)
        assert all(torch.equal(first[k], second[k]) for k in first), name
    starts = [start["step"] for start in json.loads((again / "run.json").read_text())["starts"]]
    assert starts[0] == 0 and starts[2] == 9 and len(starts) == 4  # the half-written twelfth did not count


def test_the_run_folder_tells_everything(tmp_path):
    here(tmp_path, report_to="tensorboard", max_train_steps=4, validation_steps=2, checkpointing_steps=3)
    again = load_config(tiny_recipe.TinyConfig, tmp_path / "config.yaml")
    assert again.train_batch_size == 8 and again.validation_steps == 2 and again.output_dir == str(tmp_path)
    start = json.loads((tmp_path / "run.json").read_text())["starts"][0]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True).stdout.strip()
    assert (start["commit"] or "") == head and start["dirty"] in (True, False, None) and start["seed"] == 3
    assert start["packages"]["torch"] == torch.__version__.split("+")[0] or start["packages"]["torch"]
    assert start["threads"] == 1 and start["processes"] == 1 and start["device"].startswith("cpu")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "val_l1" in r] == [2, 4]
    assert all(r["images_per_s"] > 0 and r["eta"].count(":") == 2 and r["lr"] > 0 for r in rows if "loss" in r)
    with Image.open(tmp_path / "validation" / "step-0000004.png") as grid:
        assert grid.size == (3 * 64 + 2 * 4, 64)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [event.value for event in events.Scalars("loss")]
    assert np.allclose(logged, curve(tmp_path)) and len(events.Images("validation")) == 2


def test_a_terminal_shows_a_bar_and_no_rows(tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    here(tmp_path, max_train_steps=6, log_steps=2)
    text = screen.getvalue()
    assert "48/48" in text and "images/s" in text and "loss=" in text  # 6 steps of 8; tqdm adds the time left
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == [6]  # the validation's row


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"step 6: loss is nan; .*checkpoint-4 is kept; lower learning_rate"):
        here(tmp_path, nan_at=5, checkpointing_steps=4)
    (kept,) = Checkpoints(tmp_path).all()
    weights = Checkpoints.load(kept)[0]
    assert all(v.isfinite().all() for state in weights.values() for v in state.values())


def test_wrong_files_and_lost_processes_are_said_in_a_line(tmp_path):
    launcher = ("-m", "accelerate.commands.launch", "--quiet", "--cpu", "--num_processes", "2")
    done = elsewhere(tmp_path, *launcher, init_from=str(tmp_path / "none.safetensors"))
    lines = done.stderr.splitlines()
    assert any(line.startswith("error: ") and "none.safetensors" in line for line in lines), done.stderr
    assert any("asked for 2 processes and started one" in line and "torchrun" in line for line in lines)
    assert "Traceback" not in done.stderr and done.returncode != 0
    for setting, said in (
        ({"report_to": "nonesuch"}, "tensorboard, wandb, comet_ml, none"),
        ({"gradient_checkpointing": True}, "set it to false"),
        ({"chosen_samples": 3, "gradient_accumulation_steps": 2}, "multiple of 2"),
        ({"train_batch_size": 0}, "less than 1"),
    ):
        with pytest.raises(InputError, match=said):
            here(tmp_path / "other", **setting)


def test_checkpoints_rotate_and_are_found(tmp_path):
    keeper = Checkpoints(tmp_path, total_limit=2)
    assert keeper.find("latest") is None and keeper.find("none") is None
    for step in (5, 20, 100):
        keeper.save(step, {"model": {"w": torch.full((2,), float(step))}}, {"optimizer": {"a": 1}}, {})
    assert [p.name for p in keeper.all()] == ["checkpoint-20", "checkpoint-100"]
    assert keeper.find("latest").name == "checkpoint-100" == keeper.find("checkpoint-100").name
    weights, optimizers, info = keeper.load(keeper.find("latest"))
    assert (
        weights["model"]["w"].tolist() == [100, 100] and optimizers == {"optimizer": {"a": 1}} and info["step"] == 100
    )
    for resume, said in (("none", "latest to go on"), ("checkpoint-20", "lies after"), ("checkpoint-7", "no such")):
        with pytest.raises(InputError, match=said):
            keeper.find(resume)
    (tmp_path / "checkpoint-100" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        keeper.load(keeper.find("latest"))
    with pytest.raises(InputError, match="checkpoints_total_limit"):
        Checkpoints(tmp_path, 0)


def test_the_average_by_hand_and_its_exchange():
    model = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema = Ema(model)
    with torch.no_grad():
        model.weight.fill_(0.1)
    ema.update(0.75)
    before = model.weight.detach().clone()
    with ema.applied():
        assert torch.allclose(model.weight, torch.full((1, 2), 0.75 * 1.0 + 0.25 * 0.1))
    assert torch.equal(model.weight, before)


@settings(max_examples=30, deadline=None)
@given(parts=st.integers(1, 6), size=st.integers(1, 5), share=st.integers(0, 5), step=st.integers(0, 10**6))
def test_every_split_draws_the_same_samples(parts, size, share, step):
    total, count = parts * size, min(share, size) * parts
    one = Draw(7, step, 0, total, total)
    split = [Draw(7, step, i * size, size, total) for i in range(parts)]
    noise = torch.cat([standard_normal(d.generators(), (2,)) for d in split])
    assert torch.equal(noise, standard_normal(one.generators(), (2,))) and len(noise.unique()) == 2 * total
    assert all(d.common().random() == one.common().random() for d in split)
    chosen = [d.chosen(count, "x") + d.first for d in split]
    assert len({len(c) for c in chosen}) == 1 and torch.equal(torch.cat(chosen), one.chosen(count, "x"))
    assert len(one.chosen(count, "x")) == count
    assert stream(7, SAMPLE, step, 0).random() != stream(8, SAMPLE, step, 0).random()


@pytest.mark.parametrize("name", ["cpu", "gpu", "ddp8", "fsdp"])
def test_accelerate_reads_its_configs(name):
    path = REPO / "configs" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    processes, kind = {"cpu": (1, "NO"), "gpu": (1, "NO"), "ddp8": (8, "MULTI_GPU"), "fsdp": (8, "FSDP")}[name]
    assert config.num_processes == processes and config.distributed_type == kind and config.use_cpu == (name == "cpu")
    words = path.read_text().splitlines()[0].split()
    assert words[1:3] == ["accelerate", "launch"] and f"configs/accelerate/{name}.yaml" in words
    assert all((REPO / word).is_file() for word in words if word.endswith((".py", ".yaml")))
