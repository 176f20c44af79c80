"""The benchmark end to end (made-up data anywhere, the real set where it lies), resuming, and the face scores."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "eval"))

import benchmark  # noqa: E402
import cases  # noqa: E402
import estimates  # noqa: E402
import faces  # noqa: E402
import methods  # noqa: E402
import metric_networks  # noqa: E402
import readme_results  # noqa: E402

from idinpaint.types import InputError  # noqa: E402

QUICK = ["--set", "methods=[telea]", "--set", "max_images=2", "--set", "bins=['10-20']", "--set", "bootstrap=50"]


class StubIdentity:
    """Mean colour as identity: enough for the plumbing."""

    def read(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        vector = np.pad(image.reshape(-1, 3).mean(axis=0) + 1.0, (0, 125))
        return vector / np.linalg.norm(vector), np.array([[90, 100], [160, 100], [128, 140], [100, 180], [150, 180.0]])


def test_photos_without_a_readable_face_are_no_references(restorer, tmp_path):
    from skimage.data import astronaut

    paths = [tmp_path / f"{name}.png" for name in ("grey", "face", "again")]
    face = Image.fromarray(astronaut()[:300, 80:380]).resize((256, 256))
    for path, picture in zip(paths, (Image.new("RGB", (256, 256), "grey"), face, face), strict=True):
        picture.save(path)
    assert methods.readable(restorer, paths, 1) == [paths[1]]
    assert methods.readable(restorer, paths, 5) == paths[1:] and methods.readable(restorer, paths, 0) == []


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A data folder with two made-up photos of three test people and the test masks of one bin."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for person in cases.read_split(cases.SPLITS / "celeba_id256_test.txt")[:3]:
        (root / "celeba_id256" / person).mkdir(parents=True)
        for number in range(2):
            small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            photo = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
            photo.save(root / "celeba_id256" / person / f"{number}.png")
    masks = [n for n in cases.read_split(cases.SPLITS / "nvidia_masks_test.txt") if n.startswith("10-20/")]
    (root / "nvidia_irregular_masks" / "10-20").mkdir(parents=True)
    for name in masks:
        mask = np.zeros((512, 512), np.uint8)
        y, x = rng.integers(0, 300, 2)
        mask[y : y + 200, x : x + 200] = 255
        Image.fromarray(mask).save(root / "nvidia_irregular_masks" / name)
    torch.manual_seed(0)
    features = metric_networks.build_features("alex")
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, tmp_path / "alex.pth")
    suite = metric_networks.MetricSuite(metric_networks.LPIPS("alex", tmp_path / "alex.pth"), None, StubIdentity())
    monkeypatch.setattr(benchmark, "load_metrics", lambda *args: suite)
    people = {p.name for p in (root / "celeba_id256").iterdir()}
    read = cases.read_split
    monkeypatch.setattr(cases, "read_split", lambda p: [n for n in read(p) if "_id256" not in str(p) or n in people])
    return root


def rows(output: Path) -> list[dict[str, str]]:
    """rows.csv without seconds and memory, which are the machine's."""
    with (output / "rows.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "peak_mb")} for row in csv.DictReader(file)]


def run(data: Path, output: Path, *more: str) -> int:
    return benchmark.main(["--data", str(data), "--output", str(output), *QUICK, *more])


def test_same_seed_same_numbers_and_resuming_gives_them_too(data, tmp_path):
    assert run(data, tmp_path / "a", "--set", "max_images=4") == 0
    whole = rows(tmp_path / "a")
    assert len(whole) == 4 and len({r["person"] for r in whole[:3]}) == 3
    assert run(data, tmp_path / "b", "--set", "max_images=3") == 0
    path = tmp_path / "b" / "rows.csv"
    lines = path.read_text().splitlines(keepends=True)
    kept = lines[1]
    path.write_text(lines[0] + kept + lines[2][:40])  # interrupted in the middle of the second row
    assert run(data, tmp_path / "b", "--set", "max_images=4") == 0
    assert rows(tmp_path / "b") == whole
    assert path.read_text().splitlines(keepends=True)[1] == kept  # the row that was there was not computed again


def test_rows_of_another_seed_are_not_mixed_in(data, tmp_path, capsys):
    assert run(data, tmp_path / "a") == 0
    assert run(data, tmp_path / "a", "--set", "seed=1") == 2
    assert "seed=0" in capsys.readouterr().err and len(rows(tmp_path / "a")) == 2


@pytest.mark.parametrize("wrong", ["max_image=2", "bins=['15-20']", "alignment=none", "max_images=99"])
def test_bad_settings_are_one_line_and_status_2(data, tmp_path, capsys, wrong):
    assert run(data, tmp_path / "a", "--set", wrong) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and wrong.split("=")[0] in message and not (tmp_path / "a").exists()


def test_the_method_never_sees_the_hole_and_known_pixels_stay(data):
    config = cases.BenchmarkConfig(bins=("10-20",), max_images=1)
    item = cases.plan_items(config, data)[0]()
    filled, *_ = methods.telea(item)
    assert np.array_equal(filled[~item.mask], item.photo[~item.mask])
    seen = {}

    class Recorder:
        def __call__(self, image, mask, **options):
            seen.update(options, image=image)
            return type(
                "R", (), {"image": image, "decision": type("D", (), {"strategy": "diffusion"}), "candidates": []}
            )

    image, decision, samples = methods.restorer_method("diffusion+ref2", config, Recorder())(item)
    assert not seen["image"][item.mask].any() and decision == "diffusion"
    assert seen["strategy"] == "diffusion" and seen["force"] and not set(seen["references"]) & set(item.others)


def test_given_face_box_is_the_photo_itself():
    from idinpaint.faces.alignment import crop_from_box

    assert np.allclose(crop_from_box(methods.given_face_box(), 0.0), [[1, 0, 0], [0, 1, 0]], atol=1e-9)


def test_bootstrap_draws_people_and_pairs_the_comparison():
    people = ["a"] * 50 + ["b"] * 50
    values = np.repeat([0.0, 1.0], 50)
    whole = estimates.estimate(values, people, 2000)
    assert whole.value == 0.5 and (whole.low, whole.high) == (0.0, 1.0)  # two people, not 100 photos
    shifted = estimates.compare(values + 0.25, values, people, 500, "difference")
    assert (shifted.low, shifted.high) == (0.25, 0.25)
    ratio = estimates.compare(0.5 * (values + 1), values + 1, people, 500, "ratio")
    assert ratio.value == ratio.low == ratio.high == 0.5
    assert estimates.estimate(np.array([1.0, np.nan]), ["a", "b"], 50).value == 1.0


def test_auc_and_accuracy_of_known_cosines():
    genuine, impostor = np.array([0.9, 0.4]), np.array([0.5, 0.1, 0.4])
    assert faces.rank_below(genuine, impostor).mean() == pytest.approx((3 + 1.5) / 6)
    person = np.repeat(np.arange(20), 2)
    cosine = np.where(person[:, None] == person[None], 0.8, 0.1)
    assert faces.accuracy_by_folds(cosine, person) == 1.0
    assert sum(map(len, faces.split_pairs(cosine, person))) == 40 * 39 // 2


def test_hidden_points_are_those_under_the_mask():
    mask = np.zeros((256, 256), bool)
    mask[:, :100] = True
    points = np.array([[99.4, 5.0], [99.6, 5.0], [-3.0, 300.0]])
    assert faces.hidden_points(points, mask).tolist() == [True, False, True]


def test_two_real_photos(shared, tmp_path, capsys):
    folders = [shared / "metric_weights", REPO / "runs" / "metric_weights"]
    folders += [Path(os.environ["IDINPAINT_METRIC_WEIGHTS"])] if "IDINPAINT_METRIC_WEIGHTS" in os.environ else []
    found = metric_networks.find_weight(metric_networks.SFACE_FILE, folders)
    if found is None:
        pytest.skip("SFace is not there: fetch_metric_weights.py runs/metric_weights, or set IDINPAINT_METRIC_WEIGHTS")
    weights = ["--metric-weights", str(found.parent)]
    assert run(shared / "data", tmp_path / "a", "--config", str(REPO / "configs/benchmark.yaml"), *weights) == 0
    result = rows(tmp_path / "a")
    assert len(result) == 2 and all(r["detected"] == "1" for r in result)
    assert all(0.1 <= float(r["hole_ratio"]) <= 0.2 and 8 < float(r["psnr_hole"]) < 40 for r in result)
    assert all(0.5 < float(r["identity_original"]) <= 1 and 0 < float(r["lpips_alex"]) < 0.3 for r in result)
    assert "| telea |" in capsys.readouterr().out


def test_readme_table_is_what_the_summary_says() -> None:
    rows = {}
    for method, mean, against in (("telea", "20.0", ""), ("diffusion", "22.5", "2.5")):
        for metric in (*readme_results.SHOWN, "identity_other_ceiling"):
            line = {"mean": float(mean), "against_value": float(against or "nan"), "images": 40, "people": 30}
            rows["10-20", method, metric] = line
    summary = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["bin", "method", "metric"])
    table = readme_results.results_table(summary)
    assert "| 10-20 % | telea | 20.00 | 20.0000 |" in table
    assert "| 10-20 % | diffusion | 22.50 (+2.50) | 22.5000 (x 2.50) |" in table
    readme = "a\n<!-- RESULTS: here -->\nold\n<!-- /RESULTS -->\nb\n"
    assert readme_results.insert(readme, "new") == "a\n<!-- RESULTS: here -->\nnew\n<!-- /RESULTS -->\nb\n"
    with pytest.raises(InputError, match="no .* marks"):
        readme_results.insert("nothing", "new")
