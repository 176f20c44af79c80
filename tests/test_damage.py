"""The finder of damage with its real network, `detect`, and `--mask auto`."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.data import astronaut

from examples.demo import draw_print
from idinpaint.cli import main
from idinpaint.cli.lazy_models import Models
from idinpaint.damage.finder import CERTAIN, STRIDE, TILE, _wide, load_finder, spots, tile_starts
from idinpaint.damage.prints import damaged_print
from idinpaint.damage.synthetic import SHAPES
from idinpaint.report.reporting import report_schema


@pytest.fixture(scope="module")
def finder():
    return load_finder(device="cpu")


def scratched(photo: np.ndarray, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(photo with a white scratch from the hair to the collar, its pixels bool [H, W])."""
    layer = Image.new("L", photo.shape[1::-1], 0)
    ImageDraw.Draw(layer).line([(150, 40), (212, 120), (228, 190), (290, 330)], fill=255, width=width)
    mask = np.asarray(layer) > 0
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)[..., None]
    return np.rint(photo * (1 - share) + 244 * share).astype(np.uint8), mask


def near(mask: np.ndarray, px: int = 1) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)).astype(bool)


@pytest.mark.parametrize("look", ["colour", "grey", "sepia"])
def test_a_clear_scratch_is_found_and_little_else(finder, look):
    photo = astronaut()
    if look != "colour":
        grey = photo @ np.array([0.299, 0.587, 0.114])
        photo = np.stack([grey * f for f in ((1, 1, 1) if look == "grey" else (1.0, 0.88, 0.7))], -1).astype(np.uint8)
    damaged, mask = scratched(photo)
    before, found = finder.find(photo), finder.find(damaged)
    assert (near(found) & mask).sum() > 0.9 * mask.sum()
    assert before.mean() < 0.01 and (found & ~near(mask, 4)).mean() < 0.01


@pytest.mark.parametrize("width, least", [(2, 0.7), (6, 0.94), (8, 0.75)])
def test_broader_strokes_are_found_too(finder, width, least):
    damaged, mask = scratched(astronaut(), width)
    found = finder.find(damaged)
    assert (near(found) & mask).sum() > least * mask.sum()
    assert (found & ~near(mask, 4)).mean() < 0.01


@pytest.mark.parametrize("look", ["sepia", "grey", "colour"])
def test_on_the_demos_print_scratches_are_damage_and_the_helmets_rim_is_not(finder, look):
    intact, damaged, scratches = (np.asarray(picture) for picture in draw_print(look))
    found = finder.find(damaged)
    most, rims = (0.008, 0.4) if look == "colour" else (0.003, 0.02)
    assert (near(found) & (scratches > 0)).sum() > 0.85 * (scratches > 0).sum()
    assert (found & ~near(scratches > 0, 4)).mean() < most and finder.find(intact).mean() < most
    rim = np.zeros_like(found)
    rim[340:470, 385:505] = True  # px; the white arc between the black visor and the black cloth behind it
    rim &= damaged.min(-1) > 120
    assert (found & rim).sum() < rims * rim.sum()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 801), (33, 3000), (TILE + 1, TILE - 1)])
def test_any_size(finder, size):
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    likely = finder.likelihood(rgb)
    assert likely.shape == size and likely.dtype == np.uint16 and finder.find(rgb).dtype == bool


def test_tiles_cover_a_side_and_overlap():
    for length in range(STRIDE, 3000, STRIDE):
        starts = tile_starts(length)
        assert starts[0] == 0 and starts[-1] + TILE >= length
        assert all(0 < b - a <= TILE - 128 for a, b in zip(starts, starts[1:], strict=False))


def test_a_photo_in_tiles_is_found_as_in_one_piece(finder, monkeypatch):
    damaged, _ = scratched(astronaut())
    whole = finder.likelihood(damaged).astype(int)
    monkeypatch.setattr("idinpaint.damage.finder.TILE", 256)
    assert np.mean(np.abs(finder.likelihood(damaged) - whole) > 0.1 * CERTAIN) < 0.01


def test_of_the_photo_as_a_whole_only_broad_places_count():
    found = np.zeros((64, 64), np.uint8)
    found[10:30, 10:30], found[40, :], found[5:8, 40:60] = 230, 255, 255
    broad = _wide(found)
    assert (broad[10:30, 10:30] == 230).all(), "with its corners"
    assert broad.sum() == 230 * 400


