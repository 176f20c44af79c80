"""Whole features hidden, their windows measured: masks, distances, resuming, sheets, on made-up photos."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "eval"))

import cases  # noqa: E402
import metric_networks  # noqa: E402
import realism  # noqa: E402
import realism_cases  # noqa: E402
import realism_scores  # noqa: E402
import realism_sheet  # noqa: E402
import study  # noqa: E402

from idinpaint.data.photos import load_landmarks  # noqa: E402
from idinpaint.faces.alignment import MP468_TO_IBUG68  # noqa: E402
from idinpaint.faces.features import feature_regions  # noqa: E402


def ellipse(centre: tuple[float, float], a: float, b: float, count: int, start: float = np.pi) -> np.ndarray:
    t = start + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([centre[0] + a * np.cos(t), centre[1] + b * np.sin(t)], 1)


def face_points() -> np.ndarray:
    """[68, 2] of an upright face where FFHQ's alignment puts it."""
    jaw = ellipse((128, 130), 75, 95, 32, np.pi)[::-1][15:32]
    brows = [np.stack([np.linspace(x - 20, x + 20, 5), np.full(5, 98.0)], 1) for x in (96, 160)]
    bridge = np.stack([np.full(4, 128.0), np.linspace(118, 150, 4)], 1)
    nostrils = np.stack([np.linspace(114, 142, 5), np.full(5, 160.0)], 1)
    eyes = [ellipse((x, 121), 14, 6, 6) for x in (96, 160)]
    lips = [ellipse((128, 187), 28, 12, 12), ellipse((128, 187), 18, 5, 8)]
    return np.concatenate([jaw, *brows, bridge, nostrils, *eyes, *lips]).astype(np.float32)


