"""TIFFs as other programs write them: read as they are meant, or refused in one line; written by tifffile."""

from __future__ import annotations

import numpy as np
import pytest

from idinpaint.imaging.photo import load_photo, save_photo
from idinpaint.types import InputError

tifffile = pytest.importorskip("tifffile")
HOLE = np.zeros((40, 50), bool)
HOLE[5:12, 8:30] = True
RNG = np.random.default_rng(3)


def draw(channels: int, bits: int) -> np.ndarray:
    return RNG.integers(0, 2**bits, (40, 50, channels), dtype=f"uint{bits}")


def keys(bits: int) -> dict:
    return {
        "rgb": (draw(3, bits), {"photometric": "rgb"}),
        "grey": (draw(1, bits)[..., 0], {"photometric": "minisblack"}),
        "white as zero": (draw(1, bits)[..., 0], {"photometric": "miniswhite"}),
        "alpha": (draw(4, bits), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        "unstated channel": (draw(4, bits), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        "big-endian": (draw(3, bits), {"photometric": "rgb", "byteorder": ">"}),
        "tiles": (draw(3, bits), {"photometric": "rgb", "tile": (16, 16)}),
        "BigTIFF": (draw(3, bits), {"photometric": "rgb", "bigtiff": True}),
    }


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", keys(8))
def test_samples_are_those_that_tifffile_reads(tmp_path, name, bits):
    """The known ones also after saving; a channel that is neither colour nor alpha is dropped aloud."""
    data, options = keys(bits)[name]
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    wanted = np.atleast_3d(tifffile.imread(tmp_path / "a.tif"))
    if name == "white as zero":
        wanted = 2**bits - 1 - wanted
    photo = load_photo(tmp_path / "a.tif")
    colours = 3 if wanted.shape[2] >= 3 else 1
    assert photo.samples.dtype == data.dtype and np.array_equal(photo.samples, wanted[..., :colours])
    assert (photo.alpha is not None) == (name == "alpha") and len(photo.notices) == (name == "unstated channel")
    save_photo(photo, photo.rgb, HOLE, tmp_path / "o.tif")
    saved = np.atleast_3d(tifffile.imread(tmp_path / "o.tif"))
    assert np.array_equal(saved[~HOLE], wanted[..., : saved.shape[2]][~HOLE])
    assert saved.shape[2] == colours + (name == "alpha")


@pytest.mark.parametrize(
    "data, options, said",
    [
        (draw(4, 8), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "associated"),
        (draw(4, 16), {"photometric": "rgb", "extrasamples": ["assocalpha"]}, "associated|not a picture"),
        (np.moveaxis(draw(3, 16), -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, "in planes"),
        (draw(3, 16).astype(np.float32), {"photometric": "rgb"}, "not a picture"),
        (draw(1, 16)[..., 0].astype(np.uint32), {"photometric": "minisblack"}, "not supported"),
        (draw(1, 16)[..., 0].astype(np.int16), {"photometric": "minisblack"}, "not supported"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, data, options, said):
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    with pytest.raises(InputError, match=said):
        load_photo(tmp_path / "a.tif")