def test_single_pixels_are_left_out_and_rims_taken_in():
    likely = np.zeros((20, 20), int)
    likely[3, 3] = 255
    likely[10, 5:12] = 200
    likely[11, 5:12] = 80
    likely[17, :] = 80
    likely[10, 8] = 250
    likely[14, 2:9] = 200  # nowhere certain
    found = spots((likely * (CERTAIN // 255)).astype(np.uint16), 0.5)
    assert found[10, 5:12].all() and found[11, 5:12].all()
    assert not found[3, 3] and not found[17].any() and not found[14].any()


@pytest.mark.parametrize("kind", SHAPES)
def test_every_kind_of_drawn_damage_covers_a_part(kind):
    shares = [SHAPES[kind](np.random.default_rng(seed), (96, 128)) for seed in range(12)]
    assert all(s.shape == (96, 128) and s.min() >= 0 and s.max() <= 1 for s in shares)
    assert np.mean([s.max() > 0.5 for s in shares]) > 0.5 and max(s.mean() for s in shares) < 0.9


def test_a_print_is_the_same_for_the_same_seed_and_undamaged_ones_have_no_mask():
    photo = astronaut()[:128, 150:278]
    first, again = (damaged_print(np.random.default_rng(3), photo, damaged=1.0) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)) and first[1].any()
    _, mask, certain = damaged_print(np.random.default_rng(3), photo, damaged=0.0)
    assert not mask.any() and certain.all()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "16"])
def test_detect_writes_a_mask_of_the_photos_size(tmp_path, capsys, mode):
    damaged, mask = scratched(astronaut())
    path, out = tmp_path / "p.png", tmp_path / "m.png"
    if mode == "16":
        from idinpaint.imaging.encoders import write_png16

        with open(path, "wb") as file:
            write_png16(file, damaged.astype(np.uint16) * 257, None, None)
    else:
        Image.fromarray(damaged).convert(mode).save(path)
    assert main(["detect", str(path), "-o", str(out), "--grow", "1", "--json"]) == 0
    found = np.asarray(Image.open(out))
    assert found.shape == (512, 512) and set(np.unique(found)) == {0, 255}
    assert (found[mask] > 0).mean() > 0.9
    told = json.loads(capsys.readouterr().out)
    assert told["damaged"] and told["hole_ratio"] == pytest.approx((found > 0).mean())


def test_detect_on_nothing_and_misuse(tmp_path, capsys):
    flat = tmp_path / "flat.png"
    Image.new("RGB", (70, 50), (120, 110, 100)).save(flat)
    assert main(["detect", str(flat), "-o", str(tmp_path / "m.png")]) == 0
    assert not np.asarray(Image.open(tmp_path / "m.png")).any() and "no damage" in capsys.readouterr().out
    before = flat.read_bytes()
    for out, said in ((flat, "it is read"), (tmp_path / "m.jpg", "JPEG"), (tmp_path / "m.txt", "extension")):
        assert main(["detect", str(flat), "-o", str(out)]) == 2 and said in capsys.readouterr().err
    assert flat.read_bytes() == before and not (tmp_path / "m.jpg").exists()
    assert main(["detect", str(tmp_path / "none.png"), "-o", str(tmp_path / "m.png")]) == 2


def test_mask_auto_writes_the_mask_it_used_and_leaves_the_rest(tmp_path, capsys, restorer, monkeypatch):
    monkeypatch.setattr(Models, "restorer", lambda self: restorer)  # loaded once for all tests
    damaged, mask = scratched(astronaut(), 3)
    Image.fromarray(damaged).save(tmp_path / "p.png")
    words = ["restore", str(tmp_path / "p.png"), "--mask", "auto", "-o", str(tmp_path / "o.png")]
    assert main([*words, "--report", str(tmp_path / "r.json"), "--num-samples", "1"]) in (0, 3)
    used = np.asarray(Image.open(tmp_path / "o_mask_auto.png")) > 0
    after = np.asarray(Image.open(tmp_path / "o.png"))
    assert np.array_equal(after[~used], damaged[~used]) and (used & mask).sum() > 0.9 * mask.sum()
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["files"]["mask"] == str(tmp_path / "o_mask_auto.png")
    assert "damage was found on" in capsys.readouterr().err


def test_mask_auto_without_damage_gives_the_photo_unchanged(tmp_path, capsys):
    jsonschema = pytest.importorskip("jsonschema")
    Image.new("RGB", (70, 50), (120, 110, 100)).save(tmp_path / "p.png")
    words = ["--mask", "auto", "-o", str(tmp_path / "o.png"), "--report", str(tmp_path / "r.json")]
    assert main(["restore", str(tmp_path / "p.png"), *words]) == 0
    assert "no damage was found, so nothing is changed" in capsys.readouterr().out
    assert np.array_equal(np.asarray(Image.open(tmp_path / "o.png")), np.asarray(Image.open(tmp_path / "p.png")))
    assert b"xmpmeta" not in (tmp_path / "o.png").read_bytes()  # nothing was done that it would have to say
    assert not np.asarray(Image.open(tmp_path / "o_mask_auto.png")).any()
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, report_schema())
    assert main(["analyze", str(tmp_path / "p.png"), "--mask", "auto"]) == 0
    assert main(["restore", str(tmp_path / "p.png"), "--invert-mask", *words]) == 2
    assert "--invert-mask" in capsys.readouterr().err


def test_the_found_mask_replaces_no_input(tmp_path, capsys):
    Image.new("RGB", (70, 50), (120, 110, 100)).save(tmp_path / "o_mask_auto.png")
    words = ["restore", str(tmp_path / "o_mask_auto.png"), "--mask", "auto", "-o", str(tmp_path / "o.png")]
    assert main(words) == 2 and "it is read" in capsys.readouterr().err
