"""Photos come back as they were: depth, mode, alpha, profile, EXIF; known samples bit-identical."""

from __future__ import annotations

import io
import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from idinpaint.imaging import encoders, formats
from idinpaint.imaging.photo import check_output, load_photo, save_photo
from idinpaint.types import InputError

RNG = np.random.default_rng(5)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
HEIGHT, WIDTH = 30, 40
MASK = np.zeros((HEIGHT, WIDTH), bool)
MASK[5:12, 8:30] = True
FILL = np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint8)


def samples(channels=3, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, channels), dtype=dtype)


def write(path, data, **options):
    """Writes [H, W, C] samples, 8 or 16 bits."""
    kind = formats.output_format(path).name
    if data.dtype == np.uint16:
        writer = encoders.write_png16 if kind == "PNG" else encoders.write_tiff
        with open(path, "wb") as file:
            writer(file, data, None, None)
    else:
        Image.fromarray(data[..., 0] if data.shape[2] == 1 else data).save(path, **options)
    return path


def decode(path):
    """The native samples of a written file, [H, W, C], RGB order."""
    with Image.open(path) as image:
        if load_photo(path).samples.dtype == np.uint8:
            return np.asarray(image).reshape(image.height, image.width, -1)
    data = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    data = data.reshape(*data.shape[:2], -1)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[data.shape[2]]
    return data[..., order]


@pytest.mark.parametrize("out", ["o.png", "o.tif", "o.webp", "o.bmp"])
def test_rgb_round_trip_keeps_known_pixels(tmp_path, out):
    data = samples()
    photo = load_photo(write(tmp_path / "a.png", data))
    assert np.array_equal(photo.rgb, data) and photo.size == (WIDTH, HEIGHT)
    assert save_photo(photo, FILL, MASK, tmp_path / out) == []
    with Image.open(tmp_path / out) as image:
        result = np.asarray(image)
    assert np.array_equal(result[~MASK], data[~MASK]) and (result[MASK] == (200, 100, 50)).all()
    assert sorted(os.listdir(tmp_path)) == ["a.png", out], "a temporary file was left"


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize(
    "channels, dtype", [(1, np.uint8), (1, np.uint16), (3, np.uint16), (4, np.uint16), (4, np.uint8)]
)
def test_native_samples_are_kept(tmp_path, kind, channels, dtype):
    data = samples(channels, dtype)
    photo = load_photo(write(tmp_path / f"a.{kind}", data))
    shades = data[..., :3] if dtype == np.uint8 else (data[..., :3].astype(int) + 128) // 257
    assert np.array_equal(photo.rgb, np.broadcast_to(shades, photo.rgb.shape))
    assert save_photo(photo, FILL, MASK, tmp_path / f"o.{kind}") == []
    result = decode(tmp_path / f"o.{kind}")
    assert result.dtype == dtype and result.shape == data.shape
    assert np.array_equal(result[~MASK], data[~MASK])
    if channels == 4:
        assert not np.array_equal(result[..., 3][MASK], data[..., 3][MASK]), "alpha under the mask would leak"
    expected = np.array([124] if channels == 1 else [200, 100, 50]) * (257 if dtype == np.uint16 else 1)
    assert (result[MASK][:, : len(expected)] == expected).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_with_alpha_stays_grey_with_alpha(tmp_path, dtype):
    data = samples(2, dtype)
    if dtype == np.uint16:
        write(tmp_path / "a.png", data)
    else:
        Image.fromarray(data, "LA").save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png")
    save_photo(photo, FILL, MASK, tmp_path / "o.png")
    again = load_photo(tmp_path / "o.png")
    assert again.space == "grey"
    assert np.array_equal(again.native[~MASK], data[..., :1][~MASK])
    assert np.array_equal(again.alpha[~MASK], data[..., 1][~MASK])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["png", "tif"]), st.sampled_from([(1, 8), (3, 8), (3, 16), (4, 16)]))
