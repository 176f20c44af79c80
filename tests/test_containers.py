"""Odd picture files: read with what is sound of them, or refused in one line; never status 1."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from idinpaint.cli import main
from idinpaint.imaging.containers import LONGEST_SIDE, check_fits, resolution
from idinpaint.imaging.photo import load_photo, save_photo
from idinpaint.types import InputError

GREY = np.full((60, 80, 3), 90, np.uint8)
HOLE = np.zeros((60, 80), bool)
HOLE[10:30, 20:50] = True
BROKEN_EXIF = {
    "no TIFF": b"Exif\0\0hello, this is no TIFF",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "loop": b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8),
    "empty": b"",
}


@pytest.mark.parametrize("role", ["photo", "mask"])
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_broken_exif_costs_neither_photo_nor_mask(tmp_path, kind, suffix, role):
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(GREY if role == "photo" else (HOLE * 255).astype(np.uint8))
    options = {"quality": 95} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    image.save(path, exif=BROKEN_EXIF[kind], **options)
    if role == "mask":
        from idinpaint.imaging.mask_io import load_mask

        assert (load_mask(path, (80, 60))[0] == HOLE).mean() > 0.95
        return
    photo = load_photo(path)
    assert photo.size == (80, 60)
    save_photo(photo, GREY, HOLE, tmp_path / f"o.{suffix}")
    if kind == "no TIFF" and suffix != "jpg":
        assert "EXIF data is damaged" in photo.notices[0]


@pytest.mark.parametrize(
    "dpi, kept",
    [
        ((300, 300), (300, 300)),
        ((72, 0), None),
        ((float("nan"), 72), None),
        ((float("inf"), 72), None),
        (("x", 1), None),
    ]
    + [((4294967295, 72), None), ((-1, -1), None), (5, None), ((72,), None)],
)
def test_a_resolution_that_makes_no_sense_is_none(dpi, kept):
    assert resolution({"dpi": dpi}) == kept
    assert resolution({}) is None


def test_a_tiff_whose_resolution_divides_by_zero_is_read_and_saved(tmp_path):
    from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[282], tags[283], tags[296] = IFDRational(72, 0), IFDRational(4294967295, 1), 2
    Image.fromarray(GREY).save(tmp_path / "a.tif", tiffinfo=tags)
    for suffix in ("tif", "png", "jpg", "webp"):
        save_photo(load_photo(tmp_path / "a.tif"), GREY, HOLE, tmp_path / f"o.{suffix}")


def strip(width, height):
    """A grey PNG of any sides."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size, said", [((300, 1), "32:1"), ((1, 300), "32:1"), ((LONGEST_SIDE + 1, 1100), "sides up to")]
)
def test_strips_and_giants_are_refused_at_once(tmp_path, capsys, size, said):
    (tmp_path / "a.png").write_bytes(strip(*size))
    start = time.monotonic()
    out = tmp_path / "o.png"
    assert main(["restore", str(tmp_path / "a.png"), "--mask", str(tmp_path / "a.png"), "-o", str(out)]) == 2
    assert time.monotonic() - start < 5 and not out.exists()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error


def test_a_lab_mask_is_refused(tmp_path, capsys):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    lab = Image.frombytes("LAB", (80, 60), GREY.tobytes())
    lab.save(tmp_path / "m.tif")
    assert main(["restore", str(tmp_path / "a.png"), "--mask", str(tmp_path / "m.tif"), "-o", "o.png"]) == 2
    assert "LAB" in capsys.readouterr().err


def test_a_format_too_small_for_the_photo_is_told_before_painting(tmp_path):
    check_fits((16_383, 600), tmp_path / "o.webp")
    check_fits((20_000, 700), tmp_path / "o.png", None)
    with pytest.raises(InputError, match="WEBP holds sides up to 16383"):
        check_fits((16_384, 600), tmp_path / "o.webp")


def test_tags_too_long_for_jpeg_are_one_line(tmp_path):
    photo = load_photo(save(tmp_path / "a.png"))
    photo.exif = Image.Exif()
    for tag in range(200):
        photo.exif[0xC000 + tag] = "x" * 1000
    with pytest.raises(InputError, match="o.jpg: cannot be written in this format"):
        save_photo(photo, GREY, HOLE, tmp_path / "o.jpg")
    assert not (tmp_path / "o.jpg").exists()


def save(path):
    Image.fromarray(GREY).save(path)
    return path


@pytest.mark.parametrize("box", ["0,0,1e12,1e12", "nan,0,1,1", "0,0,inf,1", "-1e9,0,1,1"])
def test_boxes_without_measure_are_refused(capsys, box):
    with pytest.raises(SystemExit) as caught:
        main(["restore", "a.png", "--mask", "m.png", "-o", "o.png", "--face-box", box])
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("option", ["image", "--mask", "-o", "--report", "--reference", "--controller"])
@pytest.mark.parametrize("kind", ["long", "loop"])
def test_long_names_and_link_loops_are_one_line(tmp_path, capsys, option, kind):
    bad = tmp_path / ("n" * 300 + ".png")
    if kind == "loop":
        bad = tmp_path / "loop.png"
        bad.symlink_to(bad)
    save(tmp_path / "a.png")
    Image.fromarray((HOLE * 255).astype(np.uint8)).save(tmp_path / "m.png")
    values = {"image": tmp_path / "a.png", "--mask": tmp_path / "m.png", "-o": tmp_path / "o.png", option: bad}
    command = ["restore", values.pop("image")] + [part for pair in values.items() for part in pair]
    assert main([str(part) for part in [*command, "--strategy", "telea"]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("option", ["--report", "--report-html"])
@pytest.mark.parametrize("victim", ["cert.pem", "key.pem", "weights/sface.onnx"])
def test_keys_and_weights_are_not_written_over(tmp_path, capsys, monkeypatch, option, victim):
    from idinpaint.cli import batch

    monkeypatch.setattr(batch, "find_credentials", lambda *_: None)
    monkeypatch.setenv("IDINPAINT_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    for name in ("cert.pem", "key.pem", "weights/sface.onnx"):
        (tmp_path / name).write_text("mine")
    Image.fromarray((HOLE * 255).astype(np.uint8)).save(tmp_path / "m.png")
    command = ["restore", save(tmp_path / "a.png"), "--mask", tmp_path / "m.png", "-o", tmp_path / "o.png"]
    command += ["--c2pa-cert", tmp_path / "cert.pem", "--c2pa-key", tmp_path / "key.pem", option, tmp_path / victim]
    assert main([str(part) for part in command]) == 2
    assert "it is read" in capsys.readouterr().err and (tmp_path / victim).read_text() == "mine"
