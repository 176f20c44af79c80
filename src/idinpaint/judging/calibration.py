"""What `eval/calibrate.py` measured, as the product uses it: thresholds, expected acceptance, limits of warnings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from idinpaint.damage.finder import WEIGHTS as FINDER
from idinpaint.types import InputError

SHIPPED = Path(__file__).with_name("calibration.json")
VERSION = 2


@dataclass(frozen=True)
class Calibration:
    """The values of a calibration.json; every method answers None where nothing was measured."""

    values: dict[str, Any]
    source: str

    def encoder(self, name: str, sha256: str | None) -> dict[str, Any] | None:
        """threshold, false_accept_rate, genuine_accept_rate of this very encoder."""
        entry = self.values.get("encoders", {}).get(name)
        return entry if entry and entry["sha256"] == sha256 else None

    def expected_acceptance(
        self, strategy: str, references: bool, coverage: float, whole: float | None = None
    ) -> dict[str, float] | None:
        """Probability, with its 95 % interval, that the independent encoder accepts such a restoration. whole: the part
        of the coverage that is of features hidden as a whole, all of it by default."""
        curves = self.values.get("acceptance", {}).get(strategy, {})
        with_them = references and strategy != "telea"  # which reads no reference
        curve = curves.get("with_references" if with_them else "without_references")
        if not curve or coverage > curve["coverage"][-1]:
            return None
        coverage = effective_coverage(coverage, coverage if whole is None else whole, curve.get("partly", 1.0))
        found = {
            key: float(np.interp(coverage, curve["coverage"], curve[key])) for key in ("probability", "low", "high")
        }
        return found

    def wrong_reference(self, digests: Mapping[str, str | None], coverage: float) -> dict[str, Any] | None:
        """The fitted model that tells references of another person: encoders, intercept, weights, limit, false_alarms.

        digests: role (judge, bundled) -> sha256 of the encoders in use. The first model whose encoders they are and
        that was fitted up to this coverage.
        """
        for model in self.values.get("wrong_reference", {}).values():
            known = all(digests.get(role) == digest for role, digest in model["encoders"].items())
            if known and coverage <= model["coverage_to"]:
                return model
        return None

    def differences(self, encoders: Mapping[str, str | None], weights: Mapping[str, str]) -> list[str]:
        """A notice for what is not what was calibrated: encoders by name -> sha256, model files -> sha256."""
        measured = self.values.get("encoders", {})
        other = [n for n, digest in encoders.items() if n not in measured or measured[n]["sha256"] != digest]
        kept = self.values.get("weights", {})  # files that came later cannot matter to what was measured,
        # nor does what finds damage: it neither paints nor judges
        changed = [n for n, digest in weights.items() if kept.get(n, digest) != digest and n != FINDER]
        if not other and not changed:
            return []
        names = ", ".join([*(f"encoder {n}" for n in other), *changed[:2]])
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        return [f"the calibration was made with other weights ({names}{more}): its probabilities may not hold"]


def effective_coverage(coverage: Any, whole: Any, partly: float) -> Any:
    """Coverages, numbers or arrays, where features hidden in part count `partly` as much as those hidden as a whole,
    whose coverage is `whole`: strokes across a face hide less of who it is than as much of whole features."""
    whole = np.minimum(whole, coverage)
    return whole + partly * (coverage - whole)


@lru_cache
def load_calibration(path: Path | str | None = None) -> Calibration | None:
    """The shipped calibration, None when there is none. Raises InputError for a file that is none."""
    source = Path(path) if path is not None else SHIPPED
    if path is None and not source.is_file():
        return None
    try:
        values = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: not a readable calibration ({error}); make one with eval/calibrate.py") from error
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise InputError(f"{source}: not a calibration of version {VERSION}; make one with eval/calibrate.py")
    return Calibration(values, source.name)