@settings(max_examples=25, deadline=None)
def test_known_samples_survive_any_mask(tmp_path_factory, seed, kind, form):
    folder = tmp_path_factory.mktemp("photo")
    rng = np.random.default_rng(seed)
    data = samples(form[0], np.uint8 if form[1] == 8 else np.uint16)
    mask = rng.random((HEIGHT, WIDTH)) < rng.random()
    photo = load_photo(write(folder / f"a.{kind}", data))
    save_photo(photo, rng.integers(0, 256, FILL.shape, dtype=np.uint8), mask, folder / f"o.{kind}")
    assert np.array_equal(decode(folder / f"o.{kind}")[~mask], data[~mask])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied_and_reset(tmp_path, orientation, kind):
    data = np.repeat(np.repeat(samples()[:8, :8], 4, 0), 5, 1)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif.get_ifd(0x8769)[0x829A] = 0.5  # exposure time
    exif.get_ifd(0x8825)[1] = "N"
    exif.load(exif.tobytes())
    Image.fromarray(data).save(tmp_path / f"a.{kind}", exif=exif, icc_profile=SRGB)
    photo = load_photo(tmp_path / f"a.{kind}")
    ways = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM]
    ways += [Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE]
    way = (ways + [Image.Transpose.ROTATE_90])[orientation - 1]
    upright = Image.fromarray(data) if way is None else Image.fromarray(data).transpose(way)
    assert photo.size == upright.size
    assert np.abs(photo.rgb.astype(int) - np.asarray(upright)).mean() < (60 if kind == "jpg" else 1e-9)
    for out in ("o.jpg", "o.png", "o.tif", "o.webp"):
        save_photo(photo, photo.rgb, np.zeros(photo.rgb.shape[:2], bool), tmp_path / out)
        with Image.open(tmp_path / out) as saved:
            tags = saved.getexif()
            assert saved.size == upright.size and saved.info["icc_profile"] == SRGB
            assert tags.get(0x0112, 1) == 1 and tags[0x010F] == "Maker"
            assert tags.get_ifd(0x8769)[0x829A] == 0.5 and tags.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_keep_orientation_profile_and_exif(tmp_path, kind):
    data = samples(3, np.uint16)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    with open(tmp_path / f"a.{kind}", "wb") as file:
        if kind == "png":
            encoders.write_png16(file, data, SRGB, exif.tobytes().removeprefix(b"Exif\0\0"))
        else:
            encoders.write_tiff(file, data, SRGB, exif)
    photo = load_photo(tmp_path / f"a.{kind}")
    assert photo.icc == SRGB and np.array_equal(photo.native, np.rot90(data, 3))
    save_photo(photo, photo.rgb, np.zeros((WIDTH, HEIGHT), bool), tmp_path / f"o.{kind}")
    again = load_photo(tmp_path / f"o.{kind}")
    assert np.array_equal(again.native, photo.native) and again.icc == SRGB and again.exif[0x010F] == "Maker"


def smooth(mode):
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    planes = [xs * 6, ys * 8, 240 - xs * 5, xs * 0 + 20]
    return Image.fromarray(np.stack(planes[: len(mode)], -1).astype(np.uint8).squeeze(), mode)


def test_jpeg_is_written_at_high_quality_without_subsampling(tmp_path):
    smooth("RGB").save(tmp_path / "a.png")
    photo = load_photo(tmp_path / "a.png")
    save_photo(photo, photo.rgb, MASK, tmp_path / "o.jpeg")
    with Image.open(tmp_path / "o.jpeg") as saved:
        assert saved.layer[0][1:3] == (1, 1) and max(saved.quantization[0]) <= 15
        assert np.abs(np.asarray(saved).astype(int) - photo.rgb).mean() < 2


