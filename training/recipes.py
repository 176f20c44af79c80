"""A recipe file -> the settings of its phases. Each phase says what it starts from: scratch, a file, or another phase.

    output_dir: runs/prior          # a phase works in runs/prior/NAME
    seed: 1                         # what is written here holds for every phase
    phases:
      - {name: small, init: scratch, resolution: 128, ...}
      - {name: large, init: {phase: small}, ...}        # its result, by the sha256 that it noted in result.json
      - {name: more, init: {file: F.safetensors, sha256: ...}, ...}

A recipe's only phase needs no name and works in output_dir itself; so does a file without `phases`, such as the
config.yaml of a run folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from checkpoints import written
from loop_config import LoopConfig
from places import find_file

from idinpaint.config import build_config, parse_overrides, read_values
from idinpaint.models.weights import sha256_of
from idinpaint.types import InputError

RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase as it will run; name is empty in a recipe without phases. init: as the recipe wrote it."""

    name: str
    config: Any
    init: Any = None

    @property
    def done(self) -> bool:
        """Whether it has run to its end."""
        return bool(self.name) and (Path(self.config.output_dir) / RESULT).is_file()


def load_phases(config_class: type, path: str | Path, overrides: Sequence[str] = ()) -> list[Phase]:
    """Every phase of a recipe, `key=value` overrides holding for each. Raises InputError for one that will not do."""
    common, given = read_values(path), parse_overrides(overrides)
    listed = common.pop("phases", None)
    if listed is None:
        return [Phase("", build_config(config_class, {**common, **given}, str(path)))]
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed) or not listed:
        raise InputError(f"{path}: `phases` wants a list of phases, each with a name, init and its settings")
    phases: list[Phase] = []
    for entry in listed:
        values = dict(entry)
        name, init = str(values.pop("name", "")), values.pop("init", None)
        source = f"{path}, phase {name or len(phases) + 1}"
        if name in {phase.name for phase in phases} or (not name and len(listed) > 1):
            raise InputError(f"{source}: each phase wants a name of its own")
        config = build_config(config_class, {**common, **values, **given}, source)
        config.output_dir = str(Path(config.output_dir) / name)
        if "init_from" not in given:
            _start(config, init, {phase.name: phase for phase in phases}, source)
        phases.append(Phase(name, config, init))
    return phases


def _start(config: LoopConfig, init: Any, earlier: dict[str, Phase], source: str) -> None:
    """Set init_from and init_sha256 by what the phase says under `init`."""
    if init == "scratch":
        config.init_from = config.init_sha256 = None
    elif isinstance(init, dict) and set(init) == {"file", "sha256"}:
        config.init_from, config.init_sha256 = str(init["file"]), str(init["sha256"])
    elif isinstance(init, dict) and set(init) == {"phase"} and str(init["phase"]) in earlier:
        config.init_from = str(Path(earlier[str(init["phase"])].config.output_dir) / config.result_file())
    else:
        raise InputError(f"{source}: `init` wants scratch, {{file, sha256}} or {{phase: an earlier one}}, not {init!r}")


def check_start(phase: Phase) -> None:
    """Find the initial weights. Raises InputError unless they are there and are those that the recipe means."""
    config = phase.config
    if not config.init_from:
        return
    if isinstance(phase.init, dict) and "phase" in phase.init and not Path(config.init_from).is_file():
        raise InputError(f"{config.init_from}: not there; phase {phase.init['phase']} comes before {phase.name}")
    path, wanted = find_file("init_from", config.init_from), config.init_sha256
    config.init_from = str(path)
    noted = path.parent / RESULT
    if wanted is None and noted.is_file():
        wanted = json.loads(noted.read_text())["sha256"].get(path.name)
    if wanted and sha256_of(path) != wanted:
        raise InputError(f"{path}: sha256 differs from {wanted[:12]}..., which the phase starts from; --init_from=FILE")


def note_result(config: LoopConfig) -> None:
    """Write result.json where the phase has a result: it has ended, and the sha256 of what it wrote."""
    folder = Path(config.output_dir)
    if not config.result_file() or not (folder / config.result_file()).is_file():
        return
    digests = {path.name: sha256_of(path) for path in sorted(folder.glob("*.safetensors"))}
    with written(folder / RESULT) as temporary:
        temporary.write_text(json.dumps({"steps": config.max_train_steps, "sha256": digests}, indent=1))
