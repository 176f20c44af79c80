"""Folders below folders, names in other bytes, pipes, candidates that are kept: the command line with a stand-in."""

from __future__ import annotations

import io
import subprocess
import sys
import types
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idinpaint.cli import main
from tests.test_cli import HOLE, StandIn, files, mask_file, picture  # noqa: F401  (a fixture)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    StandIn.calls = []
    monkeypatch.setitem(sys.modules, "idinpaint.restorer", types.SimpleNamespace(Restorer=StandIn))


def test_recursive_keeps_the_sub_folders(tmp_path, capsys):
    for name in ("a.png", "x/a.png", "x/y/b.png", ".hidden/c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / "in" / name)
    for name in ("a.png", "x/a_mask.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        mask_file(tmp_path / "masks" / name)
    command = ["restore", str(tmp_path / "in"), "--mask", str(tmp_path / "masks"), "-o", str(tmp_path / "out")]
    assert main([*command, "--recursive", "--report", str(tmp_path / "reports")]) == 2  # b.png has no mask
    said = capsys.readouterr()
    assert "3 photos: 2 restored, 0 abstained, 1 bad" in said.out
    assert "b.png: its masks should lie in" in said.err
    made = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert made == {"a.png", "x/a.png", "summary.csv"}
    assert (tmp_path / "reports/x/a.json").is_file()


def test_recursive_with_results_and_masks_among_the_photos(tmp_path):
    photos = tmp_path / "in"
    for name in ("a.png", "x/b.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        picture(photos / name)
        mask_file((photos / name).with_name(Path(name).stem + "_mask.png"))
    command = ["restore", str(photos), "--mask", str(photos), "-o", str(photos / "restored"), "--recursive"]
    assert main(command) == 0 and main(command) == 0  # the results of the first run are no photos of the second
    assert len(StandIn.calls) == 4
    assert (photos / "restored/x/b.png").is_file()


@pytest.mark.parametrize("words, said", [
    (["--recursive"], "is no folder"),
    (["--keep-candidates", "m.png"], "is a file, a folder is needed"),
    (["--grain", "some"], "invalid choice"),
])  # fmt: skip
def test_a_wrong_one_is_said(files, capsys, monkeypatch, words, said):  # noqa: F811
    photo, mask, folder = files
    monkeypatch.chdir(folder)
    try:
        status = main(["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), *words])
    except SystemExit as stop:
        status = stop.code
    assert status == 2 and said in capsys.readouterr().err and not (folder / "o.png").exists()


def test_recursive_without_pictures(tmp_path, capsys):
    (tmp_path / "in/x").mkdir(parents=True)
    mask = mask_file(tmp_path / "m.png")
    assert main(["restore", str(tmp_path / "in"), "--mask", mask, "-o", str(tmp_path / "out"), "--recursive"]) == 2
    assert "no pictures in this folder or below it" in capsys.readouterr().err


@pytest.mark.parametrize("beside", [False, True])
def test_accents_composed_or_not_are_the_same_name(tmp_path, beside):
    name = "Großmutter Zoë à Genève"
    photos, masks = tmp_path / "in", tmp_path / ("in" if beside else "masks")
    picture(photos / f"{unicodedata.normalize('NFD', name)}.png")
    mask_file(masks / f"{unicodedata.normalize('NFC', name)}_mask.png")
    assert main(["restore", str(photos), "--mask", str(masks), "-o", str(tmp_path / "out")]) == 0
    assert len(StandIn.calls) == 1


def test_keep_candidates(files, capsys):  # noqa: F811
    photo, mask, folder = files
    kept = folder / "kept"
    command = ["restore", photo, "--mask", mask, "-o", str(folder / "o.tif"), "--keep-candidates", str(kept)]
    assert main(command) == 0
    assert sorted(p.name for p in kept.iterdir()) == [f"o_candidate_{n}.tif" for n in (1, 2, 3)]
    pictures = [np.asarray(Image.open(path)) for path in sorted(kept.iterdir())]
    before = np.asarray(Image.open(photo))
    for one in pictures:
        np.testing.assert_array_equal(one[~HOLE], before[~HOLE])
    np.testing.assert_array_equal(pictures[0], np.asarray(Image.open(folder / "o.tif")))
    assert (pictures[1] != pictures[2]).any()


def test_keep_candidates_says_when_there_are_none(files, capsys):  # noqa: F811
    _, mask, folder = files
    photo = picture(folder / "gone.png", coverage=90)
    command = ["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--keep-candidates", str(folder / "k")]
    assert main(command) == 3
    assert "nothing is kept for gone.png" in capsys.readouterr().err and not (folder / "k").exists()


def test_keep_candidates_overwrites_nothing(files, capsys):  # noqa: F811
    _, mask, folder = files
    photo = picture(folder / "o_candidate_2.png")
    before = Path(photo).read_bytes()
    command = ["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--keep-candidates", str(folder)]
    assert main(command) == 2
    assert "it is read in the same command" in capsys.readouterr().err and Path(photo).read_bytes() == before


@pytest.mark.parametrize("number", [1, 4, 7])
def test_keep_candidates_overwrites_no_other_photo_of_a_folder(tmp_path, capsys, number):
    photos = tmp_path / "in"
    picture(photos / "a.png")
    other = Path(picture(photos / f"a_candidate_{number}.png"))
    before = other.read_bytes()
    mask = mask_file(tmp_path / "m.png")
    command = ["restore", str(photos), "--mask", mask, "-o", str(tmp_path / "out"), "--keep-candidates", str(photos)]
    assert main(command) == 2
    assert f"{other}: cannot be written, it is read" in capsys.readouterr().err
    assert other.read_bytes() == before and not (tmp_path / "out").exists()


def test_keep_candidates_overwrites_no_reference(files, capsys):  # noqa: F811
    photo, mask, folder = files
    reference = Path(picture(folder / "o_candidate_2.png"))
    before = reference.read_bytes()
    command = ["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--keep-candidates", str(folder)]
    assert main([*command, "--reference", str(reference)]) == 2
    assert "it is read in the same command" in capsys.readouterr().err and reference.read_bytes() == before


class Bytes:
    """A text stream with a binary one below it, as sys.stdin and sys.stdout are."""

    def __init__(self, data=b""):
        self.buffer, self.text = io.BytesIO(data), io.StringIO()

    def write(self, text):
        return self.text.write(text)

    def flush(self):
        pass


def test_standard_input_and_output(files, capsys, monkeypatch):  # noqa: F811
    photo, mask, _ = files
    out = Bytes()
    monkeypatch.setattr(sys, "stdin", Bytes(Path(photo).read_bytes()))
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["restore", "-", "--mask", mask, "-o", "-"]) == 0
    assert out.text.getvalue() == ""
    result = Image.open(io.BytesIO(out.buffer.getvalue()))
    assert result.format == "PNG"
    np.testing.assert_array_equal(np.asarray(result)[~HOLE], np.asarray(Image.open(photo))[~HOLE])


@pytest.mark.parametrize("data, said", [(b"", "standard input: is empty"), (b"words", "standard input: is not a pict")])
def test_what_comes_in_is_no_picture(files, capsys, monkeypatch, data, said):  # noqa: F811
    _, mask, folder = files
    monkeypatch.setattr(sys, "stdin", Bytes(data))
    assert main(["restore", "-", "--mask", mask, "-o", str(folder / "o.png")]) == 2
    error = capsys.readouterr().err
    assert said in error and "/tmp" not in error.split("standard input")[0]


def test_pipes_take_one_photo_and_a_mask_in_a_file(files, capsys):  # noqa: F811
    photo, mask, folder = files
    assert main(["restore", str(folder), "--mask", mask, "-o", "-"]) == 2
    assert "standard output takes one photo" in capsys.readouterr().err
    assert main(["restore", photo, "--mask", "-", "-o", "-"]) == 2
    assert "the mask must be a file" in capsys.readouterr().err


def test_lean_imports_hide_and_give_back():
    code = (
        "import sys\n"
        "import gc\n"
        "from importlib import metadata\n"
        "from idinpaint.cli.lean_imports import COMPILER, TRANSFORMERS, UNUSED, without_unused\n"
        "with without_unused():\n"
        "    from idinpaint.restorer import Restorer\n"
        "    Restorer.from_pretrained()\n"
        "assert not [n for n in UNUSED if sys.modules.get(n)], 'loaded'\n"
        "assert not [n for n in (*UNUSED, COMPILER, TRANSFORMERS) if n in sys.modules], 'left hidden'\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000\n"
        "assert metadata.packages_distributions()\n"
        "import scipy, torch\n"
        "assert torch._dynamo.eval_frame.innermost_fn, 'the compiler itself'\n"
        "assert len([n for n in sys.modules if n.startswith(TRANSFORMERS + '.')]) < 10, 'all of them'\n"
        "from diffusers import DiTTransformer2DModel\n"
        "from diffusers.models.transformers import FluxTransformer2DModel, Transformer2DModel\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
