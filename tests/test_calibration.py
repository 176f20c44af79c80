"""The fits of eval/calibrate.py, and how the product reads what they give."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "eval"))

import calibration_fit as fit  # noqa: E402
from tables import frame  # noqa: E402

from idinpaint.judging.calibration import SHIPPED, VERSION, Calibration, load_calibration  # noqa: E402
from idinpaint.types import InputError  # noqa: E402

THRESHOLD = 0.4


def listed(count: int, seed: int, method: str = "diffusion", people: int = 40) -> list[dict[str, str]]:
    """Restorations whose true chance of acceptance is a logistic curve of coverage: 4 - 12 x."""
    rng = np.random.default_rng(seed)
    coverage = rng.uniform(0, 0.7, count)
    accepted = rng.random(count) < 1 / (1 + np.exp(-(4 - 12 * coverage)))
    return [
        {
            "method": method, "person": f"p{i % people}", "photo": f"{i}.jpg", "mask": "m",
            "coverage": str(coverage[i]), "whole": str(coverage[i]),
            "drawn": str(coverage[i] + 0.02), "interval": "0.03", "original": "0.6",
            "independent": str(THRESHOLD + (0.1 if accepted[i] else -0.1)),
        }
        for i in range(count)
    ]  # fmt: skip


def rows(*words) -> pd.DataFrame:
    return frame(listed(*words))


def test_threshold_lets_at_most_the_stated_share_of_impostors_pass():
    rng = np.random.default_rng(0)
    impostor, genuine = rng.normal(0.0, 0.1, 5000), rng.normal(0.6, 0.1, 500)
    found = fit.threshold_at(genuine, impostor, 0.01)
    assert (impostor >= found["threshold"] + 1e-4).mean() <= 0.01 and 0.2 < found["threshold"] < 0.27
    assert found["genuine_accept_rate"] > 0.99 and found["impostor_pairs"] == 5000


def test_the_curve_finds_the_truth_and_holds_on_unseen_people():
    curve = fit.acceptance_curve(rows(600, 0), THRESHOLD, 60)
    truth = 1 / (1 + np.exp(-(4 - 12 * np.array(curve["coverage"]))))
    assert np.abs(np.array(curve["probability"]) - truth).max() < 0.1
    assert all(low <= p <= high for low, p, high in zip(curve["low"], curve["probability"], curve["high"]))
    assert np.all(np.diff(curve["probability"]) <= 0)
    (row,) = fit.reliability(rows(1500, 1), {"diffusion": {"without_references": curve}}, THRESHOLD)
    assert row["ece"] <= 0.05 and row["ece_unseen_people"] <= 0.05
    crossing = fit.propose({"diffusion": {"without_references": curve}}, 0.8)
    found = crossing["at_coverage"]["diffusion without_references"]
    assert found["expected"] == pytest.approx(0.218, abs=0.03) and found["surely"] < found["expected"]
    assert crossing["stop"] == found["surely"]


def test_features_hidden_in_part_count_as_much_as_they_cost():
    given = [{**row, "damage": "features"} for row in listed(600, 0)]
    for row in listed(600, 2):  # strokes: of twice the coverage, half of it of whole features, as likely to be accepted
        x = float(row["coverage"])
        given.append({**row, "coverage": str(2 * x), "whole": str(x * 0.6)})  # effective x = .6 x + partly (2 - .6) x
    curve = fit.acceptance_curve(frame(given), THRESHOLD, 20)
    assert curve["partly"] == pytest.approx(0.4 / 1.4, abs=0.1)
    (row,) = fit.reliability(frame(given), {"diffusion": {"without_references": curve}}, THRESHOLD)
    assert row["ece"] <= 0.05
    assert fit.acceptance_curve(rows(200, 0), THRESHOLD, 5)["partly"] == 1.0, "nothing to tell it by: the careful one"
    calibration = Calibration({"acceptance": {"diffusion": {"without_references": curve}}}, "")
    apart = [calibration.expected_acceptance("diffusion", False, 0.3, w)["probability"] for w in (None, 0.3, 0.1, 0.0)]
    assert apart[0] == apart[1] < apart[2] < apart[3]


def test_invention_begins_where_a_tenth_of_the_likeness_is_lost():
    cases = rows(600, 0).assign(independent=lambda own: 0.6 * (1 - own["coverage"] / 2))
    limits = fit.likeness_limits(pd.concat([cases, rows(40, 0, "telea")]), 0.9, 40)
    assert limits["diffusion"]["at"] == pytest.approx(0.2, abs=0.02)
    assert limits["diffusion"]["low"] <= limits["diffusion"]["at"] <= limits["diffusion"]["high"]
    curve = {"coverage": [0.0, 0.8], "probability": [1.0, 0.9], "low": [1.0, 0.5]}
    found = fit.propose({"diffusion": {"without_references": curve}}, 0.8, limits)
    assert found["stop"] == limits["diffusion"]["at"] <= found["colour"] and found["low"] <= found["stop"]
    steady = cases.assign(independent=0.6)
    assert fit.likeness_limits(steady, 0.9, 5)["diffusion"]["at"] == pytest.approx(cases["coverage"].max(), abs=0.05)


def test_more_damage_never_helps_and_one_sided_data_stay_finite():
    x = np.linspace(0, 0.6, 40)
    assert fit.fit_logistic(x, (x > 0.3).astype(float))[1] == 0
    for y in (np.ones(40), np.zeros(40)):
        assert np.isfinite(fit.fit_logistic(x, y)).all()


def test_calibration_error_is_zero_when_expectations_hold_and_large_when_not():
    expected = np.repeat([0.0, 1.0], 50)
    assert fit.calibration_error(expected, expected) == 0
    assert fit.calibration_error(expected, 1 - expected, bins=2) == 1


def test_how_far_coverage_moves_is_told():
    found = fit.coverage_error(pd.concat([rows(50, 0), rows(50, 0, "telea")]))
    assert found["images"] == 50 and found["interval_mean"] == 0.03
    assert found["mean_difference"] == pytest.approx(-0.02) and found["percentile_95"] == pytest.approx(0.02)
    natural = fit.coverage_error(rows(5, 0).assign(drawn=np.nan))
    assert natural == {"images": 5, "interval_mean": 0.03}


def written(tmp_path: Path) -> Path:
    curve = fit.acceptance_curve(rows(200, 0), THRESHOLD, 20)
    values = {
        "version": VERSION,
        "encoders": {"sface": {"sha256": "s", "threshold": 0.4, "false_accept_rate": 0.01}, "bundled": {"sha256": "b"}},
        "weights": {"a": "1"},
        "acceptance": {"diffusion": {"without_references": curve}},
        "wrong_reference": {
            "independent": {"encoders": {"judge": "s", "bundled": "b"}, "coverage_to": 0.6},
            "bundled": {"encoders": {"bundled": "b"}, "coverage_to": 0.6},
        },
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(values))
    return path


def test_the_product_reads_it_and_warns_of_other_weights(tmp_path):
    calibration = load_calibration(written(tmp_path))
    assert calibration.encoder("sface", "s")["threshold"] == 0.4 and calibration.encoder("sface", "x") is None
    near, far = (calibration.expected_acceptance("diffusion", False, c) for c in (0.05, 0.5))
    assert near["probability"] > 0.9 > 0.5 > far["probability"] and near["low"] <= near["probability"] <= near["high"]
    assert calibration.expected_acceptance("diffusion", True, 0.1) is None
    assert calibration.expected_acceptance("diffusion", False, 0.99) is None, "nothing was measured there"
    models = calibration.values["wrong_reference"]
    assert calibration.wrong_reference({"judge": "s", "bundled": "b"}, 0.5) is models["independent"]
    assert calibration.wrong_reference({"judge": "b", "bundled": "b"}, 0.5) is models["bundled"]
    assert calibration.wrong_reference({"judge": "s", "bundled": "other"}, 0.5) is None
    assert calibration.wrong_reference({"judge": "s", "bundled": "b"}, 0.7) is None, "not fitted there"
    assert calibration.differences({"sface": "s", "bundled": "b"}, {"a": "1"}) == []
    (notice,) = calibration.differences({"sface": "s", "bundled": "z"}, {"a": "2"})
    assert "encoder bundled" in notice and "a" in notice and "may not hold" in notice


def test_a_file_that_is_no_calibration_is_refused(tmp_path):
    for text in ("{", "[]", '{"version": 99}'):
        path = tmp_path / "bad.json"
        path.write_text(text)
        load_calibration.cache_clear()
        with pytest.raises(InputError, match="calibration"):
            load_calibration(path)


def test_the_shipped_one_was_made_with_the_shipped_encoder():
    if not SHIPPED.is_file():
        pytest.skip("no calibration ships; make one with eval/calibrate.py --install")
    from idinpaint.models.weights import WeightStore

    shipped = load_calibration()
    digest = WeightStore().manifest["identity.safetensors"]["sha256"]
    assert shipped.encoder("bundled", digest)["false_accept_rate"] <= 0.01
    assert shipped.values["made"]["commit"] and shipped.values["made"]["date"]


def test_other_weights_are_told_unless_they_neither_paint_nor_judge():
    shipped = load_calibration()
    encoders = {name: entry["sha256"] for name, entry in shipped.values["encoders"].items()}
    weights = dict(shipped.values["weights"])
    assert shipped.differences(encoders, weights) == []
    assert shipped.differences(encoders, weights | {"damage.safetensors": "0" * 64}) == []
    (said,) = shipped.differences(encoders, weights | {"identity.safetensors": "0" * 64})
    assert "identity.safetensors" in said and "may not hold" in said
