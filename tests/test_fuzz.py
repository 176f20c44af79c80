"""The promises over containers, modes, tags and damage, from seeds: IDINPAINT_FUZZ=5000 runs that many (300 else).

No network paints here (see test_promises.py): a fill that reads known pixels only stands in, for what is tested is the
way of a photo in and out. Each seed: a picture of some mode, in some container, half of them damaged.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from test_cli import StandIn

from idinpaint.cli import main
from idinpaint.imaging.encoders import write_png16, write_tiff

SEEDS, BATCH = int(os.environ.get("IDINPAINT_FUZZ", 300)), 25
SECRET = b"what lay under the mask" * 50  # longer than any text that is kept, as a picture is
# Mode -> containers that hold it without loss; "16" in a name: 16 bits a sample.
CONTAINERS = {
    "1": ("png", "tif", "bmp", "gif"),
    "L": ("png", "tif", "bmp", "gif", "pgm", "tga", "webp"),
    "LA": ("png", "tif", "tga"),
    "P": ("png", "gif", "bmp", "tif"),
    "P+tRNS": ("png", "gif"),
    "RGB": ("png", "tif", "bmp", "ppm", "tga", "webp"),
    "RGBA": ("png", "tif", "tga", "webp"),
    "CMYK": ("tif",),
    "L16": ("png", "tif", "pgm"),
    "LA16": ("png",),
    "RGB16": ("png", "tif"),
    "RGBA16": ("png", "tif"),
    "L+tRNS": ("png",),
    "RGB+tRNS": ("png",),
}
LOSSLESS = TAGGED = ("png", "tif", "webp")  # of the outputs; containers that carry EXIF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Filler(StandIn):
    """As StandIn, with a face of which a tenth is hidden, whatever the picture."""

    def __call__(self, image, mask, progress=None, **options):
        shown = image.copy()
        shown[0, 0] = 10
        return super().__call__(shown, mask, progress, **options)


def samples(rng: np.random.Generator, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Smooth shades with noise, [h, w, C]; uint8 0 and 255 for mode 1, palette places for P."""
    channels = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode.removesuffix("16").split("+")[0]]
    top = 65536 if mode.endswith("16") else 256
    values = rng.integers(0, top, (size[1], size[0], channels), dtype=np.uint32)
    if mode == "1":
        values = values // 128 * 255
    return values.astype(np.uint16 if top > 256 else np.uint8)


def encode(path: Path, mode: str, values: np.ndarray, exif: Image.Exif, seed: int) -> None:
    """Writes the samples; the tags where the container takes them."""
    suffix = path.suffix[1:]
    if mode.endswith("16"):
        if suffix == "pgm":
            path.write_bytes(b"P5 %d %d 65535\n" % values.shape[1::-1] + values.astype(">u2").tobytes())
            return
        with open(path, "wb") as file:
            if suffix == "png":
                write_png16(file, values, None, exif.tobytes().removeprefix(b"Exif\0\0"))
            else:
                write_tiff(file, values, exif=exif)
        return
    kind, _, extra = mode.partition("+")
    image = Image.fromarray(values.squeeze(-1) if values.shape[2] == 1 else values, kind if kind == "CMYK" else None)
    options: dict = {"exif": exif} if suffix in ("png", "webp") else {}
    if kind == "1":
        image = image.convert("1", dither=Image.Dither.NONE)
    if kind == "P":
        image = image.convert("P")
        image.putpalette(np.random.default_rng(seed).integers(0, 256, 768, np.uint8).tobytes())
    if extra:
        options["transparency"] = {"P": 7, "L": int(values[0, 0, 0]), "RGB": tuple(map(int, values[0, 0]))}[kind]
    if suffix == "gif":
        options["optimize"] = False  # else which colours are listed depends on every pixel
    if suffix == "webp":
        options |= {"lossless": True, "exact": True}
    if suffix == "tif":
        compression = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"][seed % 4]
        turn = {0x0112: exif[0x0112]} if 1 <= exif[0x0112] <= 8 else {}
        own = exif if compression == "raw" else turn  # else libtiff writes: no sub-directories, nothing impossible
        options |= {"compression": compression, "tiffinfo": own}
    image.save(path, **options)


def tags(rng: np.random.Generator) -> Image.Exif:
    """An orientation, a date, and what programs hide pictures in."""
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 10))
    exif[0x0132] = "2020:01:01 00:00:00"
    for tag in rng.choice([34377, 37724, 33723, 65001, 50341], 2, replace=False):
        exif[int(tag)] = SECRET
    exif.get_ifd(0x8769).update({0x927C: SECRET, 0x9286: SECRET, 0x9003: "2020:01:01 00:00:00"})
    return exif


