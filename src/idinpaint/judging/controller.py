"""Chooses one of strategies.py from coverage numbers alone; reads no pixels, loads no network.

The ladder lies in abstain_thresholds.yaml: thresholds of how much of the facial features is hidden, and for each rung
the strategy without and with reference photos. A decision carries the rule that fired, its numbers, and the reason in
words; what a user overrode is recorded in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from idinpaint.config import build_config, read_values
from idinpaint.strategies import OFFERED, PAINTS, STRATEGIES, UNPAINTED
from idinpaint.types import FEATURE_WEIGHTS, FEATURES, Decision, FaceAnalysis, InputError

LADDER = Path(__file__).with_name("abstain_thresholds.yaml")  # the one that ships
SHARE_WORDS = (  # a share below the first number is said so
    (0.03, "hardly any of"), (0.07, "a small part of"), (0.15, "about a tenth of"), (0.225, "about a fifth of"),
    (0.29, "about a quarter of"), (0.37, "about a third of"), (0.45, "about two fifths of"), (0.55, "about half of"),
    (0.75, "more than half of"), (0.97, "most of"), (2.0, "all of"),
)  # fmt: skip
RUNGS = ("if_untouched", "below_thin", "up_to_low", "low_to_stop", "stop_to_colour", "above_colour", "eyes_hidden")


@dataclass(frozen=True)
class ControllerConfig:
    """The keys of abstain_thresholds.yaml. Shares in [0, 1], `thin` <= `low` <= `stop` <= `colour`.

    Each rung is (strategy without references, with references); `A or B` delivers A only when it is verified.
    weights: feature -> weight of its coverage in the face's; None means the package's own.
    """

    thin: float
    low: float
    stop: float
    colour: float
    eyes: float
    twin: float
    twin_visible: float
    if_untouched: tuple[str, str]
    below_thin: tuple[str, str]
    up_to_low: tuple[str, str]
    low_to_stop: tuple[str, str]
    stop_to_colour: tuple[str, str]
    above_colour: tuple[str, str]
    eyes_hidden: tuple[str, str]
    weights: dict | None = None

    def __post_init__(self) -> None:
        values = [self.thin, self.low, self.stop, self.colour]
        if not (0.0 <= values[0] and values == sorted(values) and values[-1] <= 1.0 and 0.0 <= self.eyes <= 1.0):
            raise InputError(
                "controller: thresholds must rise from thin to colour, within [0, 1]: "
                f"thin {self.thin}, low {self.low}, stop {self.stop}, colour {self.colour}, eyes {self.eyes}"
            )
        if not (0.0 <= self.twin <= 1.0 and 0.0 <= self.twin_visible <= 1.0):
            raise InputError(f"controller: twin {self.twin} and twin_visible {self.twin_visible} are shares in [0, 1]")
        for rung in RUNGS:
            _check_rung(rung, getattr(self, rung))
        for name, weight in (self.weights or {}).items():
            if name not in FEATURES:
                raise InputError(f"controller: weights: unknown feature `{name}`{_nearest(name, FEATURES)}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise InputError(f"controller: weights: {name} must be a number from 0 on, not {weight!r}")
        if self.weights is not None and not sum(self.weights.values()) > 0:
            raise InputError("controller: weights: at least one feature must count")


def _check_rung(rung: str, entry: tuple) -> None:
    if len(entry) != 2 or not all(isinstance(text, str) for text in entry):
        raise InputError(f"controller: {rung} wants [without references, with references], not {list(entry)}")
    for text in entry:
        first, *rest = text.split(" or ")
        for name in (first, *rest):
            if name not in OFFERED:
                raise InputError(f"controller: {rung}: unknown strategy `{name}`{_nearest(name, OFFERED)}")
        if len(rest) > 1 or (rest and (first not in PAINTS or rest[0] in PAINTS)):
            raise InputError(f"controller: {rung}: `{text}`: write `diffusion or abstain`, the second painting no face")
    if " or " in entry[0]:
        raise InputError(f"controller: {rung}: without references nothing can be verified, so `{entry[0]}` cannot be")


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"


def load_controller(path: Path | str | None = None) -> ControllerConfig:
    """The ladder that ships, with what a YAML file says otherwise. Raises InputError naming the file and the key."""
    return _shipped() if path is None else _load(Path(path))


@cache
def _shipped() -> ControllerConfig:
    return _load(LADDER)


def _load(source: Path) -> ControllerConfig:
    try:
        return build_config(ControllerConfig, {**read_values(LADDER), **read_values(source)}, str(source))
    except InputError as error:
        raise error if str(source) in str(error) else InputError(f"{source}: {error}") from None


@dataclass(frozen=True)
class _Fired:
    """The row of the ladder that fits: its name, its entry for this case and the words for it."""

    rule: str
    entry: str
    words: str
    bounds: dict[str, float] = field(default_factory=dict)


def decide(
    coverage: dict[str, float],
    face_coverage: float,
    hole_ratio: float,
    has_references: bool,
    config: ControllerConfig | None = None,
    force: bool = False,
    max_coverage: float | None = None,
    available: Collection[str] = OFFERED,
    torn_hair: bool = False,
) -> Decision:
    """The decision for one face (or for a photo without a touched face: coverage {} and face_coverage 0).

    coverage: feature name -> masked share; face_coverage: their weighted mean; hole_ratio: masked share of
    the photo; max_coverage: share up to which a face is painted, in place of the ladder's limit; all in [0, 1], else
    ValueError. force: paint where the rule says abstain or colorize, and say so. available: what the model can do.
    torn_hair: much hair is hidden, which is no feature, but which a smooth fill smears.
    """
    limit = {} if max_coverage is None else {"max_coverage": max_coverage}
    for name, value in {**coverage, "face_coverage": face_coverage, "hole_ratio": hole_ratio, **limit}.items():
        if not 0.0 <= value <= 1.0:  # also catches NaN
            raise ValueError(f"{name} must be within [0, 1], got {value}")
    config = config or load_controller()
    fired = _rule(coverage, face_coverage, has_references, config, torn_hair)
    strategy, _, otherwise = fired.entry.partition(" or ")
    eyes = {name: coverage[name] for name in ("left_eye", "right_eye") if name in coverage}
    decision = Decision(
        strategy,
        fired.rule,
        _reason(fired, strategy, otherwise, has_references),
        face_coverage,
        hole_ratio,
        numbers={"face_coverage": face_coverage, "hole_ratio": hole_ratio, **eyes, **fired.bounds},
        unless_verified=otherwise or None,
    )
    if max_coverage is not None:
        decision = _limited(decision, max_coverage)
    if force:
        decision = _forced(decision)
    return _available(decision, available)


def _limited(decision: Decision, limit: float) -> Decision:
    """max_coverage in place of the ladder's own limit, both ways; both eyes hidden stays what the ladder says."""
    share, words = decision.face_coverage, f"{100 * limit:g} % set by the user"
    numbers = {**decision.numbers, "max_coverage": limit}
    if share > limit and decision.strategy in PAINTS:
        reason = f"{in_words(share)} the facial features are under the mask, above the limit of {words}"
        decision = replace(decision, strategy="abstain", rule="max-coverage", reason=reason, unless_verified=None)
    elif share <= limit and decision.strategy in UNPAINTED and not decision.rule.startswith("both-eyes"):
        reason = f"painted below the limit of {words}, although {decision.reason}"
        decision = replace(decision, strategy="diffusion", rule="max-coverage", reason=reason, unless_verified=None)
    elif share <= limit and decision.unless_verified is not None and not decision.rule.startswith("both-eyes"):
        # With references no more is held back than without: the user's limit delivers, the verdict says the rest.
        reason = f"painted below the limit of {words}, with the help of the reference photos"
        decision = replace(decision, rule="max-coverage", reason=reason, unless_verified=None)
    return replace(decision, numbers=numbers)


