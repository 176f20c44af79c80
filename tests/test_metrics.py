"""Metrics against closed forms and against the reference implementations (skimage, torchmetrics)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "eval"))

import metric_networks  # noqa: E402
import pixel_scores  # noqa: E402


def noise(seed: int, size: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def smooth(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.stack([x * 2, y * 2, (x + y)], axis=2).astype(np.uint8)


def left_half(size: int = 96) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[:, : size // 2] = True
    return mask


def test_psnr_of_a_known_offset():
    original = np.full((16, 16, 3), 100, np.uint8)
    assert pixel_scores.psnr(original + 10, original) == pytest.approx(20 * np.log10(25.5), abs=1e-9)
    assert pixel_scores.psnr(original, original) == pixel_scores.PSNR_CAP


def test_psnr_of_the_hole_counts_the_hole_only():
    original, mask = np.full((16, 16, 3), 100, np.uint8), left_half(16)
    image = original.copy()
    image[mask] += 10
    assert pixel_scores.psnr(image, original, mask) == pytest.approx(20 * np.log10(25.5), abs=1e-9)
    assert pixel_scores.psnr(image, original) == pytest.approx(20 * np.log10(25.5) + 10 * np.log10(2), abs=1e-9)


def test_ssim_of_two_constants_is_the_luminance_term():
    a, b = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    whole, hole = pixel_scores.ssim(a, b, left_half(32))
    assert whole == pytest.approx(expected, abs=1e-6) and hole == pytest.approx(expected, abs=1e-6)


def test_ssim_agrees_with_a_direct_gaussian_window():
    a, b = smooth().astype(np.float64), noise(0).astype(np.float64)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / np.outer(window, window).sum()
    row, column = 40, 50
    values = []
    for channel in range(3):
        pa = a[row - 5 : row + 6, column - 5 : column + 6, channel]
        pb = b[row - 5 : row + 6, column - 5 : column + 6, channel]
        ma, mb = (window * pa).sum(), (window * pb).sum()
        va, vb = (window * pa**2).sum() - ma**2, (window * pb**2).sum() - mb**2
        cov = (window * pa * pb).sum() - ma * mb
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    one_pixel = np.zeros((96, 96), bool)
    one_pixel[row, column] = True
    assert pixel_scores.ssim(smooth(), noise(0), one_pixel)[1] == pytest.approx(np.mean(values), abs=1e-9)


def metric_folders() -> list[Path]:
    """Where the downloaded metric weights may lie."""
    named = os.environ.get("IDINPAINT_METRIC_WEIGHTS")
    return [REPO / "runs" / "metric_weights", *([Path(named)] if named else [])]


@pytest.fixture
def alex(shared) -> metric_networks.LPIPS:
    return metric_networks.LPIPS("alex", shared / "models" / metric_networks.BACKBONE_FILES["alex"])


def test_lpips_of_identical_pictures_is_zero_and_grows_with_noise(alex):
    original = smooth(128)
    disturbance = np.random.default_rng(1).normal(size=original.shape)
    values = [alex.distance(original, original)[0]]
    for sigma in (5, 15, 40):
        noisy = np.clip(original + sigma * disturbance, 0, 255).astype(np.uint8)
        values.append(alex.distance(noisy, original)[0])
    assert values[0] == 0 and values == sorted(values) and values[3] > 0.3


def test_lpips_over_the_hole_counts_the_hole_more(alex):
    original, mask = smooth(128), left_half(128)
    image = np.where(mask[..., None], noise(2, 128), original)
    whole, hole = alex.distance(image, original, mask)
    assert hole > 1.3 * whole > 0


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_equals_torchmetrics_on_the_same_backbone(net, tmp_path, monkeypatch):
    """torchmetrics wants torchvision for the backbone only: give both the same random one."""
    from torchmetrics.functional.image import lpips as reference

    torch.manual_seed(0)
    features = metric_networks.build_features(net)
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, tmp_path / "net.pth")
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *args, **kwargs: features)
    theirs = reference._LPIPS(pretrained=True, net=net).eval()
    ours = metric_networks.LPIPS(net, tmp_path / "net.pth")
    a, b = smooth(), noise(3)
    with torch.no_grad():
        expected = theirs(metric_networks._to_tensor(a), metric_networks._to_tensor(b)).item()
    assert ours.distance(a, b)[0] == pytest.approx(expected, rel=1e-5)


# lpips.LPIPS(net="vgg") of richzhang's package on ten pairs of numpy's random pictures, as published (to 4 decimals)
# in a public notebook on PSNR, SSIM and LPIPS, where torchmetrics' mean of them, 0.3494, stands beside.
PUBLISHED_VGG = (0.3497, 0.3494, 0.3473, 0.3558, 0.3437, 0.3366, 0.3716, 0.3516, 0.3472, 0.3413)


def test_lpips_vgg_of_published_pairs():
    path = metric_networks.find_weight(metric_networks.BACKBONE_FILES["vgg"], metric_folders())
    if path is None:
        pytest.skip("VGG16 features are not there: fetch_metric_weights.py runs/metric_weights")
    random = np.random.RandomState(123)
    a, b = (torch.from_numpy(random.rand(10, 3, 100, 100)).float() * 2 - 1 for _ in range(2))
    net = metric_networks.LPIPS("vgg", path)
    with torch.no_grad():
        found = sum(m.mean((1, 2, 3)) for m in net.maps_between(*map(net.unit_features, (a[:3], b[:3]))))
    assert found.tolist() == pytest.approx(PUBLISHED_VGG[:3], abs=5.1e-5)  # half of the last published digit


def test_scores_with_a_kept_original_are_those_without(alex):
    original, image = smooth(64), noise(4, 64)
    first = alex.distance(image, original)[0]
    assert alex.distance(image, original)[0] == first == alex.distance(image, original.copy())[0]
    pairs = [alex.distance(x, y)[0] for x, y in ((image, original), (image, noise(5, 64)), (original, noise(5, 64)))]
    assert alex.pairwise([image, original, noise(5, 64)]) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_identity_counts_a_missing_face_as_zero():
    unit = np.array([0.6, 0.8])
    assert metric_networks.identity_similarity(unit, unit) == pytest.approx(1)
    assert metric_networks.identity_similarity(None, unit) == 0


def test_missing_weights_are_one_line_with_the_way_out(tmp_path):
    with pytest.raises(metric_networks.InputError) as caught:
        metric_networks.load_metrics(tmp_path / "data", tmp_path / "weights")
    assert "fetch_metric_weights.py" in str(caught.value) and "\n" not in str(caught.value)
