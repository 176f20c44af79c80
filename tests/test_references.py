"""Reference photos: quality, outliers, fusion, cache; on real faces where faces matter, on vectors elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.faces.quality import FaceQuality
from idinpaint.faces.references import Reference, combine, fuse
from idinpaint.judging import witnesses as held
from idinpaint.painting.base import FillRequest
from idinpaint.painting.painter import one_photo_each


def reference(embed, name="a.jpg", weight=1.0, remarks=()) -> Reference:
    vector = np.asarray(embed, np.float64)
    quality = FaceQuality(40, 0.5, 0.0, 0.9, weight, remarks)
    return Reference(name, vector / np.linalg.norm(vector), np.zeros((112, 112, 3), np.uint8), quality)


def person(seed: int, count: int, spread: float = 0.014) -> list[np.ndarray]:
    """Vectors of `count` photos of one person, 512-d: cosines near 0.9 among each other, near 0 to another person."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=512)
    centre /= np.linalg.norm(centre)
    return [centre + rng.normal(size=512) * spread for _ in range(count)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_a_stranger_among_the_photos_is_left_out_and_named(seed, count):
    items = [reference(v, f"{i}.jpg") for i, v in enumerate(person(seed, count))]
    items.insert(seed % (count + 1), reference(person(seed + 5000, 1)[0], "stranger.jpg"))
    found = combine(items, 0.35)
    assert [item.name for item in found.items if not item.used] == ["stranger.jpg"]
    (notice,) = found.notices
    assert "stranger.jpg" in notice and "another person" in notice
    assert np.linalg.norm(found.mean) == pytest.approx(1) and len(found.embeds) == count


def test_two_photos_of_two_people_are_decided_by_the_visible_part():
    one, other = person(1, 2), person(2, 1)
    items = [reference(one[0], "one.jpg"), reference(other[0], "other.jpg")]
    found = combine(items, 0.35, visible=one[1])
    assert [item.name for item in found.used] == ["one.jpg"] and "other.jpg" in found.notices[0]
    undecided = combine(items, 0.35)
    assert len(undecided.used) == 2 and "different persons" in undecided.notices[0]


def test_no_photo_and_one_photo():
    empty = combine([], 0.35)
    assert not empty and empty.mean is None and empty.items == []
    single = combine([reference([1, 0, 0])], 0.35)
    assert single and single.notices == [] and single.items[0].likeness is None


def test_better_photos_count_for_more():
    near, far = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    mean = fuse([reference(near, weight=1.0), reference(far, weight=0.25)])
    assert mean[0] / mean[1] == pytest.approx(4)
    found = combine([reference(near, remarks=("blurred",), weight=0.2)], 0.35)
    assert "blurred" in found.notices[0]


def test_photos_are_compared_by_the_verifying_encoder_and_fused_by_the_conditioning_one():
    alike = [reference(v, name) for v, name in zip(person(1, 3), ("one", "two", "stranger"))]
    voices = [*person(2, 2), *person(3, 1)]  # by the judge the third is somebody else
    found = combine([replace(item, judged=voice) for item, voice in zip(alike, voices)], 0.35)
    assert [item.name for item in found.used] == ["one", "two"] and "stranger" in found.notices[0]
    assert np.allclose(found.mean, fuse(alike[:2]))


@given(st.integers(1, 9), st.integers(0, 3))
def test_each_candidate_is_painted_after_one_photo_and_keeps_its_seed(samples, photos):
    shown = [reference(v, f"{i}.jpg") for i, v in enumerate(person(0, 3)[:photos])]
    turns = one_photo_each(FillRequest(None, None, samples, None, 40, shown))
    seeds = [turn.seed + i for turn in turns for i in range(turn.num_samples)]
    assert seeds == list(range(40, 40 + samples))
    if photos:
        names = [turn.references[0].name for turn in turns]
        assert names == [item.name for item in shown][: len(turns)] and len(turns) == min(samples, photos)
        assert all(len(turn.references) == 1 for turn in turns)
        assert max(t.num_samples for t in turns) - min(t.num_samples for t in turns) <= 1


def test_copies_of_one_photo_are_no_witness_and_one_more_candidate_is_painted(restorer):
    photo, hole = skimage.data.astronaut(), np.zeros((512, 512), bool)
    hole[85:120, 180:225] = True
    damaged = np.where(hole[..., None], 0, photo).astype(np.uint8)
    darker = (photo * 0.9).astype(np.uint8)
    result = restorer(damaged, hole, references=[photo, darker], strategy="diffusion", num_samples=2, force=True)
    made = result.candidates[0]
    assert [len(c.shown) for c in made[:2]] == [1, 1] and made[0].shown != made[1].shown
    assert len(made) == 3 and made[2].shown == (), "what both photos can be held against"
    said = result.report["faces"][0]["verification"]["text"]
    assert "painted without the photo" in said


def test_what_was_held_against_what_is_said():
    used = [reference(v, f"{i}.jpg") for i, v in enumerate(person(0, 3))]
    assert held.testimony((), [0, 1, 2], used, False) == ""
    assert held.testimony(("0.jpg",), [1, 2], used, False) == "; by 2 of 3 photos, the other was shown to the network"
    assert held.testimony(("0.jpg",), [2], used, False).endswith(
        "the others were shown to the network or are copies of what was"
    )
    assert "painted without" in held.testimony(("0.jpg",), [], used, True)
    copied = [used[0], replace(used[0], name="1.jpg"), reference(person(9, 1)[0], "2.jpg")]
    assert held.witnesses(("0.jpg",), copied) == [2], "a copy of what was shown is no witness"
