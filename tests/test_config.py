"""The config loader: types, overrides, unknown keys."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import pytest

from idinpaint.config import load_config
from idinpaint.judging.controller import load_controller
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


BOMB = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(9))
HOSTILE = {
    "aliases": (BOMB, "aliases"),
    "not UTF-8": (b"low: \xff\xfe", "not text"),
    "a key that is no word": ("1: 2", "a key is a word"),
    "weights that are no mapping": ("weights: 5", "name: value"),
    "weights of numbers": ("weights: {1: 2}", "name: value"),
    "deep": ("low: " + "[" * 5000, "nested too deeply|not valid YAML"),
    "deep and closed": ("low: " + "[" * 900 + "]" * 900, "nested too deeply|wants float"),
    "a huge integer": ("low: " + "9" * 5000, "not valid YAML"),
    "a huge hexadecimal": ("weights: {nose: 0x" + "f" * 5000 + "}", "64 bits"),
    "a large number": ("low: 1" + "0" * 400, "64 bits"),
    "an impossible date": ("low: 2020-99-99", "not valid YAML"),
    "a list for a key": ("? [1, 2]\n: 3", "not valid YAML|a key is a word"),
    "a long value": ("low: " + "x" * 200_000, "wants float"),
    "a long key": ("x" * 900 + ": 1", "unknown key"),
    "wrong elements": ("up_to_low: [gan, 5]", "wants str"),
    "without end": ("low: 1 #" + "x" * 300_000, "larger than 256 kB"),
    "a python object": ("low: !!python/object/apply:os.getcwd []", "not valid YAML"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_controller_is_one_short_line(tmp_path, kind):
    text, said = HOSTILE[kind]
    path = tmp_path / "ladder.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        load_controller(path)
    message = str(caught.value)
    assert any(part in message for part in said.split("|")), message
    assert str(path) in message and "\n" not in message and len(message) < 600
    assert time.monotonic() - start < 10


def test_a_pipe_is_no_controller(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot read the config"):
        load_config(Recipe, tmp_path / "pipe")


@pytest.mark.parametrize("override", ["widths=[1, x]", "widths=5", "widths=[1", "steps=0x" + "f" * 4000])
def test_elements_and_values_of_overrides_are_checked(override):
    with pytest.raises(InputError) as caught:
        load_config(Recipe, None, [override])
    assert len(str(caught.value)) < 500
