"""No face is lost: found, or its part of the hole is left marked and the reason names where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.faces.analyzer import face_boxes
from idinpaint.faces.possible import look_for_faces, place, places

SIDE = 192


def pair(height: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two copies of the portrait's face side by side, the left one scratched, the right one without its eyes."""
    face = cv2.resize(skimage.data.astronaut()[:256, 90:346], (side, side), interpolation=cv2.INTER_AREA)
    both = np.full((side + 20, 2 * side + 40, 3), (90, 100, 90), np.uint8)
    both[10 : 10 + side, 10 : 10 + side] = both[10 : 10 + side, side + 30 : 2 * side + 30] = face
    hole, k = np.zeros(both.shape[:2], np.uint8), side / 256
    ends = [(int(10 + k * x), int(10 + k * y)) for x, y in ((140, 160), (170, 175))]
    cv2.line(hole, *ends, 1, max(2, int(3 * k)))
    hole[int(10 + k * (101 - height / 2)) : int(10 + k * (101 + height / 2)), side + 30 : 2 * side + 30] = 1
    return both, hole.astype(bool)


@pytest.mark.parametrize("side", [96, 128, 192, 256])
@pytest.mark.parametrize("height", [10, 14, 18, 24])
def test_both_of_two_faces_are_found(restorer, height, side):
    photo, hole = pair(height, side)
    photo[hole] = 0
    middles = sorted(f.box[0] + f.box[2] / 2 for f in restorer.analyzer.analyze(photo, hole))
    assert len(middles) == 2 and middles[0] < side + 20 < middles[1]


def covered() -> tuple[np.ndarray, np.ndarray]:
    """The pair with the right head covered whole, and a scratch on the left one."""
    photo, _ = pair(10, SIDE)
    hole = np.zeros(photo.shape[:2], np.uint8)
    cv2.ellipse(hole, (SIDE + 30 + 100, 85), (50, 65), 0, 0, 360, 1, -1)
    cv2.line(hole, (100, 120), (130, 130), 1, 4)
    return photo, hole.astype(bool)


def test_a_second_person_covered_whole_is_left_marked(restorer):
    photo, hole = covered()
    result = restorer(photo, hole, num_samples=1, steps=1)
    right = hole & (np.arange(photo.shape[1]) > SIDE + 20)
    assert result.abstained and "right" in result.report["possible_faces"][0]["place"]
    assert result.decision.rule == "possible-face" and "--face-box" in result.decision.reason
    assert set(np.unique(result.image[right])) <= {88, 128}
    assert np.array_equal(result.image[~hole], photo[~hole])
    left = hole & ~right
    assert not (set(np.unique(result.image[left])) <= {88, 128}), "the face that was found is restored all the same"


def test_the_user_may_say_that_it_is_background(restorer):
    photo, hole = covered()
    result = restorer(photo, hole, strategy="telea")
    assert not result.abstained and result.report["possible_faces"] == []


def test_face_boxes_add_to_what_is_found(restorer):
    photo, hole = covered()
    known = np.where(hole[..., None], 0, photo).astype(np.uint8)
    assert len(restorer.analyzer.analyze(known, hole)) == 1
    box = (SIDE + 30 + 65, 40, 75, 85)
    assert len(restorer.analyzer.analyze(known, hole, box)) == 2
    assert len(restorer.analyzer.analyze(known, hole, [box, (62, 45, 72, 80)])) == 2, "a box takes a detection's place"
    assert face_boxes(None) == [] and face_boxes((1, 2, 3, 4)) == [(1, 2, 3, 4)]


def test_a_scratch_on_a_wall_is_no_face(restorer):
    photo = skimage.data.astronaut()
    wall = np.repeat(skimage.data.brick()[..., None], 3, 2)
    both, hole = np.concatenate([photo, wall], 1), np.zeros((512, 1024), np.uint8)
    cv2.line(hole, (600, 100), (900, 400), 1, 9)
    both = np.where(hole[..., None] > 0, 0, both).astype(np.uint8)
    assert not look_for_faces(both, hole > 0, [], restorer.analyzer).marked.any()


def test_places_in_words():
    area = np.zeros((90, 300), bool)
    area[5:20, 10:30] = area[70:80, 250:290] = True
    assert [p["place"] for p in places(area)] == ["upper left", "lower right"]
    assert places(area)[0]["box"] == [10, 5, 20, 15] and place(150, 45, (90, 300)) == "middle"
