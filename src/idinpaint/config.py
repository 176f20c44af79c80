"""Dataclasses <- YAML <- `--set key=value`. An unknown key is an error that names the nearest known one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from idinpaint.types import InputError

T = TypeVar("T")
MOST_BYTES = 256 * 1024  # of a config file; the largest here has 5 kB
LONGEST_WORDS = 120  # characters of a value that an error names


def load_config(cls: type[T], path: str | Path | None, overrides: Sequence[str] = ()) -> T:
    """Return an instance of the dataclass `cls` from a YAML file and `key=value` overrides, values in YAML syntax.

    Raises InputError for a missing or malformed file, an unknown key or a value of the wrong type.
    """
    values = {} if path is None else read_values(path)
    return build_config(cls, {**values, **parse_overrides(overrides)}, str(path or "--set"))


def read_values(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises InputError when it is missing, malformed or too large."""
    try:
        if not Path(path).is_file():
            raise InputError(f"{path}: cannot read the config (no such file); check the path")
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(f"{path}: a config is a small file, this one is larger than {MOST_BYTES // 1024} kB")
        loaded = parse_yaml(data.decode("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"{path}: cannot read the config ({reason}); check the path") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise InputError(f"{path}: a config is a list of `key: value` lines")
    return loaded or {}


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few hundred bytes of them stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken; write the value out")
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        value = super().construct_object(node, deep)
        if isinstance(value, int) and abs(value) > 2**63:
            raise yaml.YAMLError("a whole number of more than 64 bits")
        return value


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text. Raises InputError, a short line that names `source`, for whatever is wrong."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except RecursionError as error:
        raise InputError(f"{source}: not valid YAML (nested too deeply)") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # the last: impossible dates, numbers, keys
        raise InputError(f"{source}: not valid YAML ({_short(' '.join(str(error).split()))})") from error


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_WORDS else f"{text[:LONGEST_WORDS]} ..."


def show(value: Any) -> str:
    """A value as an error names it: its repr, cut to one short line."""
    try:
        return _short(repr(value))
    except (RecursionError, ValueError):  # nested too deeply, an integer of too many digits
        return f"a {type(value).__name__}"


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts, values in YAML syntax -> a dict, later ones winning. Raises InputError for another form."""
    values: dict[str, Any] = {}
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator:
            raise InputError(f"--set {item}: write it as key=value")
        values[key.strip()] = parse_yaml(text, f"--set {_short(item)}")
    return values


def build_config(cls: type[T], values: dict[str, Any], source: str) -> T:
    """An instance of the dataclass from keys and values that `source` gave; InputError as in load_config."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"{source}: a key is a word, not {show(key)}")
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; known keys: {', '.join(fields)}"
            raise InputError(f"{source}: unknown key `{_short(key)}`{hint}")
    checked = {key: _coerce(key, fields[key].type, value, source) for key, value in values.items()}
    missing = [
        name
        for name, field in fields.items()
        if name not in checked and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{source}: missing key `{missing[0]}`")
    return cls(**checked)


def _coerce(key: str, annotation: Any, value: Any, source: str) -> Any:
    """Check a value against the annotation of its field (a string, because of `from __future__`)."""
    name = str(annotation)
    if value is None and "None" in name:
        return None
    base = name.replace("| None", "").strip()
    if base == "float" and isinstance(value, str):  # YAML reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if base == "float" and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{source}: `{key}` wants float, got a number out of its range") from None
    if base == "str" and isinstance(value, bool):  # YAML reads a bare no or yes as a boolean
        return "yes" if value else "no"
    plain = {"int": int, "float": float, "str": str, "bool": bool}.get(base)
    if plain is not None:
        if type(value) is not plain:
            raise InputError(f"{source}: `{key}` wants {base}, got {show(value)}")
        return value
    if base.startswith("tuple"):
        if not isinstance(value, list | tuple):
            raise InputError(f"{source}: `{key}` wants a list, got {show(value)}")
        return _elements(key, base, value, source)
    if base == "dict" and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise InputError(f"{source}: `{key}` wants `name: value` lines, got {show(value)}")
    return value


def _elements(key: str, base: str, values: Any, source: str) -> tuple:
    """The elements of tuple[int, ...] or tuple[str, str] checked one by one; how many there are, the class knows."""
    kinds = [kind.strip() for kind in base.removeprefix("tuple").strip("[]").split(",") if kind.strip(" .")]
    if not kinds:
        return tuple(values)
    return tuple(_coerce(key, kinds[min(i, len(kinds) - 1)], value, source) for i, value in enumerate(values))
