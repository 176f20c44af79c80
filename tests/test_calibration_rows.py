"""The restorations behind a calibration, and what eval/adaptive.py makes of such rows."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "eval"))

import adaptive  # noqa: E402
import calibration_rows as rows_of  # noqa: E402
from damage import Damage, whole_features  # noqa: E402
from identity_vectors import weights_of  # noqa: E402
from tables import frame  # noqa: E402

from idinpaint.data.photos import read_split  # noqa: E402
from idinpaint.faces.features import coverage, face_coverage, feature_regions  # noqa: E402
from idinpaint.judging.calibration import Calibration  # noqa: E402
from idinpaint.judging.verification import VERDICTS  # noqa: E402
from idinpaint.types import InputError  # noqa: E402

THRESHOLD = 0.4
POINTS = np.array(  # a plain face in an aligned crop: jaw, brows, nose, eyes, mouth
    [(56 + 9 * i, 128 + 90 * np.sin(np.pi * i / 16)) for i in range(17)]
    + [(70 + 10 * i, 95) for i in range(5)] + [(146 + 10 * i, 95) for i in range(5)]
    + [(128, 110 + 12 * i) for i in range(4)] + [(112 + 8 * i, 152) for i in range(5)]
    + [(80 + 8 * i, 113 + 5 * (i % 2)) for i in range(6)] + [(136 + 8 * i, 113 + 5 * (i % 2)) for i in range(6)]
    + [(100 + 5 * i, 185 + 6 * (i % 2)) for i in range(12)] + [(106 + 6 * i, 187) for i in range(8)],
    np.float64,
)  # fmt: skip


@pytest.mark.parametrize("low", [0.0, 0.05, 0.2, 0.35, 0.55])
def test_masks_hide_the_wished_share(low):
    damage = Damage([np.zeros((256, 256), bool)])
    for seed in range(4):
        mask, kind, share = damage.draw(np.random.default_rng(seed), POINTS, low, low + 0.05)
        assert mask.any() and kind in ("features", "half", "block") and low <= share < low + 0.05
        again = damage.draw(np.random.default_rng(seed), POINTS, low, low + 0.05)
        assert np.array_equal(mask, again[0]), "the same seed draws the same mask"


def test_whole_features_are_hidden_whole():
    regions = feature_regions(POINTS)
    for seed in range(10):
        shares = coverage(regions, whole_features(np.random.default_rng(seed), regions))
        assert max(shares[name] for name in ("left_eye", "right_eye", "nose", "mouth", "left_brow", "right_brow")) == 1
        assert 0 < face_coverage(shares) < 1


def test_cases_fill_all_bins_with_everybody_and_nobody_else(shared):
    config = rows_of.CalibrationConfig(images=144)
    cases = rows_of.plan_cases(config, shared / "data")
    people = set(read_split(rows_of.SPLITS / "celeba_id256_val.txt"))
    assert {c.entry.person for c in cases} <= people
    assert not people & set(read_split(rows_of.SPLITS / "celeba_id256_test.txt"))
    bins = Counter(c.mask_name.split("/")[0] for c in cases)
    assert len(bins) == 12 and max(bins.values()) == min(bins.values()) == 12
    of_one = {c.mask_name.split("/")[0] for c in cases if c.entry.person == cases[0].entry.person}
    assert len(of_one) == 12, "no person is tied to one bin"
    for case in cases:
        assert case.entry.path not in {*case.others, *case.references} and not set(case.others) & set(case.references)
    assert rows_of.plan_cases(rows_of.CalibrationConfig(images=20), shared / "data") == cases[:20]
    for bad in ({"damage": "none"}, {"split": "train"}):
        with pytest.raises(InputError):
            rows_of.CalibrationConfig(**bad)


def test_a_row_a_restoration_resumed_and_shared_out(restorer, shared, tmp_path):
    place = rows_of.Workplace(restorer, restorer.identity, shared / "data")  # the bundled encoder stands in for SFace
    config = rows_of.CalibrationConfig(images=2, methods=("telea",))
    cases = rows_of.plan_cases(config, shared / "data")
    (first,) = rows_of.run_rows(config, cases, place, tmp_path, (1, 2))
    both = rows_of.run_rows(config, cases, place, tmp_path)
    assert rows_of.key_of(both[0]) == rows_of.key_of(first) and len(both) == 2
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 2, "the other part's row is not made again"
    assert abs(float(first["coverage"]) - float(first["drawn"])) < 0.1 and -1 <= float(first["independent"]) <= 1
    assert first["strategy"] == "telea" and first["verdict"] in VERDICTS and float(first["seconds"]) > 0
    assert type(restorer.analyzer).__name__ == "FaceAnalyzer", "the restorer given is left as it was"
    stored = rows_of.stored_rows(tmp_path)
    assert len(stored) == 2 and all(tuple(row) == rows_of.COLUMNS for row in stored)


def test_rows_follow_the_weights_that_their_method_reads():
    files = {"landmarks.safetensors": "1", "pipeline/unet/x": "2", "gan/pdgan-face/x": "3"}
    other = {**files, "gan/pdgan-face/x": "4"}
    assert weights_of("diffusion+ref2", files) == weights_of("diffusion", other)
    assert weights_of("gan", files) != weights_of("gan", other) and weights_of("auto", files) != weights_of(
        "auto", other
    )
    assert weights_of("telea", files) == weights_of("telea", {"landmarks.safetensors": "1"})


def stated(method="diffusion", count=400, seed=0, shift=0.0, damage="natural") -> list[dict[str, str]]:
    """Rows whose chance of acceptance is 1 - coverage + shift."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        share = rng.uniform(0, 0.5)
        good = rng.random() < 1 - share + shift
        found.append({
            "damage": damage, "method": method, "person": f"p{i % 40}", "coverage": str(share), "whole": str(share),
            "seconds": "1.0",
            "independent": str(THRESHOLD + (0.1 if good else -0.1)), "strategy": method.partition("+")[0],
            "visible": str(0.9 if good else 0.3), "given": str(0.8 if good else 0.1),
        })  # fmt: skip
    return found


