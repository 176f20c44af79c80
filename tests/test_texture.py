"""Wide holes: the background goes on, hidden hair is the other half's, heads are not copied."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.faces.mirror import CLOTH, HAIR, labels_by_half, looks_ahead
from idinpaint.imaging.telea import coarse_fill
from idinpaint.imaging.texture import continued
from idinpaint.judging.believability import TORN_HAIR, hidden_hair
from idinpaint.painting.other_half import with_other_hair
from idinpaint.painting.surroundings import Backdrop, continue_background, wide_background

CORNER = np.array([(240, 0), (511, 0), (511, 150), (250, 110)])  # torn through hair and background


def corner_hole() -> np.ndarray:
    return cv2.fillPoly(np.zeros((512, 512), np.uint8), [CORNER], 1).astype(bool)


def stripes(side: int, period: float) -> np.ndarray:
    ys, xs = np.mgrid[:side, :side]
    wave = 128 + 70 * np.sin(2 * np.pi * (xs + 0.5 * ys) / period)
    return np.stack([wave, 0.8 * wave, 0.6 * wave], -1).round().astype(np.uint8)


def error(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(a[where].astype(float) - b[where]).mean())


@pytest.mark.parametrize("side, period", [(160, 11.0), (600, 37.0)])  # the second is filled on a reduced photo
def test_stripes_go_on(side, period, monkeypatch):
    monkeypatch.setattr("idinpaint.imaging.texture.LARGEST", 4000)
    picture, hole = stripes(side, period), np.zeros((side, side), bool)
    hole[side // 3 : side * 3 // 5, side // 3 : side * 3 // 5] = True
    seen = np.where(hole[..., None], 0, picture).astype(np.uint8)
    result = continued(seen, hole, ~hole)
    assert np.array_equal(result[~hole], picture[~hole]) and np.array_equal(result, continued(seen, hole, ~hole))
    assert error(result, picture, hole) < 0.5 * error(coarse_fill(seen, hole), picture, hole)


def test_only_sources_are_read_and_without_any_nothing_happens():
    picture, hole, other = stripes(96, 9.0), np.zeros((96, 96), bool), np.zeros((96, 96), bool)
    hole[30:60, 30:60], other[10:30, 60:90] = True, True
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    changed = np.where((hole | other)[..., None], noise, picture)
    first, second = (continued(p, hole, ~hole & ~other) for p in (picture, changed))
    assert np.array_equal(first[hole], second[hole])
    assert np.array_equal(continued(picture, hole, np.zeros_like(hole)), picture)


def test_torn_hair_is_the_other_halfs(restorer):
    photo, hole = skimage.data.astronaut(), corner_hole()
    known = np.where(hole[..., None], 0, photo).astype(np.uint8)
    face = restorer.analyzer.analyze(known, hole)[0]
    truth = restorer.analyzer.analyze(photo, None)[0]
    hair = face.crop_mask & (face.labels == HAIR)
    assert (truth.labels == HAIR)[hair].mean() > 0.9 and (face.labels == HAIR)[face.crop_mask].mean() > 0.1
    flat = coarse_fill(face.crop, face.crop_mask)
    dressed = with_other_hair(flat, face)
    assert np.array_equal(dressed[~face.crop_mask], face.crop[~face.crop_mask])
    edges = [cv2.Laplacian(x[..., 1].astype(np.float32), cv2.CV_32F)[hair].std() for x in (flat, dressed, truth.crop)]
    assert edges[1] > 0.5 * edges[2] > edges[0], "hair, not a smear"
    turned = face.landmarks.copy()
    turned[30] = turned[36]
    aside = replace(face, landmarks=turned)
    assert looks_ahead(face.landmarks) and not looks_ahead(turned)
    assert with_other_hair(flat, aside) is flat
    assert labels_by_half(face.crop, face.crop_mask, turned, face.labels) is face.labels
    assert with_other_hair(flat, replace(face, labels=None)) is flat


@pytest.mark.parametrize("flip", [False, True])
def test_hair_torn_off_on_either_side_is_known_as_hair(restorer, flip):
    photo = skimage.data.astronaut()[:300, 80:380]
    photo = np.ascontiguousarray(photo[:, ::-1]) if flip else photo
    hole = cv2.fillPoly(np.zeros((300, 300), np.uint8), [np.array([(0, 0), (170, 0), (0, 190)])], 1).astype(bool)
    face = restorer.analyzer.analyze(np.where(hole[..., None], 0, photo).astype(np.uint8), hole)[0]
    assert hidden_hair(face) > 4 * TORN_HAIR
    said = face.labels.copy()  # a parser that takes the hidden hair for a hat is put right by the visible half
    said[face.crop_mask & (said == HAIR)] = CLOTH
    again = labels_by_half(face.crop, face.crop_mask, face.landmarks, said)
    assert (again == HAIR)[face.crop_mask].sum() > 0.8 * (face.labels == HAIR)[face.crop_mask].sum()


def test_the_background_behind_a_torn_corner_goes_on(restorer):
    photo, hole = skimage.data.astronaut(), corner_hole()
    known = np.where(hole[..., None], 0, photo).astype(np.uint8)
    faces = restorer.analyzer.analyze(known, hole)
    part, people = wide_background(hole, faces)
    assert part.sum() > 20_000 and not (part & (people | ~hole)).any()
    backdrop = continue_background(known, hole, faces, restorer.analyzer, 0)
    assert np.array_equal(backdrop.part, part) and np.array_equal(backdrop.picture[~hole], photo[~hole])
    wall = part & (np.mgrid[:512, :512][1] < 370)  # right of it stands a rocket that nobody can know of
    assert error(backdrop.picture, photo, wall) < 0.85 * error(coarse_fill(known, hole), photo, wall)
    result = restorer(photo, hole, num_samples=1, grain="none")
    assert np.array_equal(result.image[~hole], photo[~hole])
    inside = cv2.erode(part.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    assert np.array_equal(result.image[inside], backdrop.picture[inside]), "no network paints over it"


def test_a_face_is_no_background_whatever_the_parser_sees(restorer):
    photo, hole = skimage.data.astronaut(), np.zeros((512, 512), bool)
    hole[110:165, 195:255] = True
    face = restorer.analyzer.analyze(np.where(hole[..., None], 0, photo).astype(np.uint8), hole)[0]
    unseen = replace(face, labels=np.zeros((256, 256), np.uint8))
    part, people = wide_background(hole, [unseen])
    assert people[115:155, 205:245].all() and not part.any()


def test_strokes_and_strategy_telea_stay_as_they_are(restorer):
    photo, hole = skimage.data.astronaut(), np.zeros((512, 512), bool)
    hole[300:306, 20:400] = True
    assert not wide_background(hole, [])[0].any()
    known = np.where(corner_hole()[..., None], 0, photo).astype(np.uint8)
    plain = continue_background(known, corner_hole(), [], None, 0)
    assert not plain.part.any() and np.array_equal(plain.picture, coarse_fill(known, corner_hole()))
    face = restorer.analyzer.analyze(photo, None)[0]
    assert Backdrop(photo, np.zeros_like(hole)).behind(face.crop, face) is face.crop
