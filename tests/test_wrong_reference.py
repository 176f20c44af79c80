"""References of another person: the fitted evidence on vectors of known geometry, and what the product makes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "eval"))

import reference_trials as trials_of  # noqa: E402
import wrong_reference  # noqa: E402
from identity_vectors import measure  # noqa: E402

from idinpaint.faces.references import combine  # noqa: E402
from idinpaint.judging.calibration import Calibration  # noqa: E402
from idinpaint.judging.verification import Verifier, evidence_terms, wrong_person  # noqa: E402
from idinpaint.types import Decision  # noqa: E402

MASK = np.zeros((512, 512), bool)
MASK[100:125, 195:222] = True


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def vectors(seed: int, people: int = 12, photos: int = 6, noise: dict | None = None) -> dict:
    """Photos about a person's own direction; a damaged face drifts away from it as coverage grows."""
    rng, found = np.random.default_rng(seed), {}
    spread = {"judge": 0.7, "bundled": 1.4} | (noise or {})
    for person in range(people):
        centre = {name: unit(rng.normal(size=64)) for name in spread}

        def near(name: str, more: float, centre=centre) -> np.ndarray:
            return unit(centre[name] + (spread[name] + more) / 8 * rng.normal(size=64))

        for photo in range(photos):
            key = f"{seed}-{person}/{photo}.jpg"
            found[key] = {**{name: near(name, 0) for name in spread}, "weight": np.array([rng.uniform(0.4, 1)])}
            share = rng.uniform(0, 0.6)
            kinds = [(name, kind) for name in spread for kind in ("visible", "restored")]
            found[f"{key}#0"] = {f"{n}_{k}": near(n, 2 * share) for n, k in kinds} | {"coverage": np.array([share])}
    return found


def test_strangers_are_told_at_the_stated_false_alarms_on_other_people():
    models = trials_of.fit_both(vectors(0), {"judge": "j", "bundled": "b"})
    found = wrong_reference.evaluate(models, vectors(1, people=30))
    both, alone = found["independent"]["all"], found["bundled"]["all"]
    assert both["detected"][0] > 0.97 and both["detected"][0] > alone["detected"][0]
    for rates in (both, alone):
        value, low, high = rates["false_alarms"]
        assert low <= value <= high and value < 0.10
        assert rates["detected"][1] <= rates["detected"][0] <= rates["detected"][2]
    assert found["bundled"]["references"]["3"]["detected"][0] > found["bundled"]["references"]["1"]["detected"][0]
    assert not any(name.startswith("judge") for name in models["bundled"]["weights"])


def test_vectors_that_say_nothing_detect_no_more_than_chance():
    models = trials_of.fit_both(vectors(0, noise={"judge": 1e6, "bundled": 1e6}), {"judge": "j", "bundled": "b"})
    found = wrong_reference.evaluate(models, vectors(1, noise={"judge": 1e6, "bundled": 1e6}))
    assert found["independent"]["all"]["detected"][0] < 0.25


def test_a_stranger_among_the_references_is_counted():
    records = {(r["own"], r["strangers"]): r for r in trials_of.outliers(vectors(2, people=20), "judge", 0.3)}
    assert records[2, 1]["exactly_the_stranger_left_out"][0] > 0.9 and records[2, 1]["warned"][0] > 0.9
    assert records[3, 0]["exactly_the_stranger_left_out"][0] > 0.8  # nobody is left out


def test_tables_and_roc(tmp_path):
    models, other = trials_of.fit_both(vectors(0), {"judge": "j", "bundled": "b"}), vectors(1)
    values = {"test": wrong_reference.evaluate(models, other), "outliers": trials_of.outliers(other, "judge", 0.3)}
    table = wrong_reference.markdown(values)
    assert "| independent | 3 reference(s) |" in table and "| judge | 2 | 1 |" in table
    x, y = wrong_reference.roc(models["bundled"], trials_of.draw_trials(other))
    assert np.all(np.diff(x) >= 0) and np.all(np.diff(y) >= 0) and x[0] >= 0 and y[-1] == 1
    wrong_reference.write_plot(models, other, tmp_path / "roc.png")
    assert (tmp_path / "roc.png").stat().st_size > 5000


def test_the_product_suspects_a_stranger_and_not_the_person(restorer):
    photo = skimage.data.astronaut()
    (face,) = restorer.analyzer.analyze(photo, MASK, (170.0, 60.0, 110.0, 130.0))
    own = restorer.references.read_one("own.png", photo)
    stranger = type(own)("stranger.png", np.roll(own.embed, 7), np.full((112, 112, 3), 90, np.uint8), own.quality)
    weights = dict.fromkeys(("bundled_visible", "bundled_restored"), -10.0)
    model = {"encoders": {"bundled": restorer.identity.sha256}, "intercept": 8.0, "weights": weights, "limit": 0.0}
    model |= {"false_alarms": 0.05, "coverage_to": 0.5}
    calibration = Calibration({"wrong_reference": {"bundled": model}}, "")
    verifier = Verifier(restorer.identity, None, calibration)
    decision = Decision("diffusion", "rule", "reason", face.face_coverage, 0.1)
    found = verifier.check(face.crop, face, combine([own], 0.35), decision)
    assert not found.wrong_reference["suspected"] and wrong_person(found) == []
    found = verifier.check(face.crop, face, combine([stranger], 0.35), decision)
    assert found.wrong_reference["suspected"] and found.wrong_reference["log_odds"] > 0
    (notice,) = wrong_person(found)
    assert "another person" in notice and "5 %" in notice
    assert verifier.suspicion(face.crop, face, combine([], 0.35)) is None
    # Uncalibrated, the visible part alone decides; of another encoder's calibration nothing is taken.
    model["encoders"]["bundled"] = "another"
    plain = verifier.suspicion(face.crop, face, combine([stranger], 0.35))
    assert plain == {"suspected": True, "log_odds": None, "limit": None, "false_alarms": None}
    assert not verifier.suspicion(face.crop, face, combine([own], 0.35))["suspected"]


def test_evidence_fades_with_coverage_and_grows_with_photos():
    terms = evidence_terms({"judge_visible": 0.5}, 0.4, 2)
    assert terms == {"judge_visible": 0.5, "judge_visible*coverage": 0.2, "coverage": 0.4, "one_over_count": 0.5}


def test_measuring_goes_on_where_it_stopped(restorer, shared, tmp_path):
    found = measure(restorer, restorer.identity, shared / "data", "val", tmp_path, 1, 3, 1)
    assert sorted("#" in name for name in found) == [False, False, False, True]
    damaged = found[next(name for name in found if "#" in name)]
    assert np.linalg.norm(damaged["judge_visible"]) == pytest.approx(1, abs=1e-4)
    assert damaged["judge_restored"].shape == damaged["bundled_visible"].shape and 0 <= damaged["coverage"][0] < 0.1
    idle = SimpleNamespace(identity=None, bundle=restorer.bundle)  # nothing is left that would need a network
    assert sorted(measure(idle, None, shared / "data", "val", tmp_path, 1, 3, 1)) == sorted(found)
