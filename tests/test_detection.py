"""Detection on a real portrait, at several sizes and turns, with Haar cascades and with YuNet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from idinpaint.faces.detection import YUNET_FILE, Detection, detect_faces, suppress

FACE = np.array([225.0, 118.0])  # px, centre of the astronaut's face


class Folder:
    """A weight store over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path | None:
        return self.folder / name if (self.folder / name).is_file() else None


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data", reason="scikit-image has the portrait")
    return data.astronaut()


def turn(rgb: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Turned clockwise, and where the face's centre is then."""
    matrix = cv2.getRotationMatrix2D((255.5, 255.5), -degrees, 1)
    return cv2.warpAffine(rgb, matrix, (512, 512), borderMode=cv2.BORDER_REFLECT), matrix @ [*FACE, 1]


def near(found: list[Detection], centre: np.ndarray, px: float) -> list[Detection]:
    return [d for d in found if np.hypot(*(d.centre - centre)) < px]


def test_upright(astronaut: np.ndarray) -> None:
    first = detect_faces(astronaut)[0]
    assert near([first], FACE, 15) and 70 < first.box[2] < 130 and first.angle_deg == 0


@pytest.mark.parametrize("degrees", [20, 90, -135])
def test_turned(astronaut: np.ndarray, degrees: float) -> None:
    picture, centre = turn(astronaut, degrees)
    hits = near(detect_faces(picture, angles=(round(degrees / 30) * 30,)), centre, 25)
    assert hits and abs(hits[0].angle_deg - degrees) <= 20


@pytest.mark.parametrize("scale", [0.25, 3.0])
def test_sizes(astronaut: np.ndarray, scale: float) -> None:
    picture = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    assert near(detect_faces(picture), FACE * scale, 20 * scale)


def test_several(astronaut: np.ndarray) -> None:
    found = detect_faces(np.concatenate([astronaut, astronaut[:, ::-1]], 1))
    assert near(found, FACE, 20) and near(found, np.array([1023 - FACE[0], FACE[1]]), 20)


def test_none() -> None:
    assert detect_faces(np.full((200, 300, 3), 90, np.uint8)) == []
    assert detect_faces(np.full((1, 1, 3), 90, np.uint8)) == []


def test_suppress() -> None:
    a, b, c = (Detection((x, 0.0, 40.0, 40.0), 0.0, s) for x, s in ((0.0, 0.5), (10.0, 0.9), (60.0, 0.1)))
    assert suppress([a, b, c]) == [b, c]


def test_yunet_when_it_is_there(astronaut: np.ndarray, shared: Path, tmp_path: Path) -> None:
    store = Folder(shared / "models")
    if store.find(YUNET_FILE) is None:
        pytest.skip(f"{YUNET_FILE} is not in {shared / 'models'}")
    for degrees in (0, 30, 180):
        picture, centre = turn(astronaut, degrees)
        hit = near(detect_faces(picture, store), centre, 30)[0]
        assert hit.points5.shape == (5, 2)
    first = detect_faces(astronaut, store)[0]
    assert first.points5[0, 0] < first.points5[1, 0] and first.points5[0, 1] < first.points5[3, 1]
    assert detect_faces(astronaut, Folder(tmp_path))[0].points5 is None
