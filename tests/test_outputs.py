"""Outputs replace nothing that the command reads, and nothing that is no regular file; hidden pictures stay behind."""

import os
import stat

import numpy as np
import pytest
from PIL import Image

from idinpaint.cli import main
from idinpaint.cli.jobs import plan_folder
from idinpaint.imaging.encoders import photo_tags, write_atomic
from idinpaint.imaging.photo import open_image
from idinpaint.models import weights
from idinpaint.types import InputError


@pytest.fixture
def photos(tmp_path):
    for name in ("in/a.png", "out/a.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_no_output_of_a_folder_replaces_an_input(photos, link):
    mask = photos / "out/a.png"
    if link:
        mask = photos / "m.png"
        getattr(mask, link)(photos / "out/a.png")
    with pytest.raises(InputError, match="it is read"):
        plan_folder(photos / "in", mask, photos / "out", None, None)
    with pytest.raises(InputError, match="it is read"):
        Image.new("L", (8, 8)).save(photos / "mask.png")
        plan_folder(photos / "in", photos / "mask.png", photos / "out", None, None, inputs=(mask,))


def test_no_two_outputs_share_a_file(photos):
    with pytest.raises(InputError, match="it is written"):
        plan_folder(photos / "in", photos / "out/a.png", photos / "new", None, photos / "new")


def test_a_pipe_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="no regular file"):
        write_atomic(pipe, lambda file: file.write(b"x"))
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_links_are_written_through_and_modes_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    write_atomic(link, lambda file: file.write(b"new"))
    assert link.is_symlink() and target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
    write_atomic(tmp_path / ("n" * 251 + ".png"), lambda file: file.write(b"x"))  # 255 bytes, the longest name


def test_only_listed_tags_are_kept():
    exif = Image.Exif()
    hidden = b"hidden face" * 20
    for tag in (34377, 37724, 33723, 700, 65000):
        exif[tag] = hidden
    exif[0x8298] = "by me"
    exif.get_ifd(0x8769).update({0x927C: hidden, 0x9286: hidden, 0x9003: "2020:01:01 00:00:00"})
    kept = photo_tags(exif, rotated=False)
    assert b"hidden" not in kept.tobytes()
    assert kept[0x8298] == "by me" and kept.get_ifd(0x8769)[0x9003].startswith("2020")


def test_postscript_is_not_opened(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(InputError, match="not a picture"):
        open_image(tmp_path / "x.jpg")


def test_detect_writes_over_nothing_that_it_reads_and_what_fits(tmp_path, capsys):
    Image.new("RGB", (17000, 600)).save(tmp_path / "wide.png")
    (tmp_path / "m.png").symlink_to(weights.BUNDLED / "landmarks.safetensors")
    for out, said in (("wide.png", "it is read"), ("m.png", "it is read"), ("m.webp", "holds sides up to 16383 px")):
        assert main(["detect", str(tmp_path / "wide.png"), "-o", str(tmp_path / out)]) == 2
        assert said in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.png", "wide.png"]
