"""Alignment: the FFHQ recipe, its inverse, and crops that no hole pixel bleeds into."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.faces import alignment as al

IDENTITY = np.array([[1.0, 0, 0], [0, 1.0, 0]])
JAW = [(60 + 68 * (1 - np.cos(t)), 123 + 110 * np.sin(t)) for t in np.linspace(0, np.pi, 17)]


def face_points() -> np.ndarray:
    """A plain upright face, [68, 2] crop px of a 256 px crop."""
    lm = np.zeros((68, 2))
    lm[:17] = JAW
    lm[17:22] = np.column_stack([np.linspace(71, 113, 5), [107, 101, 99, 100, 102]])
    lm[22:27] = np.column_stack([np.linspace(142, 184, 5), [102, 100, 99, 101, 107]])
    lm[27:31] = np.column_stack([np.full(4, 127.5), [119, 134, 148, 157]])
    lm[31:36] = np.column_stack([np.linspace(110, 145, 5), [166, 169, 170, 169, 166]])
    eye = np.array([(-13, 0), (-6, -4), (6, -4), (13, 0), (6, 4), (-6, 4)])
    lm[36:42], lm[42:48] = eye + (96, 121), eye + (159, 121)
    angles = np.pi + np.arange(12) * np.pi / 6
    lm[48:60] = np.column_stack([127.5 + 27.5 * np.cos(angles), 190 + 10 * np.sin(angles)])
    lm[60:68] = np.column_stack([127.5 + 24 * np.cos(np.pi + np.arange(8) * np.pi / 4), np.full(8, 190)])
    return lm


def similarity(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    a = np.radians(degrees)
    return np.column_stack([scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]), shift])


def test_index_table_is_ibug() -> None:
    assert len(al.MP468_TO_IBUG68) == len(set(al.MP468_TO_IBUG68)) == 68
    mesh = np.random.default_rng(0).random((3, 468, 2))
    assert np.array_equal(al.mp468_to_68(mesh)[:, 8], mesh[:, 152])


def test_aligned_photos_stay_where_they_are(shared) -> None:
    """The photos are FFHQ-aligned: the crop of their points is the identity, so the recipe needs no correction."""
    table = np.load(shared / "data" / "celeba_id256_landmarks_mp468.npz")
    points = al.mp468_to_68(table["lm"][::50].astype(float))
    matrices = np.stack([al.ffhq_crop_matrix(p) for p in points])
    assert np.abs(np.median([al.scale_of(m) for m in matrices]) - 1) < 0.01
    centres = np.stack([al.transform_points(m, np.array([127.5, 127.5])) for m in matrices])
    assert np.abs(centres - 127.5).max() < 3
    assert np.abs(np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))).max() < 1


def test_index_table_on_photos(shared) -> None:
    """Every part lies where iBUG has it, on the average face: order and sides."""
    table = np.load(shared / "data" / "celeba_id256_landmarks_mp468.npz")
    lm = al.mp468_to_68(table["lm"][::20].astype(float)).mean(0)
    assert (np.diff(lm[:17, 0]) > 0).all() and lm[:17, 1].argmax() == 8  # jaw: image left to right, chin lowest
    assert (np.diff(lm[17:27, 0]) > 0).all() and (lm[17:27, 1] < lm[36:48, 1].min()).all()
    assert lm[36, 0] < lm[39, 0] < lm[42, 0] < lm[45, 0]
    assert lm[37, 1] < lm[41, 1] and lm[43, 1] < lm[47, 1]
    assert (np.diff(lm[27:31, 1]) > 0).all() and (np.diff(lm[31:36, 0]) > 0).all()
    assert lm[48, 0] < lm[51, 0] < lm[54, 0] and lm[51, 1] < lm[62, 1] < lm[66, 1] < lm[57, 1]


@given(st.floats(0.2, 12), st.floats(-180, 180), st.floats(-500, 3000), st.floats(-500, 3000))
@settings(max_examples=50, deadline=None)
def test_crop_follows_the_face(scale: float, degrees: float, x: float, y: float) -> None:
    """Move, turn or enlarge the face: the crop moves along."""
    motion = similarity(scale, degrees, (x, y))
    base = al.ffhq_crop_matrix(face_points())
    moved = al.ffhq_crop_matrix(al.transform_points(motion, face_points()))
    assert np.allclose(moved, al.compose(motion, base), atol=1e-6 * max(abs(x), abs(y), 100))
    assert np.allclose(al.compose(al.invert(moved), moved), IDENTITY, atol=1e-9)
    arcface = al.invert(al.arcface_matrix(al.transform_points(motion, face_points())))
    eyes = al.transform_points(arcface, al.transform_points(motion, np.array([[96, 121], [159, 121]])))
    assert np.abs(eyes - al.ARCFACE_POINTS5[:2]).max() < 4


def test_degenerate_points() -> None:
    with pytest.raises(ValueError, match="coincide"):
        al.ffhq_crop_matrix(np.full((68, 2), 7.0))
    with pytest.raises(ValueError, match="coincide"):
        al.umeyama(np.zeros((5, 2)), al.ARCFACE_POINTS5)
    with pytest.raises(ValueError, match="empty box"):
        al.crop_from_box((0, 0, 0, 10))


def test_box_and_points_give_about_the_ffhq_crop() -> None:
    side = 256 / al.BOX_TO_CROP
    top = (0.5 + al.BOX_BELOW_CENTRE) * 256 - side / 2
    assert np.allclose(al.crop_from_box((128 - side / 2, top, side, side)), IDENTITY, atol=1e-6)
    assert np.allclose(al.crop_from_points5(al.FFHQ_POINTS5), IDENTITY, atol=1e-6)
    turned = al.crop_from_box((100, 100, 50, 50), 90)
    assert np.allclose(turned[:, :2] / al.scale_of(turned), [[0, -1], [1, 0]], atol=1e-9)


def test_identity_crop_is_exact() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    mask = np.zeros((256, 256), bool)
    mask[20:30, 40:90] = True
    crop, crop_mask, outside = al.warp_to_crop(rgb, mask, IDENTITY)
    assert np.array_equal(crop_mask, mask) and not outside.any()
    assert np.array_equal(crop, np.where(mask[..., None], 0, rgb))


@given(st.floats(0.3, 7), st.floats(-180, 180), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_no_hole_pixel_bleeds(scale: float, degrees: float, seed: int) -> None:
    """Noise in the hole changes nothing, known crop px are a mean of known ones, and those off the hole are exact."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (300, 280, 3), np.uint8)
    mask = rng.random((300, 280)) < 0.02
    matrix = similarity(scale, degrees, (140, 150))
    matrix[:, 2] -= matrix[:, :2] @ [64, 64]
    crop, crop_mask, outside = al.warp_to_crop(rgb, mask, matrix, 128)
    noisy = np.where(mask[..., None], rng.integers(0, 256, rgb.shape, np.uint8), rgb)
    again = al.warp_to_crop(noisy, mask, matrix, 128)
    assert np.array_equal(crop, again[0]) and np.array_equal(crop_mask, again[1])
    whole, _, _ = al.warp_to_crop(rgb, None, matrix, 128)
    share = al.warp_share(mask, matrix, 128)
    assert share.min() >= 0 and share.max() <= 1 + 1e-5
    near = cv2.dilate(np.pad(share, 2, constant_values=1), np.ones((5, 5)))[2:-2, 2:-2]
    exact = ~crop_mask & (near == 0)
    assert np.abs(crop[exact].astype(int) - whole[exact].astype(int)).max(initial=0) <= 1
    assert not crop[crop_mask].any() and not (outside & ~crop_mask).any()
    flat, _, _ = al.warp_to_crop(np.full_like(rgb, 200), mask, matrix, 128)
    assert np.abs(flat[~crop_mask].astype(int) - 200).max(initial=0) <= 1


