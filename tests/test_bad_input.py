"""Bad input, through the command line: one line on stderr, no traceback, nothing written, the right status."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from idinpaint.cli import main
from idinpaint.imaging import encoders, photo
from idinpaint.models.weights import BUNDLED
from idinpaint.types import InputError

FACE_BOX = "170,60,110,130"  # of the astronaut


def png_of_size(width, height):
    """A PNG of a few bytes that claims any size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def smooth(width=80, height=60):
    ys, xs = np.mgrid[:height, :width]
    return np.stack([xs * 200 // width, ys * 200 // height, 90 + 0 * xs], -1).astype(np.uint8)


def a_mask(width=80, height=60, box=(20, 10, 30, 20)):
    mask = np.zeros((height, width), np.uint8)
    x, y, w, h = box
    mask[y : y + h, x : x + w] = 255
    return mask


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "ok.png")
    Image.fromarray(a_mask()).save(tmp_path / "mask.png")
    return tmp_path


BROKEN = {
    "missing": (None, "no such file"),
    "empty file": (b"", "0 bytes"),
    "text": (b"hello, I am no picture at all", "not a picture"),
    "truncated": ("cut", "damaged or cut short"),
    "bomb": (png_of_size(60000, 60000), "megapixels"),
    "bomb below Pillow's own limit": (png_of_size(13250, 13250), "megapixels"),
    "no pixels": (png_of_size(0, 10), "damaged|not a picture"),
    "folder": ("folder", "is a folder|no pictures"),
}


def put(path, content):
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:6000])
    elif content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)


def refused(capsys, said, arguments, folder):
    """Runs the command; status 2, one line on stderr, no file more than before."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("idinpaint: error: ") and printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    assert any(part in printed.err for part in said.split("|")), printed.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "something was written"


@pytest.mark.parametrize("role", ["image", "mask", "reference", "verify", "analyze"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(folder, capsys, kind, role):
    content, said = BROKEN[kind]
    bad = folder / "bad.png"
    put(bad, content)
    good, mask, out = folder / "ok.png", folder / "mask.png", folder / "o.png"
    command = {
        "image": ["restore", bad, "--mask", mask, "-o", out],
        "mask": ["restore", good, "--mask", bad, "-o", out],
        "reference": ["restore", good, "--mask", mask, "-o", out, "--reference", bad],
        "verify": ["verify", good, bad],
        "analyze": ["analyze", bad, "--mask", mask, "--overlay", out],
    }[role]
    if (kind, role) == ("folder", "mask"):
        said = "no mask named"
    refused(capsys, said, command, folder)


def test_unreadable_file(folder, capsys, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(photo.Image, "open", refuse)  # the tests may run as root, who may read anything
    refused(
        capsys,
        "permission denied",
        ["restore", folder / "ok.png", "--mask", folder / "mask.png", "-o", "o.png"],
        folder,
    )


@pytest.mark.parametrize(
    "values, said",
    [
        (np.zeros((60, 80)), "empty"),
        (np.full((60, 80), 255), "covers the whole photo"),
        (np.full((60, 80), 127), "uniform grey (127)"),
        (a_mask() // 2, "below half"),
        (a_mask(70, 60), "aspect ratio"),
        (a_mask(60, 80), "turned by 90 degrees"),
    ],
)
def test_masks_that_cannot_be_meant(folder, capsys, values, said):
    Image.fromarray(np.asarray(values, np.uint8)).save(folder / "m.png")
    refused(capsys, said, ["restore", folder / "ok.png", "--mask", folder / "m.png", "-o", folder / "o.png"], folder)


@pytest.mark.parametrize(
    "option, name, said",
    [
        ("-o", "o.xyz", "unknown output extension"),
        ("-o", "o", "unknown output extension"),
        ("-o", "ok.png/o.png", "not a writable folder"),
        ("-o", "ok.png", "it is read in the same command"),
        ("-o", "mask.png", "it is read in the same command"),
        ("--report", "ok.png/r.json", "not a writable folder"),
        ("--report", "ok.png", "it is read in the same command"),
        ("--comparison", "c.xyz", "unknown output extension"),
        ("--comparison", "o.png", "it is written in the same command"),
    ],
)
def test_output_paths_that_cannot_be_written(folder, capsys, option, name, said):
    command = ["restore", folder / "ok.png", "--mask", folder / "mask.png"]
    command += [option, folder / name] if option == "-o" else ["-o", folder / "o.png", option, folder / name]
    refused(capsys, said, command, folder)


def test_output_folder_without_permission(folder, capsys, monkeypatch):
    monkeypatch.setattr(encoders.os, "access", lambda *_: False)
    refused(
        capsys,
        "writable",
        ["restore", folder / "ok.png", "--mask", folder / "mask.png", "-o", folder / "o.png"],
        folder,
    )


def test_empty_folder_of_photos(folder, capsys):
    (folder / "in").mkdir()
    refused(
        capsys, "no pictures", ["restore", folder / "in", "--mask", folder / "mask.png", "-o", folder / "out"], folder
    )


# From here on with the bundled model.


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portrait")
    Image.fromarray(skimage.data.astronaut()).save(folder / "face.png")
    Image.fromarray(a_mask(512, 512, (200, 135, 14, 12))).save(folder / "mask.png")
    return folder


def restore(folder, out, *more, image="face.png", mask="mask.png"):
    fast = ["--num-samples", "1", "--steps", "2"]
    command = ["restore", folder / image, "--mask", folder / mask, "-o", out, *fast, *more]
    return main([str(argument) for argument in command])


def test_wrong_weights(folder, capsys):
    model = folder / "model"
    shutil.copytree(BUNDLED, model)
    with open(model / "landmarks.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    command = ["restore", folder / "ok.png", "--mask", folder / "mask.png", "-o", folder / "o.png", "--model", model]
    refused(capsys, "sha256 differs", command, folder)


def test_no_such_model(folder, capsys):
    command = ["restore", folder / "ok.png", "--mask", folder / "mask.png", "-o", folder / "o.png"]
    refused(capsys, "neither a model folder", [*command, "--model", folder / "nothing"], folder)


def test_no_face_is_filled_as_background_and_said(folder, capsys):
    assert restore(folder, folder / "o.png", image="ok.png") == 0
    assert "no face found" in capsys.readouterr().err
    result, mask = np.asarray(Image.open(folder / "o.png")), a_mask() > 0
    assert np.array_equal(result[~mask], smooth()[~mask])


def test_a_face_that_the_hole_covers_entirely(portrait, tmp_path, capsys):
    """It abstains, with the face's place given or not, says the way out, and leaves the hole marked."""
    hole = a_mask(512, 512, (160, 20, 150, 190))
    Image.fromarray(hole).save(portrait / "all.png")
    assert restore(portrait, tmp_path / "o.png", "--face-box", FACE_BOX, mask="all.png") == 3
    result = np.asarray(Image.open(tmp_path / "o.png"))
    assert np.array_equal(result[hole == 0], skimage.data.astronaut()[hole == 0])
    assert "abstained" in capsys.readouterr().out
    assert restore(portrait, tmp_path / "p.png", "--report", str(tmp_path / "p.json"), mask="all.png") == 3
    assert "--face-box" in capsys.readouterr().out
    report = json.loads((tmp_path / "p.json").read_text())
    assert (report["status"], report["verdict"], report["decision"]["rule"]) == ("abstained",) * 2 + (
        "face-not-visible",
    )
    marked = np.asarray(Image.open(tmp_path / "p.png"))
    assert set(np.unique(marked[hole > 0])) == {88, 128}
    assert np.array_equal(marked[hole == 0], skimage.data.astronaut()[hole == 0])
    assert restore(portrait, tmp_path / "q.png", "--strategy", "telea", mask="all.png") == 0


