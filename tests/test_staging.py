"""All files of a photo appear together or not at all, whatever stops the work; what lay under the mask stays there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from idinpaint.cli import main, sidecar
from idinpaint.exits import TERMINATED
from idinpaint.imaging.compositing import nearest_known
from idinpaint.imaging.photo import load_photo, save_photo
from idinpaint.imaging.staging import Staging, staging
from idinpaint.types import InputError

HOLE = np.zeros((60, 80), bool)
HOLE[10:30, 20:50] = True


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path):
    ys, xs = np.mgrid[:60, :80]
    Image.fromarray(np.stack([xs * 2, ys * 3, xs + ys], -1).astype(np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray((HOLE * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "o.png").write_bytes(b"the old output")
    return tmp_path


@pytest.mark.parametrize("failing", ["write_pictures", "save_photo", "write_json", "write_page"])
def test_one_file_that_cannot_be_written_leaves_all_as_it_was(folder, monkeypatch, capsys, failing):
    """A full disk at any of the files: status 2, the old output still there, no new file, no new folder."""

    def full(*arguments, **_):
        path = next((a for a in arguments if hasattr(a, "suffix")), "files")
        raise InputError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(sidecar, failing, full)
    before = contents(folder)
    command = ["restore", folder / "photo.png", "--mask", folder / "mask.png", "-o", folder / "o.png", "--strategy"]
    command += ["telea", "--report", folder / "new" / "deep" / "r.json", "--report-html", folder / "r.html"]
    assert main([str(part) for part in [*command, "--comparison", folder / "c.png"]]) == 2
    error = capsys.readouterr().err
    assert contents(folder) == before
    assert error.splitlines()[-1].endswith("No space left on device)") and ".tmp" not in error


def test_a_rename_that_fails_puts_back_what_was_there(tmp_path, monkeypatch):
    real_replace, renames = os.replace, []

    def second_fails(source, target):
        renames.append(target)
        if len(renames) == 2:
            raise OSError(28, "No space left on device")
        real_replace(source, target)

    (tmp_path / "a").write_text("old")
    with pytest.raises(InputError, match="b: cannot be written"), staging() as staged:
        for name in ("a", "b"):
            staged.place(tmp_path / name).write_text("new")
        monkeypatch.setattr(os, "replace", second_fails)
    assert {path: data for path, data in contents(tmp_path).items()} == {(tmp_path / "a").relative_to(tmp_path): b"old"}


def test_links_modes_and_the_longest_names_are_kept(tmp_path):
    target, link, long = tmp_path / "target", tmp_path / "link", tmp_path / ("n" * 251 + ".png")
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    with staging() as staged:
        for path in (link, long):
            place = staged.place(path)
            assert place.suffix == path.resolve().suffix
            place.write_text("new")
    assert link.is_symlink() and target.read_text() == long.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 3


def test_places_are_not_shared_by_two_runs(tmp_path):
    first, second = Staging(), Staging()
    assert first.place(tmp_path / "o") != second.place(tmp_path / "o")
    for staged in (first, second):
        staged.clear()
    assert not list(tmp_path.iterdir())


WAITING = """
import sys, time
from pathlib import Path
from idinpaint.cli import command_line as cli
from idinpaint.imaging import staging
def work(args):
    with staging.staging() as staged:
        staged.place(Path(sys.argv[1]) / "new" / "o.png").write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(60)
cli._run = work
sys.exit(cli.main(["doctor"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell ignores SIGINT in what it starts with &
    )  # fmt: skip
    assert process.stdout.readline() == "writing\n" and contents(tmp_path)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == (TERMINATED if number == signal.SIGTERM else 130)
    assert error.count("\n") == 1 and not contents(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBA 16"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_under_the_mask_does_not_leak(tmp_path, mode, suffix):
    """Two photos that differ under the mask only, in colour and in alpha: the same bytes. Known alpha is kept."""
    files, rng = [], np.random.default_rng(0)
    colours, base = rng.integers(0, 256, (60, 80, 3), np.uint8), rng.integers(0, 256, (60, 80), np.uint8)
    for number in range(2):
        alpha = np.where(HOLE, rng.integers(0, 256, (60, 80)), base).astype(np.uint8)
        source = tmp_path / f"{number}.png"
        if mode == "RGBA 16":
            from idinpaint.imaging.encoders import write_png16

            with open(source, "wb") as file:
                write_png16(file, np.dstack([colours, alpha]).astype(np.uint16) * 257, None, None)
        else:
            image = Image.fromarray(np.dstack([colours, alpha])).convert("RGBA" if mode == "PA" else mode)
            options = {}
            if mode == "PA":  # four colours, each with its own transparency
                image = Image.fromarray(alpha // 64).convert("P")
                image.putpalette(bytes(range(0, 240, 20)))
                options["transparency"] = bytes([0, 90, 170, 255])
            image.save(source, **options)
        photo = load_photo(source)
        assert photo.alpha is not None
        out = tmp_path / f"out{number}.{suffix}"
        save_photo(photo, np.full((60, 80, 3), 90, np.uint8), HOLE, out)
        files.append(out.read_bytes())
        if suffix != "webp" and mode == "RGBA":
            assert np.array_equal(np.asarray(Image.open(out).getchannel("A"))[~HOLE], base[~HOLE])
    assert files[0] == files[1]


def test_nearest_known_reads_known_values_only():
    values = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) % 3000
    other = np.where(HOLE, 65535, values).astype(np.uint16)
    filled = nearest_known(values, HOLE)
    assert np.array_equal(filled, nearest_known(other, HOLE)) and np.array_equal(filled[~HOLE], values[~HOLE])
    assert filled[10, 30] == values[9, 30] and filled[20, 20] == values[20, 19]


def test_a_signal_between_two_renames_waits_until_all_are_done(tmp_path):
    """SIGTERM at the first rename: both targets are new, nothing else is left, and the signal acts then."""
    script = f"""
import signal, sys
from pathlib import Path
from idinpaint.exits import Terminated, unwinding
from idinpaint.imaging.staging import staging
sys.addaudithook(lambda event, _: signal.raise_signal(signal.SIGTERM) if event == "os.rename" else None)
try:
    with unwinding(), staging() as staged:
        for name in ("a", "b"):
            staged.place(Path({str(tmp_path)!r}) / name).write_text("new")
    sys.exit("the signal was lost")
except Terminated:
    print("terminated")
"""
    (tmp_path / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "terminated\n", done.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}
