"""The analyzer with a stand-in landmark network that knows the true points, and with the bundled one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from idinpaint.faces import analyzer as an
from idinpaint.faces import search
from idinpaint.faces.alignment import ffhq_crop_matrix, invert, transform_points, umeyama
from idinpaint.types import FEATURES, InputError
from tests.test_alignment import face_points

# The astronaut's eye centres, nose tip and mouth corners, photo px.
POINTS5 = np.array([[202, 103], [247, 103], [225, 126], [204, 144], [244, 144]], float)


class TruePoints:
    """Answers with the points of the nearest known face; confident when the crop holds it at about its size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *faces: np.ndarray) -> None:
        self.faces, self.matrix, self.inputs = faces, None, []
        warp = search.warp_to_crop

        def recording(rgb, mask, matrix, size=256):
            self.matrix = matrix
            return warp(rgb, mask, matrix, size)

        monkeypatch.setattr(search, "warp_to_crop", recording)

    def predict(self, crop: np.ndarray, crop_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.inputs.append(crop)
        points = min(
            (transform_points(invert(self.matrix), f) for f in self.faces),
            key=lambda p: np.hypot(*(p.mean(0) - 128)),
        )
        size = np.hypot(*(points[45] - points[36])) / 90
        near = np.hypot(*(points.mean(0) - [128, 150])) < 60 and 0.6 < size < 1.7
        return points, np.full(68, 0.9 if near else 0.1)


class Encoder:
    """A vector of the picture itself: changes with any pixel."""

    def embed(self, faces: list[np.ndarray]) -> np.ndarray:
        vectors = np.stack([f.astype(float).reshape(-1)[::97] for f in faces])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return pytest.importorskip("skimage.data", reason="scikit-image has the portrait").astronaut()


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """[68, 2] photo px: the plain face laid over the astronaut's five points."""
    lm = face_points()
    five = np.stack([lm[36:42].mean(0), lm[42:48].mean(0), lm[30], lm[48], lm[54]])
    return transform_points(umeyama(five, POINTS5), lm)


def hole(shape: tuple[int, ...], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(shape[:2], bool)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = True
    return mask


def test_one_face(photo, points, monkeypatch) -> None:
    mask = hole(photo.shape, (190, 135, 70, 20))  # the mouth
    (face,) = an.FaceAnalyzer(TruePoints(monkeypatch, points), identity=Encoder()).analyze(photo, mask)
    assert np.allclose(face.crop_to_photo, ffhq_crop_matrix(points), atol=1e-6)
    assert np.allclose(transform_points(face.crop_to_photo, face.landmarks), points, atol=1e-6)
    assert face.crop.shape == (256, 256, 3) and not face.crop[face.crop_mask].any()
    assert set(face.coverage) == set(FEATURES) and face.coverage["mouth"] > 0.9 and face.coverage["left_eye"] == 0
    assert 0.1 < face.face_coverage < 0.4 and np.linalg.norm(face.id_embed) == pytest.approx(1)
    x, y, w, h = face.box
    assert x < 202 < 247 < x + w and y < 103 < 144 < y + h


def test_nothing_under_the_mask_leaks(photo, points, monkeypatch) -> None:
    """Promise 2: other pixels under the mask give the same crops to every network and the same analysis."""
    mask = hole(photo.shape, (190, 135, 70, 20), (215, 60, 8, 90))
    rng, results = np.random.default_rng(0), []
    for _ in range(2):
        landmarker = TruePoints(monkeypatch, points)
        noisy = np.where(mask[..., None], rng.integers(0, 256, photo.shape, np.uint8), photo)
        before = noisy.copy()
        (face,) = an.FaceAnalyzer(landmarker, identity=Encoder()).analyze(noisy, mask)
        assert np.array_equal(noisy, before)  # the caller's array is left alone
        results.append((landmarker.inputs, face))
    (inputs_a, a), (inputs_b, b) = results
    assert len(inputs_a) == len(inputs_b) and all(map(np.array_equal, inputs_a, inputs_b))
    assert np.array_equal(a.crop, b.crop) and np.array_equal(a.id_embed, b.id_embed) and a.coverage == b.coverage


def test_only_touched_faces(photo, points, monkeypatch) -> None:
    pair = np.concatenate([photo, photo[:, ::-1]], 1)
    swap = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46]
    swap += [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
    other = (points * [-1, 1] + [1023, 0])[swap]
    mask = hole(pair.shape, (215, 60, 10, 90))
    analyzer = an.FaceAnalyzer(TruePoints(monkeypatch, points, other))
    assert [f.box[0] < 512 for f in analyzer.analyze(pair, mask)] == [True]
    assert len(analyzer.analyze(pair, mask | mask[:, ::-1])) == 2
    assert len(analyzer.analyze(pair, None)) == 2
    assert analyzer.analyze(pair, hole(pair.shape, (500, 480, 30, 30))) == []


@pytest.mark.parametrize("scale", [0.5, 5.0])
def test_sizes(photo, points, monkeypatch, scale: float) -> None:
    picture = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    lm = points * scale
    mask = cv2.resize(hole(photo.shape, (215, 60, 8, 90)).view(np.uint8), picture.shape[1::-1], interpolation=0) > 0
    (face,) = an.FaceAnalyzer(TruePoints(monkeypatch, lm)).analyze(picture, mask)
    assert np.allclose(face.crop_to_photo, ffhq_crop_matrix(lm), atol=1e-6)


def test_identity_of_a_hidden_face_is_none(photo, points, monkeypatch) -> None:
    mask = hole(photo.shape, (160, 50, 130, 130))
    analyzer = an.FaceAnalyzer(TruePoints(monkeypatch, points), identity=Encoder())
    (face,) = analyzer.analyze(photo, mask, face_box=(177, 70, 95, 95))
    assert face.id_embed is None and face.face_coverage > 0.95


def test_face_box(photo, points, monkeypatch) -> None:
    mask = hole(photo.shape, (215, 60, 8, 90))
    analyzer = an.FaceAnalyzer(TruePoints(monkeypatch, points))
    (face,) = analyzer.analyze(photo, mask, face_box=(180, 70, 90, 95))
    assert np.allclose(face.crop_to_photo, ffhq_crop_matrix(points), atol=1e-6)
    for box in ((600, 0, 50, 50), (10, 10, 0, 5), (-90, 0, 50, 50)):
        with pytest.raises(InputError, match="face box"):
            analyzer.analyze(photo, mask, face_box=box)


def test_false_detections_are_dropped(photo, monkeypatch) -> None:
    """A landmark network that is sure of nothing: no face, and no exception."""
    landmarker = TruePoints(monkeypatch, face_points() + 5000)
    assert an.FaceAnalyzer(landmarker).analyze(photo, hole(photo.shape, (215, 60, 8, 90))) == []


def test_no_known_pixel(monkeypatch) -> None:
    picture = np.full((64, 48, 3), 7, np.uint8)
    landmarker = TruePoints(monkeypatch, face_points() + 5000)
    assert an.FaceAnalyzer(landmarker).analyze(picture, np.ones((64, 48), bool)) == []


@pytest.fixture(scope="module")
def bundled() -> an.FaceAnalyzer:
    """The analyzer over the bundled landmark network."""
    from idinpaint.faces.landmarks import Landmarker
    from idinpaint.models.face_maps import FaceMaps
    from idinpaint.models.weights import BUNDLED, WeightStore

    if not (BUNDLED / "landmarks.safetensors").is_file():
        pytest.skip(f"no bundled landmark network in {BUNDLED}")
    config, state = WeightStore().load("landmarks.safetensors")
    net = FaceMaps(**config)
    net.load_state_dict(state)
    return an.FaceAnalyzer(Landmarker(net))


@pytest.mark.parametrize("degrees", [0, 25, 90, 180])
def test_bundled_network_on_turned_faces(bundled, photo, points, degrees: float) -> None:
    matrix = cv2.getRotationMatrix2D((255.5, 255.5), -degrees, 1)
    picture = cv2.warpAffine(photo, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpAffine(hole(photo.shape, (190, 135, 70, 14)).view(np.uint8), matrix, (512, 512)) > 0
    face = bundled.analyze(picture, mask)[0]
    true = transform_points(matrix, points)
    found = transform_points(face.crop_to_photo, face.landmarks)
    eyes = [np.hypot(*(found[s].mean(0) - true[s].mean(0))) for s in (slice(36, 42), slice(42, 48))]
    assert max(eyes) < 0.2 * np.hypot(*(POINTS5[1] - POINTS5[0]))
    assert face.coverage["mouth"] > 0.5 and face.coverage["left_eye"] < 0.1
