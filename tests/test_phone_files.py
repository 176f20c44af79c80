"""HEIC, AVIF and the compressions of TIFF: read, written, kept; what is missing is said with the pip command."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, features

from idinpaint.imaging import formats
from idinpaint.imaging.encoders import check_output
from idinpaint.imaging.photo import load_photo, save_photo
from idinpaint.imaging.tiff_strips import CODES
from idinpaint.types import InputError


def picture(side: int = 64) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.stack([3 * x + 20, 3 * y + 10, 200 - x - y], -1).astype(np.uint8)


def restored(photo, value=(90, 100, 110)):
    mask = np.zeros(photo.rgb.shape[:2], bool)
    mask[20:30, 20:40] = True
    rgb = photo.rgb.copy()
    rgb[mask] = value
    return rgb, mask


def has_heif() -> bool:
    return formats.can_use(formats.BY_NAME["HEIF"])


@pytest.mark.parametrize("ending", [".avif", ".heic", ".heif"])
def test_there_and_back(tmp_path, ending):
    if ending != ".avif" and not has_heif():
        pytest.skip("pillow-heif is not installed (extra heif)")
    if ending == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    source = tmp_path / "photo.png"
    exif = Image.Exif()
    exif[0x010E] = "grandmother"
    Image.fromarray(picture()).save(source, exif=exif)
    photo = load_photo(source)
    rgb, mask = restored(photo)
    save_photo(photo, rgb, mask, tmp_path / f"out{ending}")
    again = load_photo(tmp_path / f"out{ending}")
    assert again.size == photo.size and again.exif[0x010E] == "grandmother"
    assert np.abs(again.rgb.astype(int) - rgb).mean() < 3
    rgb, mask = restored(again, (10, 20, 30))
    save_photo(again, rgb, mask, tmp_path / "last.png")  # the other way
    np.testing.assert_array_equal(load_photo(tmp_path / "last.png").rgb, rgb)


def test_missing_heif_is_said_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(
        InputError, match=r"photo.heic: HEIC cannot be read without pillow-heif; pip install 'idinpaint"
    ):
        load_photo(path)
    with pytest.raises(InputError, match="HEIC cannot be written without pillow-heif"):
        check_output(tmp_path / "out.heic")


def test_missing_avif_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.features, "check", lambda name: False)
    with pytest.raises(InputError, match="out.avif: AVIF cannot be written by this Pillow; pip install --upgrade"):
        check_output(tmp_path / "out.avif")


@pytest.mark.parametrize("name", list(CODES))
@pytest.mark.parametrize("bits, channels", [(8, 1), (8, 3), (16, 1), (16, 3), (16, 4)])
def test_tiff_compression_is_kept(tmp_path, name, bits, channels):
    from idinpaint.imaging.encoders import write_tiff

    samples = np.random.default_rng(0).integers(0, 256, (50, 70, channels)) // 8 * 8
    samples = samples.astype(np.uint8) if bits == 8 else (samples * 257 + 3).astype(np.uint16)
    path = tmp_path / "scan.tif"
    with path.open("wb") as file:
        write_tiff(file, samples, compression=name)
    with Image.open(path) as image:
        assert image.info.get("compression") == name
    photo = load_photo(path)
    np.testing.assert_array_equal(photo.samples[..., :channels], samples[..., :3])
    rgb, mask = restored(photo)
    assert save_photo(photo, rgb, mask, tmp_path / "out.tif") == []
    again = load_photo(tmp_path / "out.tif")
    assert again.compression == name
    np.testing.assert_array_equal(again.samples[~mask], photo.samples[~mask])


@pytest.mark.parametrize("name", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_compressed_tiff_of_another_program(tmp_path, name):
    Image.fromarray(picture()).save(tmp_path / "a.tif", compression=name)
    photo = load_photo(tmp_path / "a.tif")
    rgb, mask = restored(photo)
    save_photo(photo, rgb, mask, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as image:
        assert image.info["compression"] == name
        np.testing.assert_array_equal(np.asarray(image), rgb)
    assert (tmp_path / "b.tif").stat().st_size < rgb.nbytes


def test_a_lossy_tiff_is_written_without_loss_and_that_is_said(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.tif", compression="jpeg")
    photo = load_photo(tmp_path / "a.tif")
    rgb, mask = restored(photo)
    notices = save_photo(photo, rgb, mask, tmp_path / "b.tif")
    assert any("TIFF compression jpeg is not written" in line for line in notices)
    np.testing.assert_array_equal(load_photo(tmp_path / "b.tif").rgb, rgb)
