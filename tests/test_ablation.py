"""The ablation of the diffusion recipe: what each variant lacks, in which order they come, and the table."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "training"), str(REPO / "eval")]

import ablate  # noqa: E402
import ablate_diffusion  # noqa: E402
import conditioning  # noqa: E402
from cases import BenchmarkConfig  # noqa: E402
from recipes import load_phases  # noqa: E402
from sampling import Draw  # noqa: E402
from train_diffusion import DiffusionConfig, draw_batch  # noqa: E402

from idinpaint.types import InputError  # noqa: E402

GRID = ablate_diffusion.read_grid(ablate.GRID)


class Pool:
    """Examples of constant numbers, as ExamplePool gives them."""

    def batch(self, generators, step, total):
        n = len(generators)
        shapes = {"residual": (16, 32, 32), "channels": (36, 32, 32), "touched": (1, 32, 32), "id_embed": (128,)}
        shapes |= {"image": (3, 256, 256), "mask": (1, 256, 256)}
        made = {name: torch.ones(n, *shape) for name, shape in shapes.items()}
        return made | {"points": torch.full((n, 68, 2), 128.0)}


def test_each_variant_lacks_what_its_name_says():
    base = load_phases(DiffusionConfig, ablate.GRID)[0].config
    assert min(base.skin_weight, base.heatmap_weight, base.identity_weight) > 0 and base.drop_identity < 1
    lacking = {}
    for name, changes in GRID.items():
        config = replace(base, **changes)
        batch = draw_batch(config, Pool(), Draw(1, 0, 0, 8, 8))
        maps, weights = batch["maps"][:, 36:], ("skin_weight", "heatmap_weight", "identity_weight")
        lacking[name] = [not maps.any(), not batch["id_embed"].any(), *(getattr(config, w) == 0 for w in weights)]
    assert lacking.pop("all") == [False] * 5
    assert [np.flatnonzero(row).tolist() for row in lacking.values()] == [[0], [1], [2], [3], [4]]


def test_all_variants_come_before_further_seeds():
    names = list(GRID)
    runs = list(ablate_diffusion.order(names, [1, 2]))
    assert runs[:7] == [(name, 1) for name in names] + [("all", 2)]
    assert len(runs) == len(set(runs)) == 2 * len(names)


def test_silent_heatmaps_do_nothing(tmp_path):
    path = tmp_path / "unet.safetensors"
    save_file({"conv_in.weight": torch.ones(4, 120, 3, 3), "other": torch.ones(2)}, path)
    ablate_diffusion.silence_heatmaps(path)
    state = load_file(path)
    assert (
        state["conv_in.weight"][:, :-68].all() and not state["conv_in.weight"][:, -68:].any() and state["other"].all()
    )


def test_table_has_a_line_a_variant_and_bin(tmp_path):
    def summary(name: str, mean: float) -> Path:
        lines = [f"{b},diffusion,{m},2,2,{mean},0.1,0.5,,,," for b in ("10-20", "all") for m in ablate.SHOWN_TRAINED]
        (tmp_path / name).mkdir()
        head = "bin,method,metric,images,people,mean,low,high,against_telea,against_value,against_low,against_high"
        (tmp_path / name / "summary.csv").write_text("\n".join([head, *lines, ""]))
        return tmp_path / name

    runs = {"all": [summary("a", 0.2), summary("b", 0.4)], "no-identity": [summary("c", 0.3)]}
    lines = ablate.table("trained", runs)
    assert len(lines) == 2 + 2 * 2 and lines[0].startswith("| trained | hole | LPIPS-alex | PSNR hole (dB) |")
    assert lines[2].startswith("| all (2 seeds) | 10-20 | 0.3000 ± 0.1000 |")
    assert lines[-1].startswith("| no-identity | all | 0.3000 [0.1000, 0.5000] |")


def test_nothing_trained_is_one_line(tmp_path):
    (tmp_path / "all-1" / "pipeline").mkdir(parents=True)
    with pytest.raises(InputError, match="ablate_diffusion"):
        ablate.trained(tmp_path)
    for name in ("no-identity-2", "all-1", "all-2", "other-1"):
        (tmp_path / name / "pipeline").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "pipeline" / "model_index.json").touch()
    names = ("all-1", "all-2", "no-identity-2")
    assert ablate.trained(tmp_path) == [f"{name}={tmp_path / name / 'pipeline'}" for name in names]
    guided = [
        ablate.config_for(BenchmarkConfig(), "diffusion", "trained", text).guidance for text in ablate.trained(tmp_path)
    ]
    assert guided == [None, None, 0.0]


def test_arms_and_table_of_the_reference_trial():
    own, strange = [Path(f"own{i}") for i in range(5)], [Path(f"strange{i}") for i in range(5)]
    arms = conditioning.arms_of(own, strange, (1, 3))
    assert arms["none"] == () and arms["right 1"] == own[:1] and arms["wrong 3"] == strange[:3]
    scores = dict(zip(arms, (0.50, 0.55, 0.60, 0.50, 0.45), strict=True))
    rows = [
        {"arm": arm, "person": person, "taken_from": "x" if "right" in arm else "", "verdict": "verified"}
        | dict.fromkeys(conditioning.SCORES, value)
        for person in ("a", "b")
        for arm, value in scores.items()
    ]
    text = conditioning.table(rows, 50)
    assert "| right 3 - wrong 3 | +0.100 [+0.100, +0.100]" in text and "| right 3 - none | +0.100" in text
    assert "| right 3 - wrong, unchecked, 3 | +0.150" in text and "| 100 % | 100 % |" in text
    assert "| wrong 3 - none | +0.000" in text and "no pixels" not in text


def test_references_without_their_pixels_are_compared_with_each_other():
    arms = conditioning.arms_of([Path("own")], [Path("strange")], (1,), tokens=True)
    assert arms["right 1, no pixels"] == arms["right 1"] and arms["wrong 1, no pixels"] == [Path("strange")]
    pairs = conditioning.differences_of(list(arms))
    assert ("right 1, no pixels", "wrong 1, no pixels") in pairs and ("right 1", "wrong, unchecked, 1") in pairs
    assert all(name in arms for pair in pairs for name in pair)
