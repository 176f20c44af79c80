"""The benchmark's cases, outside methods, two processes and slices, on made-up photos in a folder of the user's own."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "eval"))

import ablate  # noqa: E402
import benchmark  # noqa: E402
import cases  # noqa: E402
import curvature  # noqa: E402
import methods  # noqa: E402
import metric_networks  # noqa: E402
import pixel_scores  # noqa: E402
import slices  # noqa: E402
from tables import frame  # noqa: E402

from idinpaint.types import InputError  # noqa: E402

# What one of two processes runs: the benchmark with networks of random weights in place of the downloaded ones.
DRIVER = """
import sys
sys.path.insert(0, {eval!r})
import benchmark, metric_networks, numpy as np
from pathlib import Path

class Identity:
    def read(self, image):
        vector = np.pad(image.reshape(-1, 3).mean(axis=0) + 1.0, (0, 125))
        return vector / np.linalg.norm(vector), np.array([[90, 100], [160, 100], [128, 140], [100, 180], [150, 180.0]])

alex = metric_networks.LPIPS("alex", Path({alex!r}))
benchmark.load_metrics = lambda *args: metric_networks.MetricSuite(alex, None, Identity())
benchmark.point_finder = lambda *args: lambda item: None
if __name__ == "__main__":
    raise SystemExit(benchmark.main(sys.argv[1:]))
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """run(output, *arguments) in this process, and the driver file for others; three people with two photos each."""
    rng = np.random.default_rng(0)
    for person in "abc":
        (tmp_path / "photos" / person).mkdir(parents=True)
        for number in range(2):
            small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            small.resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / "photos" / person / f"{number}.png")
    torch.manual_seed(0)
    state = {f"features.{k}": v for k, v in metric_networks.build_features("alex").state_dict().items()}
    torch.save(state, tmp_path / "alex.pth")
    text = DRIVER.format(eval=str(REPO / "eval"), alex=str(tmp_path / "alex.pth"))
    (tmp_path / "driver.py").write_text(text)
    for name in ("load_metrics", "point_finder"):
        monkeypatch.setattr(benchmark, name, getattr(benchmark, name))
    exec(compile(text, "driver", "exec"), {"__name__": "driver"})
    return tmp_path


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    settings = [f"photos={folder / 'photos'}", "bins=[block, block@grey]", "max_images=4", "bootstrap=20"]
    settings += ["methods=[telea]", "other_photos=1"]
    sets = [part for text in settings for part in ("--set", text)]
    return ["--data", str(folder), "--output", str(folder / output), *sets, *more]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "rows.csv").open(newline="") as file:
        return [{k: v for k, v in r.items() if k not in ("seconds", "peak_mb")} for r in csv.DictReader(file)]


def test_an_outside_method_joins_by_its_pictures(driver, capsys):
    assert benchmark.main(arguments(driver, "x", "--export", str(driver / "export"))) == 0
    cases_there = sorted(path.stem for path in (driver / "export" / "masked").iterdir())
    assert len(cases_there) == 8 and not (driver / "x").exists()
    (driver / "ns").mkdir()
    for name in cases_there:
        masked, mask = (cv2.imread(str(driver / "export" / k / f"{name}.png")) for k in ("masked", "mask"))
        assert not masked[mask > 0].any()
        cv2.imwrite(str(driver / "ns" / f"{name}.png"), cv2.inpaint(masked, mask[..., 0], 3, cv2.INPAINT_NS))
    joined = arguments(driver, "run", "--predictions", f"navier-stokes={driver / 'ns'}")
    assert benchmark.main(joined) == 0
    assert "| navier-stokes |" in capsys.readouterr().out
    found = {(r["method"], r["bin"], r["index"]): r for r in rows(driver / "run")}
    assert len(found) == 16
    item = cases.plan_items(benchmark.load_config(cases.BenchmarkConfig, None, joined[5:16:2]), driver)[0]()
    holed = np.where(item.mask[..., None], 0, item.photo).astype(np.uint8)
    direct = cv2.inpaint(holed, item.mask.astype(np.uint8), 3, cv2.INPAINT_NS)
    expected = pixel_scores.psnr(direct, item.photo, item.mask)
    assert float(found["navier-stokes", "block", "0"]["psnr_hole"]) == pytest.approx(expected, abs=1e-5)
    (driver / "ns" / f"{cases_there[0]}.png").unlink()
    assert benchmark.main(arguments(driver, "y", "--predictions", f"ns={driver / 'ns'}")) == 2
    assert cases_there[0] in capsys.readouterr().err
    for wrong in ("ns", "telea=" + str(driver), "ns=/no/such"):
        assert benchmark.main(arguments(driver, "z", "--predictions", wrong)) == 2


@pytest.fixture
def generator(driver) -> Path:
    """A small PD-GAN of random weights, in the folder that training writes."""
    from idinpaint.models.pdgan import PDGANGenerator

    torch.manual_seed(0)
    net = PDGANGenerator(variant="face", widths=(16,) * 5, modulation_width=8)
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    net.save_pretrained(driver / "generator")
    return driver / "generator"


