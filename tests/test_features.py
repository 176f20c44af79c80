"""Feature regions and their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from idinpaint.faces import features as ft
from idinpaint.faces.parsing import PARSING_CLASSES
from idinpaint.types import FEATURES
from tests.test_alignment import face_points


@pytest.fixture
def regions() -> dict[str, np.ndarray]:
    return ft.feature_regions(face_points())


def test_weights() -> None:
    assert tuple(ft.FEATURE_WEIGHTS) == FEATURES and sum(ft.FEATURE_WEIGHTS.values()) == pytest.approx(1)
    assert max(ft.FEATURE_WEIGHTS, key=ft.FEATURE_WEIGHTS.get).endswith("eye")
    assert PARSING_CLASSES[ft.SKIN_LABEL] == "skin" and PARSING_CLASSES[ft.HAIR_LABEL] == "hair"


def test_where_the_features_are(regions: dict[str, np.ndarray]) -> None:
    assert set(regions) == {*FEATURES, "hair"}
    for name, (x, y) in {
        "left_eye": (96, 121),
        "right_eye": (159, 121),
        "nose": (127, 150),
        "mouth": (127, 190),
    }.items():
        assert regions[name][y, x] and regions[name].sum() < 4000
    assert regions["left_brow"][99, 92] and regions["skin"][140, 80] and regions["skin"][75, 127]
    assert not (regions["skin"] & regions["mouth"]).any() and not regions["hair"].any()
    assert regions["skin"].sum() > 10000


def test_parsing_rules_where_visible() -> None:
    labels = np.zeros((256, 256), int)
    labels[:100] = ft.HAIR_LABEL
    labels[100:] = ft.SKIN_LABEL
    visible = np.ones((256, 256), bool)
    visible[:, 128:] = False
    regions = ft.feature_regions(face_points(), labels, visible)
    assert regions["skin"][240, 10] and not regions["skin"][240, 250]  # parsed left, the oval right
    assert regions["skin"][150, 180] and not regions["skin"][80, 150]  # hidden hair is no skin
    assert regions["hair"][50, 50]


def test_failed_parsing_is_not_believed(regions: dict[str, np.ndarray]) -> None:
    again = ft.feature_regions(face_points(), np.zeros((256, 256), int))
    assert np.array_equal(again["skin"], regions["skin"])


def test_coverage(regions: dict[str, np.ndarray]) -> None:
    none = ft.coverage(regions, np.zeros((256, 256), bool))
    full = ft.coverage(regions, np.ones((256, 256), bool))
    assert set(none.values()) == {0.0} and set(full.values()) == {1.0}
    assert ft.face_coverage(none) == 0 and ft.face_coverage(full) == pytest.approx(1)
    half = ft.coverage(regions, np.full((256, 256), 0.5, np.float32))
    assert ft.face_coverage(half) == pytest.approx(0.5)


def test_sunglasses_weigh_more_than_their_area(regions: dict[str, np.ndarray]) -> None:
    mask = np.zeros((256, 256), bool)
    mask[108:135, 75:182] = True
    shares = ft.coverage(regions, mask)
    assert mask.mean() < 0.05 and shares["left_eye"] == shares["right_eye"] == 1.0 and shares["mouth"] == 0
    assert ft.face_coverage(shares) > 0.4


def test_beyond_the_photo_does_not_count(regions: dict[str, np.ndarray]) -> None:
    outside = np.zeros((256, 256), bool)
    outside[:, 128:] = True
    shares = ft.coverage(regions, outside, outside)
    assert set(shares.values()) == {0.0}


def test_when_identity_is_readable() -> None:
    shares = dict.fromkeys(FEATURES, 1.0)
    assert not ft.identity_visible(shares)
    assert ft.identity_visible(shares | {"mouth": 0.0})
    assert not ft.identity_visible(shares | {"mouth": 0.9, "skin": 0.0})


def test_coverage_moves_little_with_the_landmarks_own_error() -> None:
    points, outside = face_points(), np.zeros((256, 256), bool)
    hole = outside.copy()
    hole[100:170, 80:150] = True
    value = ft.face_coverage(ft.coverage(ft.feature_regions(points), hole))
    first, again = (ft.coverage_interval(points, None, hole, hole.astype(float), outside) for _ in range(2))
    assert first == again, "the same draws on every call"
    assert first[0] - 0.02 <= value <= first[1] + 0.02 and 0 < first[1] - first[0] < 0.12
    assert ft.coverage_interval(points, None, outside, outside.astype(float), outside) == (0.0, 0.0)
