"""Trials of right and wrong references on kept identity vectors, and the model that tells them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from calibration_fit import newton
from cases import same_person
from estimates import estimate
from run_store import Features

from idinpaint.faces.quality import FaceQuality
from idinpaint.faces.references import Reference, combine
from idinpaint.judging.verification import evidence_terms

FALSE_ALARMS = 0.05
SAME = same_person()
COUNTS = (1, 3)  # reference photos
DRAWS = 2  # of references and strangers for every damaged photo
RIDGE = 1.0
BOOTSTRAP = 1000


@dataclass(frozen=True)
class Trials:
    """N trials. person: whose damaged face; count: reference photos; wrong: they show somebody else; coverage: [N];
    terms: evidence name -> [N], as `idinpaint.judging.verification.evidence_terms` gives them."""

    person: list[str]
    count: np.ndarray
    wrong: np.ndarray
    coverage: np.ndarray
    terms: dict[str, np.ndarray]

    def where(self, chosen: np.ndarray) -> Trials:
        """Those of a bool [N]."""
        people = [name for name, use in zip(self.person, chosen) if use]
        terms = {name: values[chosen] for name, values in self.terms.items()}
        return Trials(people, self.count[chosen], self.wrong[chosen], self.coverage[chosen], terms)


def photos_of(features: Features) -> dict[str, list[str]]:
    """Person -> names of the untouched photos; two numbers of one person count as one."""
    people: dict[str, list[str]] = {}
    for name in sorted(features):
        if "#" not in name:
            people.setdefault(person_of(name), []).append(name)
    return people


def person_of(name: str) -> str:
    """Whose photo `PERSON/PHOTO` is."""
    number = name.split("/")[0]
    return SAME.get(number, number)


def fused(features: Features, names: Sequence[str], encoder: str) -> np.ndarray:
    """Unit vector: the photos' mean, weighted by quality as the product does it."""
    weights = [float(features[name]["weight"][0]) for name in names]
    mean = np.average([features[name][encoder] for name in names], axis=0, weights=weights)
    return mean / np.linalg.norm(mean)


def draw_trials(features: Features, counts: Sequence[int] = COUNTS, draws: int = DRAWS, seed: int = 0) -> Trials:
    """For every damaged photo and count as many genuine as wrong references, drawn anew each time."""
    people, rng = photos_of(features), np.random.default_rng(seed)
    names, records = sorted(people), []
    for case in sorted(name for name in features if "#" in name):
        key = case.split("#")[0]
        person, found = person_of(key), features[case]
        for count in counts:
            for _ in range(draws):
                other = names[(names.index(person) + 1 + int(rng.integers(len(names) - 1))) % len(names)]
                pools = ([name for name in people[person] if name != key], people[other])
                if min(map(len, pools)) < count:
                    continue
                for wrong, pool in enumerate(pools):
                    given = list(rng.choice(pool, count, replace=False))
                    cosines = {
                        f"{encoder}_{kind}": float(found[f"{encoder}_{kind}"] @ fused(features, given, encoder))
                        for encoder in ("judge", "bundled")
                        for kind in ("visible", "restored")
                    }
                    records.append((person, count, bool(wrong), float(found["coverage"][0]), cosines))
    people_of, numbers, wrong, coverage, cosines = zip(*records)
    rows = [evidence_terms(c, x, n) for c, x, n in zip(cosines, coverage, numbers)]
    terms = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return Trials(list(people_of), np.array(numbers), np.array(wrong), np.array(coverage), terms)


def fit(trials: Trials, names: Sequence[str], false_alarms: float = FALSE_ALARMS) -> dict[str, Any]:
    """Log-odds of a wrong reference, linear in the named terms (ridge on standardised ones), and the limit above which
    `false_alarms` of the genuine references lie."""
    x = np.column_stack([trials.terms[name] for name in names])
    centre, scale = x.mean(0), np.maximum(x.std(0), 1e-9)
    design = np.column_stack([np.ones(len(x)), (x - centre) / scale])
    beta = newton(design, trials.wrong.astype(float), RIDGE * np.array([0.0, *np.ones(x.shape[1])]))
    weights = beta[1:] / scale
    model = {
        "intercept": round(float(beta[0] - weights @ centre), 5),
        "weights": {name: round(float(w), 5) for name, w in zip(names, weights)},
    }
    genuine = log_odds(model, trials)[~trials.wrong]
    return {**model, "limit": round(float(np.quantile(genuine, 1 - false_alarms, method="higher")), 5),
            "false_alarms": false_alarms}  # fmt: skip


