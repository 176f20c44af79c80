"""Set metrics against closed forms, torchmetrics and known extremes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))

import cases  # noqa: E402
import metrics  # noqa: E402
import set_scores  # noqa: E402
import summary  # noqa: E402
from metric_networks import landmark_error  # noqa: E402
from pixel_scores import ms_ssim, seam_error, similarity_maps, ssim  # noqa: E402
from tables import frame  # noqa: E402


def features(seed: int, count: int = 24, dims: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dims))


def people(count: int) -> list[str]:
    return [str(i // 2) for i in range(count)]


def test_fid_of_a_set_against_itself_is_zero_and_a_shift_is_its_square():
    a = features(0)
    assert set_scores.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert set_scores.frechet_distance(a, a + 0.5) == pytest.approx(12 * 0.25, rel=1e-9)  # Heusel 2017, eq. 6
    # of scaled features: tr(S + c^2 S - 2 c S) = (1 - c)^2 tr S
    centred = a - a.mean(0)
    expected = 0.25 * np.cov(a.T).trace()
    assert set_scores.frechet_distance(centred, 1.5 * centred) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [24, 8])  # more and fewer pictures than dimensions
def test_fid_and_kid_agree_with_torchmetrics(count):
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = features(1, count), 0.8 * features(2, count) + 0.3
    tensors = [torch.from_numpy(x) for x in (a, b)]
    moments = [m for x in tensors for m in (x.mean(0), torch.cov(x.T))]
    # rank-deficient covariances give their eigenvalues noise of about 1e-9, and its root is 3e-5
    assert set_scores.frechet_distance(a, b) == pytest.approx(_compute_fid(*moments).item(), rel=1e-4)
    assert set_scores.kernel_distance(a, b)() == pytest.approx(poly_mmd(*tensors).item(), rel=1e-9)


def test_repeating_photos_by_weight_is_repeating_them():
    a, b, w = features(3, 6), features(4, 6), np.array([2, 0, 1, 1, 2, 0])
    alone = set_scores.kernel_distance(a[w > 0], b[w > 0])()
    assert set_scores.kernel_distance(a, b)((w > 0).astype(float)) == pytest.approx(alone)
    repeated = set_scores.frechet_distance(np.repeat(a, w, axis=0), np.repeat(b, w, axis=0))
    assert set_scores.frechet_distance(a, b, w) == pytest.approx(repeated, rel=1e-9)
    value = set_scores.set_distance(lambda v: set_scores.frechet_distance(a, b, v), people(6), 50)
    assert value.low < value.value < value.high


def test_svm_is_at_its_minimum_and_cannot_tell_equal_sets_apart():
    x, y = features(5, 40, 3), np.repeat([1.0, -1.0], 20)
    w = set_scores.linear_svm(x, y)

    def loss(v: np.ndarray) -> float:
        slack = np.maximum(0, 1 - y * (x @ v[:-1] + v[-1]))
        return 0.5 * v @ v + slack @ slack

    rng = np.random.default_rng(0)
    assert all(loss(w) <= loss(w + 1e-2 * rng.normal(size=4)) for _ in range(50))
    same = features(6, 60, 3)
    u_ids, p_ids = set_scores.inception_discriminative(same, same.copy(), people(60))
    assert u_ids.mean() == 0.5 and p_ids.mean() == 0  # equal pictures: one of each pair wrong, none more real
    u_ids, p_ids = set_scores.inception_discriminative(same, same + 20, people(60))
    assert u_ids.mean() == 0 and p_ids.mean() == 0


def test_tar_and_recognition_of_people_on_axes():
    eye = np.eye(8)[:6]
    others = [np.stack([v, v]) for v in eye]
    names = list("abcdef")
    assert set_scores.accepted(eye, others, 0.5).tolist() == [1] * 6
    assert set_scores.recognised(eye, names, others).tolist() == [1] * 6
    wrong = np.roll(eye, 1, axis=0)
    assert set_scores.recognised(wrong, names, others).tolist() == [0] * 6
    lost = eye.copy()
    lost[2] = 0  # face not found
    scores = metrics.score_set(metrics.PictureSet(eye, lost, names, others, 50), "sface")
    assert scores["recognised"].value == pytest.approx(5 / 6) and scores["recognised_ceiling"].value == 1
    assert scores["tar"].value < 1 and scores["tar_ceiling"].value == 1
    assert scores["id_fid"].value == pytest.approx(0, abs=1e-9)


def test_auc_of_real_pairs():
    unit = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]])
    ranks, whose = set_scores.Gallery(unit, np.array(["a", "a", "b", "b"])).genuine_ranks()
    # genuine .8, .8; different people 0, .6, .6, .96: three of four are below each
    assert ranks.tolist() == [0.75, 0.75] and whose == ["a", "b"]
    eye = np.eye(6)
    others = [np.stack([v, 0.9 * v + 0.1 * np.roll(v, 1)]) for v in eye]
    others = [o / np.linalg.norm(o, axis=1, keepdims=True) for o in others]
    assert (
        metrics.score_set(metrics.PictureSet(eye, eye, list("abcdef"), others, 50), "sface")["identity_auc"].value == 1
    )


def test_two_labels_of_one_person_are_counted_as_one():
    eye = np.eye(8)
    # b is a under another name: nearer to a than a's and b's own second photos are
    raw = {"a/0": eye[0], "a/1": eye[0] + 0.2 * eye[2], "b/0": eye[0] + 0.1 * eye[3], "b/1": eye[0] + 0.2 * eye[4]}
    raw |= {"c/0": eye[1], "c/1": eye[1] + 0.2 * eye[5]}
    real = {name: {"sface": v / np.linalg.norm(v)} for name, v in raw.items()}
    rows = [{"bin": "x", "index": str(i), "person": who, "photo": "0", "others": "1"} for i, who in enumerate("abc")]
    rows = frame(rows)
    made = {f"x_{i:04d}": real[f"{who}/0"] for i, who in enumerate("abc")}
    apart, together = (summary.set_records(rows, made, real, 20, same) for same in ({}, {"b": "a"}))
    assert apart["tar_ceiling"].value == 0 and apart["identity_auc"].value < 1
    assert together["tar_ceiling"].value == 1 and together["identity_auc"].value == 1
    test_people = cases.read_split(cases.SPLITS / "celeba_id256_test.txt")
    assert all({name, kept} <= set(test_people) for name, kept in cases.same_person().items())


def test_threshold_lets_the_asked_share_of_strangers_in():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = np.array([str(i) for i in range(80)])
    limit = set_scores.Gallery(vectors, owners).threshold(0.01)
    cosine = (vectors @ vectors.T)[np.triu_indices(80, 1)]
    assert (cosine > limit).mean() == pytest.approx(0.01, abs=1 / cosine.size)


def test_ms_ssim_of_two_constants_is_the_luminance_term_to_the_last_weight():
    a, b = np.full((192, 192, 3), 100, np.uint8), np.full((192, 192, 3), 150, np.uint8)
    mask = np.zeros((192, 192), bool)
    mask[60:130, 70:140] = True
    luminance = (2 * 100 * 150 + (0.01 * 255) ** 2) / (100**2 + 150**2 + (0.01 * 255) ** 2)
    # Wang 2003, eq. 7: weights of table 1
    assert ms_ssim(a, b, mask) == pytest.approx((luminance**0.1333,) * 2, abs=1e-9)
    assert ms_ssim(a, a, mask) == pytest.approx((1, 1)) and np.isnan(ms_ssim(a, b, np.zeros_like(mask))[1])


def test_ms_ssim_is_that_of_torchmetrics_and_the_hole_counts_the_hole_only():
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    rng = np.random.default_rng(0)
    original = rng.integers(0, 256, (176, 192, 3), dtype=np.uint8)
    mask = np.zeros((176, 192), bool)
    mask[60:130, 70:140] = True
    image = np.where(mask[..., None] & (rng.random((176, 192, 1)) < 0.6), 255 - original, original).astype(np.uint8)
    a, b = (torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[None] / 255 for x in (image, original))
    whole, hole = ms_ssim(image, original, mask)
    assert whole == pytest.approx(float(reference(a, b, data_range=1.0)), abs=1e-7)
    assert hole < 0.6 < whole


def test_similarity_maps_are_those_of_scikit_image():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    tensors = [torch.from_numpy(x.astype(np.float64)).permute(2, 0, 1)[:, None] / 255 for x in (a, b)]
    ours = similarity_maps(*tensors)[0].mean(0)[0].numpy()[mask].mean()
    assert ours == pytest.approx(ssim(a, b, mask)[1], abs=1e-9)


def test_seam_error_is_the_difference_of_the_steps_at_the_edge():
    original, mask = np.full((8, 8, 3), 100, np.uint8), np.zeros((8, 8), bool)
    mask[2:5, 2:5] = True
    image = original.copy()
    image[mask] = 110
    assert seam_error(image, original, mask) == 10 and seam_error(original, original, mask) == 0
    image[3, 3] = 255  # not at the edge
    assert seam_error(image, original, mask) == 10
    assert np.isnan(seam_error(image, original, np.ones((8, 8), bool)))


def test_landmark_error_counts_hidden_points_only():
    truth = np.array([[20, 20], [60, 20], [40, 40], [25, 60], [55, 60.0]])
    mask = np.zeros((80, 80), bool)
    mask[50:] = True
    moved = truth + [[9, 9], [9, 9], [9, 9], [0, 4], [3, 0]]
    assert landmark_error(moved, truth, mask) == pytest.approx(100 * 3.5 / 40)
    assert np.isnan(landmark_error(moved, truth, np.zeros((80, 80), bool))) and np.isnan(
        landmark_error(None, truth, mask)
    )


def weights_folder() -> Path | None:
    import os

    from metric_networks import INCEPTION_FILE, find_weight

    folders = [Path(__file__).parents[1] / "runs" / "metric_weights"]
    folders += [Path(os.environ["IDINPAINT_METRIC_WEIGHTS"])] if "IDINPAINT_METRIC_WEIGHTS" in os.environ else []
    return find_weight(INCEPTION_FILE, folders)


def test_fid_grows_with_blur():
    import cv2
    from metric_networks import Inception

    path = weights_folder()
    if path is None:
        pytest.skip("inception_fid.pt is not there: fetch_metric_weights.py runs/metric_weights")
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    pictures = [cv2.resize(s, (128, 128), interpolation=cv2.INTER_NEAREST) for s in small]
    net = Inception(path)
    sets = [np.stack([net.features(cv2.GaussianBlur(p, (0, 0), s) if s else p) for p in pictures]) for s in (0, 2, 8)]
    distances = [set_scores.frechet_distance(sets[0], other) for other in sets]
    assert distances[0] < 1e-6 < distances[1] < distances[2]
