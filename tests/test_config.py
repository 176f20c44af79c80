"""The config loader: types, overrides, unknown keys."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from idinpaint.config import load_config
from idinpaint.types import InputError


@dataclass
class Recipe:
    learning_rate: float = 1e-3
    steps: int = 10
    name: str | None = None
    widths: tuple[int, ...] = (1, 2)


def test_yaml_and_overrides(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("# a comment\nlearning_rate: 1e-4\nwidths: [4, 8]\n")
    recipe = load_config(Recipe, path, ["steps=3", "name=x"])
    assert recipe == Recipe(1e-4, 3, "x", (4, 8))


@pytest.mark.parametrize(
    ("override", "said"),
    [("learning_rat=1", "learning_rate"), ("steps=many", "wants int"), ("steps", "key=value"), ("zzz=1", "known keys")],
)
def test_errors_name_the_way_out(override, said):
    with pytest.raises(InputError, match=said):
        load_config(Recipe, None, [override])


def test_missing_file_and_bad_yaml(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        load_config(Recipe, tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1\n")
    with pytest.raises(InputError, match="not valid YAML"):
        load_config(Recipe, bad)