def damage(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes changed, cut, doubled or put in, anywhere."""
    data = bytearray(data)
    how, where = rng.integers(0, 4), int(rng.integers(0, len(data)))
    if how == 0:
        for place in rng.integers(0, min(len(data), 400), int(rng.integers(1, 9))):
            data[place] = int(rng.integers(0, 256))
    elif how == 1:
        del data[where:]
    elif how == 2:
        data[where:where] = data[: int(rng.integers(1, 200))]
    else:
        data[where : where + 4] = rng.bytes(4)
    return bytes(data)


def upright(path: Path) -> np.ndarray:
    """Decoded without the package: RGBA uint8, or uint16 as OpenCV gives it."""
    deep = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)  # TIFFs upright, others as they lie
    with Image.open(path) as image:
        if deep is not None and deep.dtype == np.uint16:
            deep = deep.reshape(*deep.shape[:2], -1)
            lies = np.arange(deep.shape[0] * deep.shape[1], dtype=np.int32).reshape(deep.shape[:2])
            turn = None if image.format == "TIFF" else UPRIGHT.get(image.getexif().get(0x0112, 1))
            order = Image.fromarray(lies) if turn is None else Image.fromarray(lies).transpose(turn)
            return deep.reshape(-1, deep.shape[2])[np.asarray(order)]
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))


def one(seed: int, folder: Path, capfd: pytest.CaptureFixture) -> None:
    """The promises for one seed."""
    rng = np.random.default_rng(seed)
    mode = str(rng.choice(list(CONTAINERS)))
    suffix, out_suffix = str(rng.choice(CONTAINERS[mode])), str(rng.choice([*LOSSLESS, "jpg", "bmp"]))
    size = tuple(int(n) for n in rng.integers(12, 48, 2))
    values, exif, broken = samples(rng, mode, size), tags(rng), bool(rng.integers(0, 2))
    turned = exif[0x0112] in (5, 6, 7, 8) and suffix in TAGGED
    hole = np.zeros(size if turned else size[::-1], bool)
    hole[2 : 2 + int(rng.integers(1, 8)), 3 : 3 + int(rng.integers(1, 8))] = True
    photo, mask, out, report = (folder / n for n in (f"a.{suffix}", "m.png", f"o.{out_suffix}", "r.json"))
    Image.fromarray((hole * 255).astype(np.uint8)).save(mask)
    encode(photo, mode, values, exif, seed)
    out.write_bytes(b"the old output")
    if broken:
        photo.write_bytes(damage(rng, photo.read_bytes()))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    command = ["restore", photo, "--mask", mask, "-o", out, "--report", report]
    status = main([str(part) for part in command])
    error = capfd.readouterr().err
    said = f"seed {seed}: {mode} {suffix} -> {out_suffix}, status {status}: {error}"
    assert status in (0, 2, 3) and "Traceback" not in error, said
    assert all(line.startswith("idinpaint: ") for line in error.splitlines()), said
    if status == 2:
        assert {path: path.read_bytes() for path in folder.iterdir()} == before, said
        assert error.count("idinpaint: error") == 1, said
        return
    assert SECRET[:23] * 2 not in out.read_bytes() and photo.read_bytes() == before[photo], said
    if broken or out_suffix not in LOSSLESS:
        return
    assert_kept(upright(photo), upright(out), hole, said)
    again = values.copy()
    raw = laid(hole, exif[0x0112] if suffix in TAGGED else 1)
    again[raw] = samples(rng, mode, size)[raw]
    if "tRNS" in mode and mode != "P+tRNS":
        again[0, 0] = values[0, 0]
    first = out.read_bytes()
    encode(photo, mode, again, exif, seed)
    assert main([str(part) for part in command]) == status, said
    capfd.readouterr()
    assert out.read_bytes() == first, f"leak, {said}"


def assert_kept(before: np.ndarray, after: np.ndarray, hole: np.ndarray, said: str) -> None:
    """Known samples equal; a 16-bit photo written with 8 bits is compared in 8."""
    if before.dtype != after.dtype:
        return
    if before.shape[2] == 1:
        after = after[..., :1]
    assert np.array_equal(before[~hole], after[~hole]), f"known pixels changed, {said}"


def laid(hole: np.ndarray, orientation: int) -> np.ndarray:
    """The upright hole as the file's samples lie."""
    turn = UPRIGHT.get(orientation)
    back = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    image = Image.fromarray(hole)
    return np.asarray(image if turn is None else image.transpose(back.get(turn, turn)))


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_the_promises_hold_for_whatever_comes(tmp_path, capfd, monkeypatch, first):
    monkeypatch.setitem(sys.modules, "idinpaint.restorer", types.SimpleNamespace(Restorer=Filler))
    for seed in range(first, min(first + BATCH, SEEDS)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        one(seed, folder, capfd)