@pytest.mark.parametrize("kind", ["tif", "jpg"])
def test_cmyk_stays_cmyk(tmp_path, kind):
    smooth("CMYK").save(tmp_path / f"a.{kind}", **({"quality": 100} if kind == "jpg" else {}))
    photo = load_photo(tmp_path / f"a.{kind}")
    assert photo.space == "cmyk"
    assert save_photo(photo, FILL, MASK, tmp_path / "o.tif") == []
    with Image.open(tmp_path / "o.tif") as saved:
        assert saved.mode == "CMYK"
        assert np.array_equal(np.asarray(saved)[~MASK], photo.native[~MASK])
        assert np.abs(np.asarray(saved.convert("RGB"))[MASK].astype(int) - (200, 100, 50)).max() <= 1
    assert save_photo(photo, FILL, MASK, tmp_path / "o.jpg") == []
    with Image.open(tmp_path / "o.jpg") as saved:
        assert saved.mode == "CMYK"
        assert np.abs(np.asarray(saved).astype(int) - photo.native)[14:].mean() < 6
    assert "RGB" in save_photo(photo, FILL, MASK, tmp_path / "o.png")[0]
    with Image.open(tmp_path / "o.png") as saved:
        assert saved.mode == "RGB" and np.array_equal(np.asarray(saved)[~MASK], photo.rgb[~MASK])


def test_palette_bilevel_and_transparent_palette(tmp_path):
    image = smooth("RGB").quantize(16)
    image.save(tmp_path / "p.png")
    assert np.array_equal(load_photo(tmp_path / "p.png").rgb, np.asarray(image.convert("RGB")))
    image.save(tmp_path / "t.png", transparency=0)
    photo = load_photo(tmp_path / "t.png")
    assert photo.alpha is not None and photo.alpha.min() == 0
    save_photo(photo, FILL, MASK, tmp_path / "o.png")
    assert Image.open(tmp_path / "o.png").mode == "RGBA"
    smooth("L").convert("1").save(tmp_path / "b.png")
    assert load_photo(tmp_path / "b.png").space == "grey"


def test_what_a_format_cannot_hold_is_said(tmp_path):
    photo = load_photo(write(tmp_path / "a.png", samples(4, np.uint16)))
    notices = save_photo(photo, FILL, MASK, tmp_path / "o.jpg")
    assert len(notices) == 2 and "16 bits" in notices[0] and "alpha" in notices[1]
    assert Image.open(tmp_path / "o.jpg").mode == "RGB"
    assert len(save_photo(photo, FILL, MASK, tmp_path / "o.webp")) == 1


def test_several_pages_are_said(tmp_path):
    smooth("RGB").save(tmp_path / "a.tif", save_all=True, append_images=[smooth("RGB")])
    assert "first is used" in load_photo(tmp_path / "a.tif").notices[0]


def test_resolution_is_kept(tmp_path):
    smooth("RGB").save(tmp_path / "a.jpg", dpi=(300, 300))
    photo = load_photo(tmp_path / "a.jpg")
    for out in ("o.jpg", "o.png", "o.tif"):
        save_photo(photo, FILL, MASK, tmp_path / out)
        assert round(float(Image.open(tmp_path / out).info["dpi"][0])) == 300


def test_output_paths_are_checked_before_work(tmp_path, monkeypatch):
    check_output(tmp_path / "new" / "deep" / "o.PNG")
    assert not (tmp_path / "new").exists(), "checking must create nothing"
    (tmp_path / "file").write_text("x")
    for path, said in [("o.xyz", "extension"), ("o", "extension"), ("file/o.png", "not a writable folder")]:
        with pytest.raises(InputError, match=said):
            check_output(tmp_path / path)
    (tmp_path / "d.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path / "d.png")
    monkeypatch.setattr(encoders.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="not a writable folder"):
        check_output(tmp_path / "o.png")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "o.png"
    target.write_bytes(b"old")

    def fail(file: io.BufferedWriter):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left"):
        encoders.write_atomic(target, fail)
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["o.png"]
