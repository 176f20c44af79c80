"""Every phase of every recipe, started as it is written, for two steps on tiny data; also on what `prepare` wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from tiny_data import PEOPLE, networks, raw_data
from tiny_sd import save_tiny_sd

from idinpaint.cli import main
from idinpaint.types import InputError

REPO = Path(__file__).parents[1]
SCRIPTS = {"prior": "prior", "autoencoder": "autoencoder", "landmarks": "face_maps", "parsing": "face_maps"}
SCRIPTS |= {"identity": "identity", "damage": "damage", "diffusion": "diffusion", "diffusion-sd15-inpaint": "diffusion"}
SCRIPTS |= dict.fromkeys(("pdgan-face", "pdgan", "pconv", "encdec", "lafin", "pdgan-source"), "gan")
SMALL = {  # beside two steps of two photos: what costs minutes, and the base that nobody can download here
    "diffusion": ["--pool_size=16", "--pool_passes=1"],
    "gan": ["--pool_size=4", "--validation_photos=2"],
    "diffusion-sd15-inpaint": ["--resolution=256"],
    "pdgan-source": [
        "--pool_size=2",
        "--validation_photos=2",
        "--widths=[16, 16, 16, 16, 16, 16]",
        "--train_batch_size=1",
        "--diversity_samples=1",
    ],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> dict[str, Path]:
    """A folder elsewhere than the repository with raw data, networks and a Stable Diffusion."""
    root = tmp_path_factory.mktemp("world")
    made = {"root": root, "raw": raw_data(root / "data"), "networks": networks(root / "networks")}
    return {**made, "sd": save_tiny_sd(root / "sd")}


@pytest.fixture(scope="module")
def prepared(world) -> Path:
    """What `idinpaint prepare` makes of the people's folder; the lists keep two of them for validation."""
    out = world["root"] / "prepared"
    source = str(world["raw"] / "celeba_id256")
    assert main(["prepare", source, str(out), "--splits", str(REPO / "configs" / "splits"), "--workers", "1"]) == 0
    return out


def start(name: str, world: dict[str, Path], data: Path | None, *flags: str) -> subprocess.CompletedProcess:
    """The command in the recipe's first line, from another folder, with flags that make it small."""
    words = (REPO / "configs" / f"{name}.yaml").read_text().splitlines()[0].removeprefix("# ").split()
    assert words[:3] == ["accelerate", "launch", "-q"] and words[-1] == "--train_data_dir=DATA"
    script, config = words[-4], words[-2]
    assert script == f"training/train_{SCRIPTS[name]}.py" and config == f"configs/{name}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--cpu", str(REPO / script)]
    command += ["--config", str(REPO / config), "--max_train_steps=2", "--train_batch_size=2", "--threads=1"]
    command += SMALL.get(name, []) or SMALL.get(SCRIPTS[name], [])
    command += [f"--pretrained_model_name_or_path={world['sd']}"] if "sd15" in name else []
    command += [f"--train_data_dir={data}"] if data else []
    env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "IDINPAINT_WEIGHTS": str(world["networks"])}
    env |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env.pop("IDINPAINT_DATA", None)
    return subprocess.run([*command, *flags], cwd=world["root"], capture_output=True, text=True, env=env)


def in_process(name: str, world: dict[str, Path], monkeypatch, *flags: str) -> None:
    """The same recipe in this process, where starting another costs more than training."""
    monkeypatch.syspath_prepend(str(REPO / "training"))
    monkeypatch.setenv("IDINPAINT_WEIGHTS", str(world["networks"]))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("IDINPAINT_DATA", raising=False)
    monkeypatch.chdir(world["root"])
    from engine import run_recipe

    script = import_module("sd_recipe" if "sd15" in name else f"train_{SCRIPTS[name]}")
    elsewhere = {"gan": "gan_examples", "diffusion": "diffusion_config"}
    home = import_module(elsewhere[SCRIPTS[name]]) if script.__name__.removeprefix("train_") in elsewhere else script
    config = next(v for k, v in vars(home).items() if k.endswith("Config") and v.__module__ == home.__name__)
    small = [f"--pretrained_model_name_or_path={world['sd']}"] if "sd15" in name else []
    small += SMALL.get(name, []) or SMALL.get(SCRIPTS[name], [])
    words = ["--config", str(REPO / "configs" / f"{name}.yaml"), "--max_train_steps=2", "--train_batch_size=2"]
    threads = torch.get_num_threads()
    try:
        run_recipe(script.main, config, [*words, "--threads=1", *small, *flags])
    finally:
        torch.set_num_threads(threads)


def recipe(name: str) -> dict:
    return yaml.safe_load((REPO / "configs" / f"{name}.yaml").read_text())


def test_every_recipe_is_here_and_names_its_initial_weights():
    others = {"benchmark", "benchmark-all", "controller-article", "ablation-diffusion"}
    others |= {"believability", "bundle", "detail"}  # no recipes of the shared loop
    assert {path.stem for path in (REPO / "configs").glob("*.yaml")} - others == set(SCRIPTS)
    for name in (*SCRIPTS, "ablation-diffusion"):
        earlier: set[str] = set()
        for phase in recipe(name)["phases"]:
            init = phase["init"]
            assert init == "scratch" or set(init) == {"file", "sha256"} or init.get("phase") in earlier, (name, phase)
            earlier.add(phase.get("name"))
        assert "runs/bundle" not in (REPO / "configs" / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_phase_of_a_recipe_starts_as_written(world, name):
    done = start(name, world, world["raw"], f"--output_dir={world['root'] / name}")
    assert done.returncode == 0, done.stderr[-2000:]
    phases = recipe(name)["phases"]
    for phase in phases:
        folder = world["root"] / name / phase.get("name", "")
        assert (folder / "checkpoint-2").is_dir()
        if len(phases) > 1:
            assert json.loads((folder / "result.json").read_text())["sha256"]
    if len(phases) > 1:  # all is done: nothing is trained again
        again = start(name, world, world["raw"], f"--output_dir={world['root'] / name}")
        assert again.returncode == 0 and again.stdout.count("done already") == len(phases)


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - {"pdgan-source"}))
def test_what_prepare_wrote_trains_every_system(world, prepared, name, monkeypatch):
    phases = recipe(name)["phases"]
    out = world["root"] / "on-prepared" / name
    flags = [f"--phase={phases[0]['name']}"] if len(phases) > 1 else []
    in_process(name, world, monkeypatch, *flags, f"--train_data_dir={prepared}", f"--output_dir={out}")
    assert (out / phases[0].get("name", "") / "checkpoint-2").is_dir()