def log_odds(model: Mapping[str, Any], trials: Trials) -> np.ndarray:
    """[N] of a wrong reference."""
    return model["intercept"] + sum(w * trials.terms[name] for name, w in model["weights"].items())


def rates(model: Mapping[str, Any], trials: Trials) -> dict[str, Any]:
    """Share of strangers noticed and of genuine references wrongly suspected, 95 % intervals over people; also the
    share noticed at exactly the stated false alarms on these very trials."""
    alarm = log_odds(model, trials)
    suspected, found = (alarm > model["limit"]).astype(float), {"trials": len(alarm)}
    for name, chosen in (("detected", trials.wrong), ("false_alarms", ~trials.wrong)):
        people = [p for p, use in zip(trials.person, chosen) if use]
        found[name] = estimate(suspected[chosen], people, BOOTSTRAP).rounded()
    own = np.quantile(alarm[~trials.wrong], 1 - model["false_alarms"], method="higher")
    found["detected_at_exact_rate"] = round(float((alarm[trials.wrong] > own).mean()), 4)
    return found


def term_names(independent: bool, trials: Trials) -> list[str]:
    """The evidence of a model: of the bundled encoder, and of the judge where it is there."""
    return [name for name in trials.terms if independent or not name.startswith("judge")]


def fit_both(features: Features, digests: Mapping[str, str | None]) -> dict[str, Any]:
    """What calibration.json holds: one model with the independent encoder, one without it.

    digests: `judge` and `bundled` -> sha256. features: of the validation people.
    """
    trials = draw_trials(features)
    reach = round(float(np.quantile(trials.coverage, 0.99)), 3)
    return {
        name: {"encoders": {k: digests[k] for k in encoders}, "coverage_to": reach,
               "people": len(set(trials.person)), "trials": len(trials.person),
               **fit(trials, term_names("judge" in encoders, trials))}
        for name, encoders in (("independent", ("judge", "bundled")), ("bundled", ("bundled",)))
    }  # fmt: skip


def outliers(features: Features, encoder: str, threshold: float, seed: int = 1) -> list[dict[str, Any]]:
    """Sets of photos of whom one is another person, through the product's own `combine`.

    For `own` genuine photos and one stranger: how often exactly the stranger is left out, how often it is warned
    of at all; and for genuine photos only how often anything is left out or warned of. The visible part is that of a
    damaged photo of the person, none of the set.
    """
    people, rng = photos_of(features), np.random.default_rng(seed)
    names, records = sorted(people), []
    for own, strangers in ((1, 1), (2, 1), (4, 1), (2, 0), (3, 0), (5, 0)):
        hits, warned, owners = [], [], []
        for case in sorted(name for name in features if "#" in name):
            key = case.split("#")[0]
            person = person_of(key)
            other = names[(names.index(person) + 1 + int(rng.integers(len(names) - 1))) % len(names)]
            pool = [name for name in people[person] if name != key]
            if len(pool) < own:
                continue
            given = [*rng.choice(pool, own, replace=False), *rng.choice(people[other], strangers, replace=False)]
            items = [_reference(features[name], name, encoder) for name in given]
            found = combine(items, threshold, features[case][f"{encoder}_visible"])
            left = {item.name for item in found.items if not item.used}
            hits.append(float(left == set(given[own:])))
            warned.append(float(bool(found.notices)))
            owners.append(person)
        if not hits:
            continue
        record: dict[str, Any] = {"encoder": encoder, "own": own, "strangers": strangers, "trials": len(hits)}
        for name, values in (("exactly_the_stranger_left_out", hits), ("warned", warned)):
            record[name] = estimate(np.array(values), owners, BOOTSTRAP).rounded()
        records.append(record)
    return records


def _reference(found: Mapping[str, np.ndarray], name: str, encoder: str) -> Reference:
    weight = float(found["weight"][0])
    return Reference(name, found[encoder], np.zeros((1, 1, 3), np.uint8), FaceQuality(0, 0, 0, 0, weight))
