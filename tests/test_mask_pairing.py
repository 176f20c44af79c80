"""Masks named NAME_mask beside the photos or in a folder of their own."""

from __future__ import annotations

import pytest
from PIL import Image

from idinpaint.cli.jobs import plan_folder, plan_single
from idinpaint.types import InputError


def pictures(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("L", (8, 8)).save(folder / name)
    return folder


def test_masks_beside_the_photos(tmp_path):
    folder = pictures(tmp_path / "in", "a.jpg", "a_mask.png", "b.png", "b_mask.png", "c.png")
    jobs, _ = plan_folder(folder, folder, tmp_path / "out", None, None)
    pairs = [(job.image.name, job.mask and job.mask.name) for job in jobs]
    assert pairs == [("a.jpg", "a_mask.png"), ("b.png", "b_mask.png"), ("c.png", None)]
    assert "c_mask.*" in jobs[2].error
    assert plan_single(folder / "a.jpg", folder, tmp_path / "o.png", None, None).mask == folder / "a_mask.png"


def test_masks_of_that_name_in_their_own_folder(tmp_path):
    photos = pictures(tmp_path / "in", "a.jpg", "b.jpg")
    masks = pictures(tmp_path / "masks", "a_mask.png", "b.png")
    jobs, _ = plan_folder(photos, masks, tmp_path / "out", None, None)
    assert [job.mask.name for job in jobs] == ["a_mask.png", "b.png"]
    pictures(masks, "b_mask.png")
    jobs, _ = plan_folder(photos, masks, tmp_path / "out", None, None)
    assert "several masks" in jobs[1].error


def test_one_folder_without_masks_is_refused(tmp_path):
    folder = pictures(tmp_path / "in", "a.jpg", "b.jpg")
    with pytest.raises(InputError, match="NAME_mask"):
        plan_folder(folder, folder, tmp_path / "out", None, None)