def _forced(decision: Decision) -> Decision:
    """Paints and delivers whatever the rule says, and says that it was forced."""
    if decision.strategy not in UNPAINTED and decision.unless_verified is None:
        return decision
    strategy = decision.strategy if decision.strategy in PAINTS else "diffusion"
    reason = f"forced by the user, although {decision.reason}; what is painted is a guess"
    return replace(decision, strategy=strategy, reason=reason, forced=True, unless_verified=None)


def _available(decision: Decision, available: Collection[str]) -> Decision:
    """Another strategy where the model lacks the chosen one."""
    wanted, other = decision.strategy, STRATEGIES[decision.strategy].instead
    if wanted in available or not other:
        return decision
    reason = f"{decision.reason}; this model has no {wanted}, so {other} paints"
    return replace(decision, strategy=other, reason=reason, instead_of=wanted)


def _rule(
    coverage: dict[str, float], face: float, has_references: bool, config: ControllerConfig, torn_hair: bool
) -> _Fired:
    """The first row that fits. Rules are named by their thresholds in per cent."""
    share = f"{in_words(face)} the facial features are under the mask"
    eyes = min(coverage.get("left_eye", 0.0), coverage.get("right_eye", 0.0))
    low, stop, colour = (f"{100 * value:g}" for value in (config.low, config.stop, config.colour))
    side, suffix = int(has_references), "-with-references" if has_references else ""
    if eyes > config.eyes:
        return _Fired(
            f"both-eyes{suffix}", config.eyes_hidden[side], "both eyes are hidden", {"eyes_limit": config.eyes}
        )
    if face < config.thin and torn_hair:
        return _Fired("hair", config.up_to_low[side], f"{share}, but much of the hair", {"below": config.thin})
    if face <= 0.0:
        return _Fired("face-untouched", config.if_untouched[side], "no face is touched; the hole is filled")
    if face < config.thin:
        words = f"{share}: so little is filled from its surroundings"
        return _Fired("thin", config.below_thin[side], words, {"below": config.thin})
    if face <= config.low:
        words = f"{share}, few enough to keep the identity"
        return _Fired(f"up-to-{low}", config.up_to_low[side], words, {"above": config.thin, "below": config.low})
    if face < config.stop:
        words = f"{share}; the tries are ranked by likeness"
        return _Fired(f"{low}-{stop}", config.low_to_stop[side], words, {"above": config.low, "below": config.stop})
    if face - (served := twin_share(coverage, config)) < config.stop:
        words = f"{share}, but the other eye shows what it looks like"
        return _Fired(f"{stop}-twin", config.low_to_stop[side], words, {"below": config.stop + served})
    if face <= config.colour:
        rule, bounds = f"{stop}-{colour}{suffix}", {"above": config.stop, "below": config.colour}
        return _Fired(rule, config.stop_to_colour[side], share, bounds)
    return _Fired(f"above-{colour}{suffix}", config.above_colour[side], share, {"above": config.colour})


