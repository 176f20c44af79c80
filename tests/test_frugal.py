"""How often the costly things are done for one photo: counted, since seconds depend on the machine."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from idinpaint.faces import detection
from idinpaint.faces.search import FaceSearch
from idinpaint.loading.bundle import load_bundle
from idinpaint.models import weights

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from demo import draw_mask  # noqa: E402


def count(monkeypatch: pytest.MonkeyPatch, counts: Counter, owner: object, name: str) -> None:
    """counts[name]: the calls of owner.name."""
    before = getattr(owner, name)

    def counted(*args, **kwargs):
        counts[name] += 1
        return before(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


def test_the_demo_takes_few_passes(restorer, monkeypatch):
    """Four tries are one pass of each network that paints; the photo's faces are looked for once, by one detector."""
    counts: Counter = Counter()
    pipeline = restorer.bundle.pipeline
    count(monkeypatch, counts, FaceSearch, "locate")
    count(monkeypatch, counts, restorer.bundle.parser, "predict_batch")
    for name in ("unet", "refiner", "reference_encoder"):
        count(monkeypatch, counts, getattr(pipeline, name), "forward")
    count(monkeypatch, counts, pipeline.prior, "fill")
    photo = skimage.data.astronaut()
    mask = np.asarray(draw_mask((512, 512))) > 0
    detection._yunet.cache_clear()
    result = restorer(photo, mask)
    assert result.decision.strategy == "diffusion" and len(result.candidates[0]) == 4
    assert counts == {"locate": 1, "predict_batch": 9, "forward": 3, "fill": 1}
    assert detection._yunet.cache_info().misses == 1


def test_one_detector_for_pictures_of_all_sizes():
    """It finds what a new one of the picture's own size does, whatever it saw before."""
    path = weights.WeightStore().find(detection.YUNET_FILE)
    photo = skimage.data.astronaut()
    for size in ((512, 512), (320, 200), (512, 512), (97, 640)):
        picture = cv2.resize(photo, size)
        fresh = cv2.FaceDetectorYN.create(str(path), "", size, 0.6, 0.3, 200)
        rows = fresh.detect(np.ascontiguousarray(picture[..., ::-1]))[1]
        found = detection._search_yunet(picture, path)
        assert len(found) == (0 if rows is None else len(rows))
        assert all(np.array_equal(one[2].ravel(), row[4:14]) for one, row in zip(found, rows if found else []))


def test_a_weight_file_is_read_through_once_to_check_it_and_once_to_name_it(monkeypatch):
    seen: Counter = Counter()
    before = weights.sha256_of
    monkeypatch.setattr(weights, "sha256_of", lambda path: seen.update([path]) or before(path))
    load_bundle(painters=False)
    assert seen[weights.BUNDLED / "parsing.safetensors"] == seen[weights.BUNDLED / "damage.safetensors"] == 1
    assert max(seen.values()) == 2


def test_each_thread_has_a_detector_of_its_own():
    """OpenCV works without Python's lock, and a detector holds one picture at a time."""
    path = weights.WeightStore().find(detection.YUNET_FILE)
    pictures = [cv2.resize(skimage.data.astronaut(), (side, side)) for side in (160, 256, 384, 512)]
    alone = [detection._search_yunet(picture, path)[0][0] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: detection._search_yunet(picture, path)[0][0], pictures * 8))
    assert together == alone * 8
