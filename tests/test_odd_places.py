"""Folders with links and pipes in them, folders and homes that may not be read, failed writes, edited controllers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from idinpaint.cli.jobs import plan_folder
from idinpaint.imaging.encoders import write_atomic
from idinpaint.judging.controller import load_controller
from idinpaint.models.weights import user_folder
from idinpaint.types import InputError

SRC = Path(__file__).parents[1] / "src"


def test_links_and_pipes_in_a_folder_are_said(tmp_path):
    photos, mask = tmp_path / "in", tmp_path / "m.png"
    photos.mkdir()
    for path in (photos / "a.png", mask):
        Image.new("L", (8, 8)).save(path)
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "gone.png").symlink_to("nowhere.png")
    (photos / "good.png").symlink_to("a.png")
    os.mkfifo(photos / "pipe.png")
    (photos / "notes.txt").write_text("")
    (photos / "sub").mkdir()
    jobs, notices = plan_folder(photos, mask, tmp_path / "out", None, None)
    assert [job.image.name for job in jobs] == ["a.png", "good.png"]
    assert notices == [
        f"{photos}: passed over, not pictures: notes.txt",
        f"{photos}: passed over, no regular files (broken links, pipes, devices): gone.png, loop.png, pipe.png",
        f"{mask}: one mask for all 2 photos; name a folder where each has its own",
    ]


def test_a_controller_that_was_edited_is_read_anew(tmp_path):
    path = tmp_path / "c.yaml"
    for low in (0.10, 0.15):
        path.write_text(f"low: {low}\n")
        assert load_controller(path).low == low
    assert load_controller() is load_controller()


def test_a_write_that_fails_leaves_no_new_folder(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        write_atomic(tmp_path / "new" / "deep" / "r.json", full)
    assert not list(tmp_path.iterdir())
    write_atomic(tmp_path / "new" / "deep" / "r.json", lambda file: file.write(b"{}"))
    assert (tmp_path / "new" / "deep" / "r.json").read_bytes() == b"{}"


def test_an_account_without_home_has_a_folder_for_weights_all_the_same(monkeypatch):
    monkeypatch.delenv("IDINPAINT_WEIGHTS", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError()))  # as in a container
    assert user_folder().name == "idinpaint"


@pytest.fixture(scope="module")
def as_nobody():
    """Runs Python without any right to what root owns."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
    able = os.geteuid() == 0 and shutil.which("setpriv")
    if not able or subprocess.run([*user, "-c", "import numpy"]).returncode:
        pytest.skip("needs root, setpriv, and an interpreter that others may run")

    def run(words: list[object], **environment: str) -> subprocess.CompletedProcess:
        env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run([*user, *map(str, words)], env=env, cwd="/", capture_output=True, text=True)

    return run


@pytest.mark.parametrize("role", ["photo", "folder", "mask", "output", "report", "controller", "model", "prepare"])
def test_a_folder_that_may_not_be_entered_is_one_line(tmp_path, as_nobody, role):
    """pytest's own folders are for their owner only."""
    place, closed = Path("/tmp") / f"idinpaint-test-{os.getpid()}", tmp_path / "closed"
    closed.mkdir(mode=0o700)
    place.mkdir()
    place.chmod(0o777)
    try:
        for path in (place / "a.png", place / "m.png", closed / "a.png"):
            Image.new("L", (8, 8), 255 * (path.name == "m.png")).save(path)
        photo, mask, out = place / "a.png", place / "m.png", place / "o.png"
        command = {
            "photo": ["restore", closed / "a.png", "--mask", mask, "-o", out],
            "folder": ["restore", closed, "--mask", mask, "-o", place / "out"],
            "mask": ["restore", photo, "--mask", closed / "a.png", "-o", out],
            "output": ["restore", photo, "--mask", mask, "-o", closed / "o.png"],
            "report": ["restore", photo, "--mask", mask, "-o", out, "--report", closed / "r.json"],
            "controller": ["restore", photo, "--mask", mask, "-o", out, "--controller", closed / "c.yaml"],
            "model": ["restore", photo, "--mask", mask, "-o", out, "--model", closed / "model"],
            "prepare": ["prepare", closed, place / "out"],
        }[role]
        done = as_nobody(["-m", "idinpaint.cli", *command])
        assert done.returncode == 2 and done.stderr.startswith("idinpaint: error: ") and done.stderr.count("\n") == 1
        assert sorted(path.name for path in place.iterdir()) == ["a.png", "m.png"]
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


def test_a_home_that_may_not_be_read_has_no_optional_weights(tmp_path, as_nobody):
    code = "from idinpaint.cli.batch import always_read; from idinpaint.models.weights import *; always_read()"
    done = as_nobody(["-c", f"{code}; print(WeightStore().find(SFACE_FILE))"], HOME=str(tmp_path), IDINPAINT_WEIGHTS="")
    assert (done.stdout, done.returncode) == ("None\n", 0), done.stderr