LINE = {"coverage": [0, 1], **dict.fromkeys(("probability", "low", "high"), [1, 0])}
TRUTH = Calibration({"acceptance": {"diffusion": {"without_references": LINE, "with_references": LINE}}}, "")


def test_probabilities_that_hold_have_a_small_error_and_others_a_large_one():
    (row, same) = adaptive.reliability(frame(stated()), TRUTH, THRESHOLD, 50)
    assert (row["method"], same["method"]) == ("all", "diffusion") and row["ece"] == same["ece"]
    assert row["ece"][0] <= row["ece_by_chance"][1] and row["people"] == 40 and len(row["points"]) == adaptive.BINS
    (wrong, _) = adaptive.reliability(frame(stated(shift=-0.3)), TRUTH, THRESHOLD, 50)
    assert wrong["ece"][1] > 0.2 > wrong["ece_by_chance"][1]


def test_adapting_is_worth_what_it_delivers_and_refuses():
    auto = stated("auto")
    for row in auto:
        row["strategy"] = "abstain" if float(row["coverage"]) > 0.25 else "diffusion"
    plain, chosen = adaptive.value_of_adapting(frame([*stated(), *auto]), THRESHOLD, 50)
    assert plain["delivered"][0] == 1 and chosen["delivered"][0] < 0.6
    assert chosen["false_of_delivered"][0] < plain["false_of_delivered"][0] == pytest.approx(0.25, abs=0.05)
    assert chosen["strategies"]["abstain"] + chosen["strategies"]["diffusion"] == 400


def test_abstaining_by_a_good_sign_lowers_the_risk(tmp_path):
    rows = frame([*stated(), *stated("diffusion+ref2")])
    curves = {r["sureness"]: r for r in adaptive.selective_risk(rows, TRUTH, THRESHOLD)}
    perfect, share = curves["likeness to the visible part"], curves["expected acceptance"]
    assert perfect["risk"][6] == 0 < share["risk"][6] < share["without_choice"] and perfect["area"] < share["area"]
    assert share["risk"] == curves["coverage alone"]["risk"]
    values = {
        "reliability": adaptive.reliability(rows, TRUTH, THRESHOLD, 20),
        "value": adaptive.value_of_adapting(rows, THRESHOLD, 20), "selective_risk": list(curves.values()),
    }  # fmt: skip
    adaptive.write_plots(values, tmp_path)
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("reliability.png", "selective_risk.png"))
    table = adaptive.markdown(values)
    assert "| natural | all |" in table and "| likeness to 2 references |" in table