def test_snapping_spares_a_resampling() -> None:
    """A face at the crop's scale is cut out as it is, and the crop stays inside the photo where that is close by."""
    near = similarity(1.04, 2.0, (-3.4, 5.2))
    snapped = al.snap_to_pixels(near, (256, 256))
    assert np.array_equal(snapped, [[1, 0, 0], [0, 1, 0]])
    inside = al.snap_to_pixels(near, (600, 600))
    middle = np.full(2, 127.5)
    moved = al.transform_points(inside, middle) - al.transform_points(near, middle)
    assert np.array_equal(inside[:, 2], np.rint(inside[:, 2])) and np.abs(moved).max() <= al.SNAP_SHIFT
    far = similarity(1.0, 0.0, (-90.0, 30.0))
    assert np.array_equal(al.snap_to_pixels(far, (600, 600))[:, 2], [-90, 30])
    for matrix in (similarity(1.3, 0.0, (9, 9)), similarity(1.0, 8.0, (9, 9)), similarity(2.0, 0.0, (9, 9))):
        assert np.array_equal(al.snap_to_pixels(matrix, (600, 600)), matrix)


def test_shrinking_is_antialiased() -> None:
    """One-pixel stripes become even grey, not moire."""
    rgb = np.zeros((1000, 1000, 3), np.uint8)
    rgb[:, ::2] = 200
    crop, _, _ = al.warp_to_crop(rgb, None, similarity(3.7, 0, (20, 20)))
    assert np.abs(crop.astype(int) - 100).max() <= 27


def test_beyond_the_photo() -> None:
    rgb = np.full((50, 50, 3), 9, np.uint8)
    crop, crop_mask, outside = al.warp_to_crop(rgb, None, similarity(1, 0, (-100, -100)))
    assert np.array_equal(crop_mask, outside) and (~outside).sum() == 2500 and (crop[~outside] == 9).all()
    assert al.warp_to_crop(rgb, None, similarity(1, 0, (900, 0)))[2].all()


def test_shrink_photo_never_reads_the_hole() -> None:
    rgb = np.full((400, 300, 3), 50, np.uint8)
    mask = np.zeros((400, 300), bool)
    mask[100:203, 50:101] = True
    rgb[mask] = 255
    small, hole, to_photo = al.shrink_photo(rgb, mask, 100)
    assert max(small.shape) <= 100 and hole.any() and al.scale_of(to_photo) == pytest.approx(4)
    assert set(np.unique(small[~hole])) <= {49, 50, 51}  # rounded once before the share is divided out