def test_prepared_people_are_kept_apart(world, prepared):
    from idinpaint.data.photos import training_photos, validation_photos, with_labels, with_landmarks

    train, held = training_photos(prepared, "none"), validation_photos(prepared, "none")
    assert {e.person.split("/")[1] for e in held} == set(PEOPLE[:2]) and len(held) == 6 and len(train) == 9
    assert not {e.person for e in train} & {e.person for e in held}
    known, points = with_landmarks(train, prepared)
    assert len(known) == 9 and all(p.shape == (68, 2) for p in points)
    labelled, labels = with_labels(train)
    assert len(labelled) == 9 and all(v.shape == (256, 256) and v.max() <= 9 for v in labels)


def test_data_prepared_without_labels_says_so_and_still_serves_the_rest(prepared, tmp_path):
    import pyarrow.parquet as pq

    from idinpaint.data.photos import training_photos, with_labels, with_landmarks

    old = tmp_path / "old"
    shutil.copytree(prepared, old, ignore=shutil.ignore_patterns(".cache"))
    for path in old.glob("data/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["parsing"]).replace_schema_metadata(), path)
    summary = json.loads((old / "summary.json").read_text())
    del summary["sha256"]  # as then
    (old / "summary.json").write_text(json.dumps(summary))
    entries = training_photos(old, "none")
    assert len(with_landmarks(entries, old)[0]) == len(entries) == 9
    with pytest.raises(InputError, match="prepared without parsing labels"):
        with_labels(entries)


def test_annotated_parts_become_labels(world, tmp_path):
    from idinpaint.data.photos import training_photos, with_labels
    from idinpaint.faces.parsing import PARSING_CLASSES

    assert main(["prepare", str(world["raw"] / "CelebAMask-HQ"), str(tmp_path / "out"), "--workers", "1"]) == 0
    entries, labels = with_labels(training_photos(tmp_path / "out", "none"))
    assert 0 < len(entries) <= 4
    named = {PARSING_CLASSES[value] for value in set(labels[0].flat)}
    assert named == {"background", "skin", "nose", "right_eye"}  # l_eye is the person's left


def test_a_phase_starts_only_from_the_weights_that_it_means(world, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "training"))
    from recipes import Phase, check_start, load_phases
    from train_prior import PriorConfig

    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    file = tmp_path / "r.yaml"
    start = {"file": str(weights), "sha256": "0" * 64}
    file.write_text(yaml.safe_dump({"phases": [{"name": "a", "init": start}, {"name": "b", "init": {"phase": "a"}}]}))
    first, second = load_phases(PriorConfig, file, [f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(InputError, match="sha256 differs"):
        check_start(first)
    with pytest.raises(InputError, match="phase a comes before b"):
        check_start(second)
    own = load_phases(PriorConfig, file, [f"init_from={weights}"])[0]
    check_start(Phase("a", own.config))  # the user's own file is what he says it is
    for init in ("ann", {"phase": "c"}, {"file": "x"}, None):
        file.write_text(yaml.safe_dump({"phases": [{"init": init}]}))
        with pytest.raises(InputError, match="wants scratch"):
            load_phases(PriorConfig, file)


def test_missing_data_networks_and_phases_are_one_line_before_anything_is_loaded(world, tmp_path, monkeypatch):
    out, raw = f"--output_dir={tmp_path / 'out'}", f"--train_data_dir={world['raw']}"
    for flags, said in (
        ([], "set IDINPAINT_DATA=DATA"),
        ([f"--train_data_dir={tmp_path / 'nowhere'}"], "no such folder"),
        ([raw, "--vgg=nonesuch.pth"], "vgg: nonesuch.pth is in none of"),
        ([raw, "--phase=last"], "--phase last: .* has 128, 128-id"),
        ([raw, "--phase=256-id"], "phase 128-id comes before 256-id"),
        ([raw, "--report_to=nonesuch"], "report_to: nonesuch is not one of"),
        ([raw, "--learning_rat=1"], "did you mean `learning_rate`"),
        ([raw, "--mixed_precision=fp8"], "mixed_precision: fp8"),
        ([raw, "--identity_samples=3", "--gradient_accumulation_steps=2"], "identity_samples: 3 samples"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            in_process("prior", world, monkeypatch, out, *flags)
        assert "\n" not in str(caught.value)
    done = start("prior", world, None)
    last = done.stderr.strip().splitlines()[-1]  # accelerate's own warnings come before it
    assert done.returncode != 0 and last.startswith("error: ") and "IDINPAINT_DATA" in last, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_nothing_in_the_sources_points_out_of_the_repository():
    for folder in ("src", "training", "eval", "configs"):
        for path in (REPO / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".md", ".json"):
                assert "../" + "shared" not in path.read_text(encoding="utf-8"), path
