"""The refiner's bank and its training, on a tiny pack; the network itself is in test_pipeline.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_painters import random_teachers, tiny_pack

from idinpaint.types import InputError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a pack, teachers, the bundled weights and a bank of 8 training and 4 held-out photos."""
    import import_bundle
    import refine_bank

    folder = tmp_path_factory.mktemp("refiner")
    random_teachers(folder / "teachers")
    pack, bundle = tiny_pack(folder), folder / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["import_bundle", "--output", str(bundle)])
        import_bundle.main()
    for split, photos in (("train", "8"), ("val", "4")):
        given = ["--data", str(pack), "--init", str(bundle), "--output", str(folder / "bank")]
        refine_bank.main([*given, "--photos", photos, "--split", split])
    return folder


def test_the_bank_keeps_known_pixels_and_is_what_inference_paints(runs):
    from refine_bank import read_bank

    (shard,) = read_bank(runs / "bank", "train", set())
    assert shard.image.shape == shard.painted.shape == (8, 256, 256, 3) and shard.mask.any((1, 2)).all()
    for picture in (shard.painted, shard.prior):
        np.testing.assert_array_equal(picture[~shard.mask], shard.image[~shard.mask])
        assert (picture[shard.mask] != shard.image[shard.mask]).any()


def test_windows_lie_on_whole_cells_and_right_eyes_are_mirrored(runs):
    from refine_windows import KINDS, Bank

    bank = Bank(runs / "bank", "train", 96)
    assert bank.take_up() == 8 and all(len(rows) for rows in bank.places[-1:])
    for kind, name in enumerate(KINDS):
        if not len(bank.places[kind]):
            continue
        w = bank.windows(kind, [0], None)
        assert w.image.shape == (1, 3, 96, 144 if name == "eyes" else 96)
        assert w.maps.shape == (1, 68, 12, w.image.shape[-1] // 8) and w.mask.any()
        known = (w.mask == 0).expand_as(w.image)
        assert torch.equal(w.painted[known], w.image[known])
        if name in ("nose", "mouth"):  # the maps' landmarks lie where the feature does: in the window's middle
            point = {"nose": 30, "mouth": 62}[name]
            row, column = divmod(int(w.maps[0, point].flatten().argmax()), w.maps.shape[-1])
            assert 1 <= row <= 10 and 1 <= column <= 10
    with pytest.raises(InputError, match="no shard val"):
        Bank(runs / "teachers", "val", 96)


def test_it_trains_and_is_exported_with_the_painters(runs, capsys):
    import train_refiner
    from export_painters import make_pipeline

    output = runs / "run"
    config = train_refiner.RefinerConfig(
        bank=str(runs / "bank"), teachers=str(runs / "teachers"), output_dir=str(output), max_train_minutes=0.15,
        windows=(1, 1, 1, 1, 1), log_steps=1, warmup_steps=1,
    )  # fmt: skip
    train_refiner.main(config)
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["norm"]) for row in rows if "norm" in row) and any("norm" in row for row in rows)
    refiner = make_pipeline([output, runs / "bundle"]).refiner
    written = load_file(output / "refiner.safetensors")
    assert torch.equal(refiner.state_dict()["out.weight"], written["out.weight"]) and written["out.weight"].any()
    assert (output / "refiner.png").stat().st_size > 1000 and (output / "critics.safetensors").is_file()
