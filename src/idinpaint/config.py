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


def load_config(cls: type[T], path: str | Path | None, overrides: Sequence[str] = ()) -> T:
    """Return an instance of the dataclass `cls` from a YAML file and `key=value` overrides, values in YAML syntax.

    Raises InputError for a missing or malformed file, an unknown key or a value of the wrong type.
    """
    values = {} if path is None else read_values(path)
    return build_config(cls, {**values, **parse_overrides(overrides)}, str(path or "--set"))


def read_values(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file. Raises InputError when it is missing or malformed."""
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"{path}: cannot read the config ({reason}); check the path") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise InputError(f"{path}: a config is a list of `key: value` lines")
    return loaded or {}


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts, values in YAML syntax -> a dict, later ones winning. Raises InputError for another form."""
    values: dict[str, Any] = {}
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator:
            raise InputError(f"--set {item}: write it as key=value")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {item}: not a YAML value ({' '.join(str(error).split())})") from error
    return values


def build_config(cls: type[T], values: dict[str, Any], source: str) -> T:
    """An instance of the dataclass from keys and values that `source` gave; InputError as in load_config."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else f"; known keys: {', '.join(fields)}"
            raise InputError(f"{source}: unknown key `{key}`{hint}")
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
        return float(value)
    if base == "str" and isinstance(value, bool):  # YAML reads a bare no or yes as a boolean
        return "yes" if value else "no"
    plain = {"int": int, "float": float, "str": str, "bool": bool}.get(base)
    if plain is not None:
        if type(value) is not plain:
            raise InputError(f"{source}: `{key}` wants {base}, got {value!r}")
        return value
    if base.startswith("tuple"):
        if not isinstance(value, list | tuple):
            raise InputError(f"{source}: `{key}` wants a list, got {value!r}")
        return tuple(value)
    return value