def in_words(share: float) -> str:
    """A share in [0, 1] as who restores photographs says it: about a quarter of."""
    return next(words for limit, words in SHARE_WORDS if share < limit)


def twin_share(coverage: dict[str, float], config: ControllerConfig) -> float:
    """Share in [0, 1] of the facial features that is hidden but served by its visible twin; brows only with eyes."""
    weights, served = config.weights or FEATURE_WEIGHTS, 0.0
    for part in ("eye", "brow"):
        left, right = (coverage.get(f"{side}_{part}", 0.0) for side in ("left", "right"))
        if part == "eye" and min(left, right) > config.twin_visible:
            return 0.0
        served += config.twin * abs(left - right) * weights.get(f"{'left' if left > right else 'right'}_{part}", 0.0)
    return served / sum(weights.values())


def _reason(fired: _Fired, strategy: str, otherwise: str, has_references: bool) -> str:
    """The rule's words, and what follows from them."""
    if otherwise:
        return f"{fired.words}; painted with the help of the reference photos, delivered only when it agrees with them"
    if strategy in PAINTS or strategy == "telea":
        return fired.words
    lack = "" if has_references else " and there is no reference photo of the person"
    if strategy == "colorize":
        return f"{fired.words}{lack}: the hole is only given a smooth tone, no feature is invented"
    return f"{fired.words}{lack}, so the face would be invented"


def _outcome(decision: Decision) -> str:
    """What would become of the face."""
    condition = " and delivered only when it agrees with the references" if decision.unless_verified else ""
    return f"{STRATEGIES[decision.strategy].outcome}{condition}"


def near_threshold(face: FaceAnalysis, ladder: ControllerConfig, has_references: bool = False) -> list[str]:
    """A notice when the landmarks' own error could lead to another strategy of the ladder."""
    if face.coverage_interval is None:
        return []
    low, high = face.coverage_interval
    for limit in (ladder.low, ladder.stop, min(ladder.stop + twin_share(face.coverage, ladder), 1.0), ladder.colour):
        sides = (max(limit - 1e-6, 0.0), min(limit + 1e-6, 1.0))
        below, above = (decide(face.coverage, side, 0.0, has_references, ladder) for side in sides)
        if low <= limit <= high and (below.strategy, below.unless_verified) != (above.strategy, above.unless_verified):
            other, less = (below, "less") if face.face_coverage > limit else (above, "more")
            return [f"the decision is a close one: were a little {less} of the face hidden, {_outcome(other)}"]
    return []