class StubIdentity:
    """Mean colour as identity: enough for the plumbing."""

    def read(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vector = np.pad(image.reshape(-1, 3).mean(axis=0) + 1.0, (0, 125))
        return vector / np.linalg.norm(vector), np.array([[96, 121], [160, 121], [128, 150], [100, 187], [156, 187.0]])


class StubInception:
    """A few colours of the window in place of 2048 features."""

    def features(self, image: np.ndarray) -> np.ndarray:
        return image[::24, ::24].reshape(-1).astype(np.float32) / 64


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Three made-up photos of each of three test people, with landmarks."""
    root, rng, names = tmp_path / "data", np.random.default_rng(0), []
    for person in cases.read_split(cases.SPLITS / "celeba_id256_test.txt")[:3]:
        (root / "celeba_id256" / person).mkdir(parents=True)
        for number in range(3):
            small = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            photo = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
            photo.save(root / "celeba_id256" / person / f"{number}.png")
            names.append(f"{person}/{number}.png")
    mesh = np.zeros((len(names), 468, 2), np.float32)
    mesh[:, list(MP468_TO_IBUG68)] = face_points()
    np.savez(root / "celeba_id256_landmarks_mp468.npz", names=names, lm=mesh)
    (root / "CelebAMask-HQ").mkdir()
    np.savez(root / "CelebAMask-HQ" / "landmarks_mp468.npz", names=["0.jpg"], lm=mesh[:1] / 256)
    torch.manual_seed(0)
    state = {f"features.{k}": v for k, v in metric_networks.build_features("alex").state_dict().items()}
    torch.save(state, tmp_path / "alex.pth")
    lpips = metric_networks.LPIPS("alex", tmp_path / "alex.pth")
    suite = metric_networks.MetricSuite(lpips, None, StubIdentity(), StubInception())
    monkeypatch.setattr(realism, "load_metrics", lambda *args: suite)
    return root


def test_every_kind_hides_its_features_whole_and_frames_them():
    points = face_points()
    regions, rng = feature_regions(points), np.random.default_rng(1)
    for kind in realism_cases.KINDS * 3:
        mask, windows = realism_cases.damage(kind, points, rng)
        assert 0.01 < mask.mean() < 0.25
        assert len(windows) == {"eyes": 2, "eyes+nose": 3, "nose+mouth": 2, "eye+mouth": 2}.get(kind, 1)
        for window in windows:
            assert mask[regions[window.key]].all()
            if "eye" in window.key:
                assert mask[regions[window.key.replace("eye", "brow")]].all()
            assert window.cut(mask).shape == (72, 72) and window.cut(window.middle).sum() == window.middle.sum() > 0
    seen = {realism_cases.damage("eye", points, np.random.default_rng(i))[1][0].key for i in range(20)}
    assert seen == {"left_eye", "right_eye"}


def test_a_torn_corner_reaches_two_edges_and_its_window_shows_both_sides():
    for seed in range(20):
        mask, (window,) = realism_cases.damage("corner", face_points(), np.random.default_rng(seed))
        assert mask[0, 0] != mask[0, -1] and not mask[-1].any()
        assert 0.2 < window.cut(mask).mean() < 0.98


def test_the_longer_plan_starts_with_the_shorter(data):
    points = load_landmarks(data)
    short, long = (list(realism_cases.plan_cases(data, points, n, 5)) for n in (3, 8))
    assert [c.bin for c in long][:8] == [*realism_cases.KINDS, "corner"] and len(long) == 9
    for a, b in zip(short, long):
        assert a.id == b.id and a.seed == b.seed and (a.mask == b.mask).all()
    torn = list(realism_cases.plan_cases(data, points, 8, 5, only_corners=True))
    assert [c.bin for c in torn] == ["corner"] * 8
    assert (torn[6].mask == next(c for c in long if c.bin == "corner").mask).all()  # the seventh photo's, as there
    assert (long[0].masked[long[0].mask] == 0).all()
    with pytest.raises(cases.InputError, match="1 to 9 photos"):
        list(realism_cases.plan_cases(data, points, 10, 0))


def test_kid_over_pairs_of_different_people():
    rng = np.random.default_rng(0)
    real, fake, people = rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), ["a", "a", "b", "c", "c", "d"]

    def kernel(x, y):
        return (x @ y / 5 + 1) ** 3

    terms = [
        kernel(real[i], real[j]) + kernel(fake[i], fake[j]) - kernel(real[i], fake[j]) - kernel(real[j], fake[i])
        for i in range(6)
        for j in range(6)
        if people[i] != people[j]
    ]
    measure = realism_scores.paired_kid(real, fake, people)
    assert measure(np.ones((1, 6)))[0] == pytest.approx(np.mean(terms))
    assert realism_scores.paired_kid(real, real, people)(np.ones((1, 6)))[0] == pytest.approx(0)
    # a person drawn twice is no pair with itself
    twice = realism_scores.paired_kid(*(np.concatenate([x, x[:2]]) for x in (real, fake)), [*people, "a", "a"])
    assert measure(np.array([[2, 2, 1, 1, 1, 1.0]]))[0] == pytest.approx(twice(np.ones((1, 8)))[0])


def test_kid_of_equal_distributions_is_zero_on_average_and_of_a_shift_is_not():
    values, shifted, anchors = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        people = np.repeat(np.arange(15), 2)
        own = rng.normal(size=(15, 8))[people]  # what a person's photos share
        real, fake = (own + 0.5 * rng.normal(size=(30, 8)) for _ in range(2))
        for found, x in ((values, fake), (shifted, fake + 0.7)):
            found.append(realism_scores.paired_kid(real, x, people)(np.ones((1, 30)))[0])
        anchors.append(realism_scores.real_kid(real, people).value)
    error = np.std(values) / np.sqrt(60)
    assert abs(np.mean(values)) < 3 * error and np.mean(shifted) > 10 * error
    assert abs(np.mean(anchors)) < 0.3 * np.mean(shifted)


def test_the_ratio_of_two_kids_draws_the_same_people():
    rng, people = np.random.default_rng(2), [str(i // 2) for i in range(20)]
    real = rng.normal(size=(20, 8))
    old = realism_scores.paired_kid(real, rng.normal(size=(20, 8)) + 1.0, people)
    halved = realism_scores.kid_ratio(old, lambda weights: old(weights) / 2, people)
    assert (halved.value, halved.low, halved.high) == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(realism_scores.kid_ratio(realism_scores.paired_kid(real, real, people), old, people).value)


def test_gradient_of_a_ramp_inside_the_hole_only():
    grey = np.tile(np.arange(40, dtype=np.uint8) * 3, (40, 1))
    grey[:, 20:] = 0
    hole = np.zeros((40, 40), bool)
    hole[5:30, 4:15] = True
    length, energy = realism_scores.gradient_energy(np.repeat(grey[..., None], 3, 2), hole)
    assert length == pytest.approx(3, abs=0.01) and energy == pytest.approx(9, abs=0.05)
    assert np.isnan(realism_scores.gradient_energy(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool))[0])


def run(data: Path, output: Path, *more: str) -> int:
    return realism.main(["--data", str(data), "--output", str(output), "--samples", "2", *more])


def test_a_run_resumes_ranks_and_compares(data, tmp_path, capsys, monkeypatch):
    first, second = tmp_path / "old", tmp_path / "new"
    assert run(data, first, "--methods", "telea", "diffusion", "--count", "2") == 0
    before = (first / "rows.csv").read_text()
    restored, restore = [], realism.Trial.restore
    monkeypatch.setattr(realism.Trial, "restore", lambda *args: restored.append(args[1].id) or restore(*args))
    assert run(data, first, "--methods", "telea", "diffusion", "--count", "5") == 0
    assert set(restored) == {"mouth_0002", "eyes_0003", "nose+mouth_0004"}
    assert (first / "rows.csv").read_text().startswith(before)
    with (first / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["arm"] for r in rows} == {"telea", "diffusion", "diffusion first"} and len(rows) == 3 * 7
    assert all(float(r["apart"]) > 0 for r in rows if r["arm"] == "diffusion")
    assert all(r["apart"] == "nan" for r in rows if r["arm"] == "telea")
    assert "diffusion: ranked - first" in (first / "realism.md").read_text()
    assert run(data, first, "--methods", "telea", "--count", "2") == 0
    assert "| telea | 2 |" in (first / "realism.md").read_text()  # of the photos asked for, although five are there
    assert run(data, second, "--methods", "telea", "--count", "5", "--before", str(first)) == 0
    text = capsys.readouterr().out
    (same,) = [line for line in text.splitlines() if line.startswith("| telea: new - old | mouth |")]
    assert "| 2 |" in same and "+0.00 [+0.00, +0.00] | +0.000 [+0.000, +0.000]" in same  # the same pictures


def test_bad_input_is_one_line(data, tmp_path, capsys):
    assert run(data, tmp_path / "x", "--methods", "nothing", "--count", "2") == 2
    assert run(data, tmp_path / "y", "--count", "99") == 2
    assert run(data, tmp_path / "z", "--model", "default", "--model", str(tmp_path)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("realism: ") for line in lines)


def test_sheets_show_masked_restored_and_original(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(realism_sheet, "FACES", 2)
    monkeypatch.setattr(realism_sheet, "CORNERS", 1)
    monkeypatch.setattr(realism_sheet, "PER_SHEET", 1)
    assert run(data, tmp_path / "sheets", "--sheet", "--methods", "prior") == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["sheet-faces-1.png", "sheet-faces-2.png", "sheet-corners-1.png"]
    faces, corner = (np.asarray(Image.open(tmp_path / "sheets" / name)) for name in (names[0], names[2]))
    assert faces.shape == (16 + 2 * 184, 4 * 2 * 176, 3)  # masked, prior, prior with references, original
    assert corner.shape == (16 + 512, 3 * 512, 3)
    study_folder = tmp_path / "study"
    pictures = tmp_path / "sheets" / "pictures" / "faces"
    assert study.main(["make", "--pictures", str(pictures), "--output", str(study_folder), "--pairs", "4"]) == 0
    key = json.loads((study_folder / "key.json").read_text())["trials"]
    assert {t[s] for t in key.values() for s in ("left", "right")} <= {
        "default prior",
        "default prior+ref3",
        "original",
    }
    assert {t["case"] for t in key.values()} == {"eye_0000", "nose_0001"}
    (pictures / "original" / "eye_0000.png").unlink()
    assert study.main(["make", "--pictures", str(pictures), "--output", str(study_folder)]) == 2
    assert "original/eye_0000.png: no such picture" in capsys.readouterr().err
    masked, restored = faces[16:, :352], faces[16:, 352:704]
    assert (masked.sum(-1) == 0).sum() > 1000 and (restored.sum(-1) == 0).sum() < 100