def test_reference_without_a_face(portrait, tmp_path, capsys):
    Image.fromarray(smooth(200, 200)).save(tmp_path / "none.png")
    assert restore(portrait, tmp_path / "o.png", "--reference", tmp_path / "none.png") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "none.png: no face found" in error
    assert os.listdir(tmp_path) == ["none.png"]


def test_reference_with_several_faces(portrait, tmp_path, capsys):
    face = skimage.data.astronaut()[:300, 80:380]
    Image.fromarray(np.hstack([face, face])).save(tmp_path / "two.png")
    assert restore(portrait, tmp_path / "o.png", "--reference", tmp_path / "two.png") == 0
    assert "2 faces in the reference photo" in capsys.readouterr().err


def test_photos_to_verify_without_a_face(portrait, folder, capsys):
    refused(capsys, "no face found", ["verify", portrait / "face.png", folder / "ok.png"], folder)


def test_a_strategy_that_the_model_lacks(restorer):
    lacking = copy.copy(restorer)
    lacking.inpainters = {name: each for name, each in restorer.inpainters.items() if name != "gan"}
    with pytest.raises(InputError, match="--gan FOLDER"):
        lacking(smooth(), a_mask() > 0, strategy="gan")


@pytest.mark.parametrize("strategy", ["telea", "diffusion"])
def test_output_files_keep_the_promises(portrait, tmp_path, strategy):
    """Known pixels bit-identical in the file; the file's bytes unchanged when the hole is filled with noise."""
    mask = np.asarray(Image.open(portrait / "mask.png")) > 0
    noisy = skimage.data.astronaut()
    noisy[mask] = np.random.default_rng(0).integers(0, 256, (mask.sum(), 3))
    Image.fromarray(noisy).save(portrait / "noisy.png")
    assert restore(portrait, tmp_path / "a.png", "--strategy", strategy) == 0
    assert restore(portrait, tmp_path / "b.png", "--strategy", strategy, image="noisy.png") == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png"))[~mask], skimage.data.astronaut()[~mask])
