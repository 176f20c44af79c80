"""Chooses telea, diffusion or abstain from coverage numbers alone; reads no pixels and loads no network.

The thresholds are the prior from the literature: identity hallucination begins when 15-20 % of the facial
features are missing, and beyond 25-30 % a face without a reference photo would be invented.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from idinpaint.types import Decision

# Rules whose result is delivered only when its identity to the reference photos is verified.
VERIFIED_ONLY_RULES = frozenset({"25-30-with-references", "above-30-with-references", "both-eyes-with-references"})


@dataclass(frozen=True)
class ControllerConfig:
    """Thresholds, all shares in [0, 1]: `thin` <= `low` <= `stop` <= `colour` of the facial features."""

    thin: float = 0.02  # below: scratches that touch no feature to speak of
    low: float = 0.15  # up to here identity is safe
    stop: float = 0.25  # from here nothing is painted without a reference photo
    colour: float = 0.30  # above, the task is no longer inpainting
    eyes: float = 0.90  # of each eye: above this in both, identity is not readable

    def __post_init__(self) -> None:
        if not 0.0 <= self.thin <= self.low <= self.stop <= self.colour <= 1.0 or not 0.0 <= self.eyes <= 1.0:
            raise ValueError(f"thresholds must rise from thin to colour, within [0, 1]: {self}")


def decide(
    coverage: dict[str, float],
    face_coverage: float,
    hole_ratio: float,
    has_references: bool,
    config: ControllerConfig | None = None,
    force: bool = False,
) -> Decision:
    """The decision for one face (or for a photo without a touched face: coverage {} and face_coverage 0).

    coverage: feature name -> masked share; face_coverage: their weighted mean; hole_ratio: masked share of
    the photo; all in [0, 1], else ValueError. force: paint where the rule says abstain, and say so.
    """
    for name, value in {**coverage, "face_coverage": face_coverage, "hole_ratio": hole_ratio}.items():
        if not 0.0 <= value <= 1.0:  # also catches NaN
            raise ValueError(f"{name} must be within [0, 1], got {value}")
    config = config or ControllerConfig()
    strategy, rule, reason = _rule(coverage, face_coverage, hole_ratio, has_references, config)
    decision = Decision(strategy, rule, reason, face_coverage, hole_ratio)
    if force and strategy == "abstain":
        reason = f"forced by the user against the rule {rule}: {reason}; what is painted is a guess"
        decision = replace(decision, strategy="diffusion", reason=reason, forced=True)
    return decision


def _rule(
    coverage: dict[str, float], face: float, hole_ratio: float, has_references: bool, config: ControllerConfig
) -> tuple[str, str, str]:
    """(strategy, rule, reason): the first row that fits."""
    share = f"{100 * face:.1f} % of the facial features are under the mask"
    eyes = min(coverage.get("left_eye", 0.0), coverage.get("right_eye", 0.0))
    if eyes > config.eyes:
        hidden = "both eyes are hidden"
        if has_references:
            return _with_references("both-eyes", hidden)
        return "abstain", "both-eyes", f"{hidden} and there is no reference photo of the person"
    if face <= 0.0:
        return (
            "telea",
            "face-untouched",
            f"no face is touched; the hole ({100 * hole_ratio:.1f} % of the photo) is filled",
        )
    if face < config.thin:
        return "telea", "thin", f"only {share}: thin scratches are filled from their surroundings"
    if face <= config.low:
        return "diffusion", "up-to-15", f"{share}, few enough to keep the identity"
    if face < config.stop:
        return "diffusion", "15-25", f"{share}; candidates are ranked by identity"
    rule = "above-30" if face > config.colour else "25-30"
    if has_references:
        return _with_references(rule, share)
    return "abstain", rule, f"{share} and there is no reference photo of the person, so the face would be invented"


def _with_references(rule: str, what: str) -> tuple[str, str, str]:
    reason = f"{what}; painted with the help of the reference photos, delivered only when verified against them"
    return "diffusion", f"{rule}-with-references", reason