def test_two_processes_end_an_interrupted_run_as_one_would_have(driver, generator):
    """Real processes under gloo, as `accelerate launch` starts them; a generator with a latent among the methods."""
    gan = ["--gan", f"own={generator}", "--set", "max_images=2", "--set", "num_samples=2"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the two have: another number of threads rounds sums in another order
    try:
        assert benchmark.main(arguments(driver, "one", *gan)) == 0
    finally:
        torch.set_num_threads(threads)
    assert {float(r["diversity"]) > 0 for r in rows(driver / "one") if r["method"] == "own"} == {True}
    shutil.copytree(driver / "one", driver / "two")
    lines = (driver / "one" / "rows.csv").read_text().splitlines(keepends=True)
    (driver / "two" / "rows.csv").write_text("".join([*lines[:3], lines[3][:60]]))  # stopped within the third row
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    env |= {"PYTHONPATH": str(REPO / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(driver / "driver.py"), *arguments(driver, "two", *gan)]
    started = [
        subprocess.Popen(
            command, env=env | {"RANK": r, "LOCAL_RANK": r}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for r in "01"
    ]
    printed = [process.communicate(timeout=600)[0].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    assert rows(driver / "two") == rows(driver / "one") and len(rows(driver / "one")) == 8  # 2 bins x 2 x 2 methods
    assert not (driver / "two" / "parts").exists() and "| telea |" in printed[0] and "| telea |" not in printed[1]
    keep = [
        {k: v for k, v in r.items() if k != "mean"} for r in csv.DictReader((driver / "two" / "summary.csv").open())
    ]
    assert any(r["metric"] == "id_fid" for r in keep) and any(r["metric"] == "tar" for r in keep)


def test_bins_of_distinct_photos_share_none(driver):
    def keys(bins: tuple[str, ...], count: int, photos: str) -> list[str]:
        config = cases.BenchmarkConfig(bins=bins, max_images=count, photos=photos, distinct_photos=True)
        return [load().entry.key for load in cases.plan_items(config, Path())]

    bins = ("block", "half", "stroke")
    shown = keys(bins, 2, str(driver / "photos"))
    assert len(set(shown)) == 6 and len({key.split("/")[0] for key in shown[::2]}) == 3
    assert keys(bins, 1, str(driver / "photos")) == shown[::2]  # a larger max_images extends a smaller one
    with pytest.raises(InputError, match="max_images=3 x 3 bins"):
        keys(bins, 3, str(driver / "photos"))


def test_generators_are_methods_by_name(generator):
    config = cases.BenchmarkConfig(methods=("own", "gan", "prior"), gans=("own=elsewhere", f"own={generator}"))
    assert methods.generator_folder("own", config) == generator
    assert methods.generator_folder("own+ref2", config) == generator
    assert methods.generator_folder(f"gan:{generator}", config) == generator
    assert methods.generator_folder("gan", config) is None and methods.generator_folder("prior", config) is None
    made = methods.fingerprint("own", config, {})["weights_sha256"]
    assert made != methods.fingerprint("prior", config, {})["weights_sha256"]
    for wrong in ("own", "telea=x", "a:b=x", "own=/no/such"):
        with pytest.raises(InputError):
            methods.parse_gans(replace(config, gans=(wrong,)))
    with pytest.raises(InputError, match="--gan difusion=FOLDER"):
        methods.generator_folder("difusion", config)


def test_drawn_masks_and_shifts_are_the_same_every_time():
    for kind in cases.MASK_KINDS:
        first, again, other = (cases.load_mask(f"{kind}/{n}", Path(), 0) for n in (0, 0, 1))
        assert np.array_equal(first, again) and not np.array_equal(first, other) and 0.005 < first.mean() < 0.6
    assert 0.4 < cases.load_mask("half/3", Path(), 0).mean() < 0.6
    photo = np.random.default_rng(0).integers(40, 200, (64, 64, 3), dtype=np.uint8)
    for name, shift in cases.SHIFTS.items():
        made = [shift(photo, np.random.default_rng(5)) for _ in range(2)]
        assert np.array_equal(*made) and made[0].shape == photo.shape and made[0].dtype == np.uint8, name
        assert not np.array_equal(made[0], photo)
    assert np.ptp(cases.SHIFTS["grey"](photo, None), axis=2).max() == 0
    assert cases.SHIFTS["lowlight"](photo, np.random.default_rng(0)).mean() < 0.7 * photo.mean()


@pytest.mark.parametrize("wrong", ["bins=[oval]", "bins=[block@fog]", "photos=/no/such/folder"])
def test_unknown_cases_are_refused(driver, capsys, wrong):
    assert benchmark.main(arguments(driver, "x", "--set", wrong)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_slices_say_what_is_hidden_and_how_the_face_is_lit():
    y, x = np.mgrid[:256, :256]
    points = np.zeros((68, 2))
    points[:17] = np.stack([np.linspace(50, 206, 17), 150 + 90 * np.sin(np.linspace(0, np.pi, 17))], 1)
    points[17:22], points[22:27] = [[80 + 8 * i, 95] for i in range(5)], [[140 + 8 * i, 95] for i in range(5)]
    points[27:36] = [[128, 110 + 5 * i] for i in range(9)]
    points[36:42] = [[85 + 6 * i, 110 + 3 * (i % 2)] for i in range(6)]
    points[42:48] = [[141 + 6 * i, 110 + 3 * (i % 2)] for i in range(6)]
    points[45], points[30] = [171, 110], [128, 140]
    points[48:68] = [[105 + 2.3 * i, 180 + 4 * (i % 2)] for i in range(20)]
    mask = (y > 98) & (y < 125) & (x < 122)
    photo = np.repeat(np.where(x < 128, 60, 180).astype(np.uint8)[..., None], 3, 2)
    row = {k: str(v) for k, v in slices.describe(photo, mask, points).items()}
    assert row["hidden"] == "left_eye" and abs(float(row["yaw"])) < 0.05 and float(row["side_light"]) > 0.3
    row |= {"bin": "20-30@jpeg", "hole_ratio": "0.21", "person": "p", "photo": "1.jpg"}
    found = slices.slice_rows(frame([row]), {"p/1.jpg": {"apparent age": "old"}})
    assert ("lighting", "from the side") in found and ("hole", "20-30 %") in found and ("shift", "jpeg") in found
    assert ("mask", "irregular") in found and ("pose", "frontal") in found and ("apparent age", "old") in found
    turned = points.copy()
    turned[30, 0] += 20
    assert slices.yaw_of(turned) > slices.TURNED_FROM
    assert slices.describe(photo, mask, None)["hidden"] == "unknown"


def test_curvature_of_a_quadratic_is_its_matrix():
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    matrix = root @ root.T
    weights = [
        torch.randn(4, dtype=torch.float64, requires_grad=True),
        torch.randn(2, dtype=torch.float64, requires_grad=True),
    ]

    def loss() -> torch.Tensor:
        x = torch.cat(weights)
        return 0.5 * x @ matrix @ x

    product = curvature.hessian_product(loss, weights)
    unit = [torch.tensor([1.0, 0, 0, 0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    assert torch.allclose(torch.cat(product(unit)), matrix[0])
    top = curvature.top_eigenvalue(product, weights, steps=500, tolerance=1e-9)
    assert top == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-4)
    mean, error = curvature.trace(product, weights, draws=400)
    assert abs(mean - float(matrix.trace())) < 4 * error
    negative = curvature.hessian_product(lambda: -loss(), weights)
    assert curvature.top_eigenvalue(negative, weights, 500, 1e-9) == pytest.approx(-top, rel=1e-4)


def test_curvature_of_a_generator_over_the_priors_features(driver, restorer):
    from idinpaint.models.pdgan import PDGANGenerator

    pipeline = restorer.bundle.pipeline
    torch.manual_seed(0)
    features = tuple(
        t.shape[1] for t in pipeline.prior.fill(torch.zeros(1, 3, 256, 256), torch.ones(1, 1, 256, 256))[1]
    )
    PDGANGenerator(widths=(8,) * 5, modulation_width=4, prior_features=features).save_pretrained(driver / "features")
    config = cases.BenchmarkConfig(bins=("block",), max_images=1, photos=str(driver / "photos"))
    items = [load() for load in cases.plan_items(config, driver)]
    found = curvature.measure(f"gan:{driver / 'features'}", pipeline, items, steps=1, draws=1)
    assert found["loss"] > 0 and np.isfinite(found["top_eigenvalue"]) and np.isfinite(found["trace"])


def test_an_ablation_changes_one_factor(tmp_path):
    base = cases.BenchmarkConfig(max_images=3)
    made = {value: ablate.config_for(base, "diffusion", "references", value).methods for value in ("0", "2")}
    assert made == {"0": ("diffusion",), "2": ("diffusion+ref2",)}
    assert ablate.config_for(base, "diffusion", "hole", "30-40").bins == ("30-40",)
    assert ablate.config_for(base, "diffusion", "guidance", "1.5").guidance == 1.5
    steps = ablate.config_for(base, "diffusion", "steps", "4")
    assert steps.steps == 4 and steps.max_images == 3 and steps.methods == ("diffusion",)
    (tmp_path / "config.json").touch()
    (tmp_path / "model").mkdir()
    model = ablate.config_for(base, "diffusion", "losses", f"no-identity={tmp_path / 'model'}")
    assert model.model == str(tmp_path / "model") and model.methods == ("diffusion",)
    generator = ablate.config_for(base, "diffusion", "losses", f"both={tmp_path}")
    assert generator.methods == ("both",) and generator.gans == (f"both={tmp_path}",)
    for factor, value in (("losses", "1"), ("losses", "a=/no/such"), ("steps", "many"), ("references", "x")):
        with pytest.raises(InputError):
            ablate.config_for(base, "diffusion", factor, value)
