"""The A/B verdict, its gate and the study's ranking on made-up runs whose answer is known."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))

import compare  # noqa: E402
import study  # noqa: E402
from run_store import COLUMNS  # noqa: E402

from idinpaint.types import InputError  # noqa: E402


def write_run(folder: Path, method: str, seed: int, lpips: float = 0.1, mask: str = "m") -> Path:
    """40 people, one photo each; LPIPS and identity with noise of the run's own, PSNR the same in all."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for index in range(40):
            row = dict.fromkeys(COLUMNS, "nan") | {"method": method, "bin": "10-20", "index": index}
            row |= {"person": index, "photo": f"{index}.png", "mask": mask, "hidden": "none", "psnr": 20 + index % 5}
            row |= {"lpips_alex": lpips + rng.normal(0, 0.01), "identity_original": 0.7 + rng.normal(0, 0.05)}
            row |= {"coverage": index / 50, "hole_ratio": 0.15, "lpips_vgg": 0.2, "psnr_hole": 20.0, "seconds": 0.1}
            writer.writerow(row | {"identity_other": 0.6, "identity_other_ceiling": 0.64})
    return folder


@pytest.fixture
def runs(tmp_path) -> dict[str, Path]:
    return {
        "a": write_run(tmp_path / "a", "telea", 0),
        "again": write_run(tmp_path / "again", "telea", 1),
        "masks": write_run(tmp_path / "masks", "telea", 2, mask="other"),
        "better": write_run(tmp_path / "better", "gan", 3, lpips=0.07),
    }


def test_two_runs_of_one_method_are_not_told_apart(runs, capsys):
    for other in ("again", "masks"):
        assert compare.main([str(runs["a"]), str(runs[other]), "--gate"]) in (0, 1)
        assert "Verdict: no difference." in capsys.readouterr().out
    assert compare.main([str(runs["a"]), str(runs["a"]), "--gate", "lpips_alex=0"]) == 0
    assert "same photos and masks" in capsys.readouterr().out


def test_a_better_method_is_named_with_its_margin(runs, tmp_path, capsys):
    command = [str(runs["a"]), str(runs["better"]), "--methods", "telea:gan", "--json", str(tmp_path / "r.json")]
    assert compare.main(command) == 0
    assert "B is better in 1 of" in capsys.readouterr().out
    (result,) = json.loads((tmp_path / "r.json").read_text()).values()
    tests = {t["metric"]: t for t in result["tests"]}
    assert tests["lpips_alex"]["difference"] == pytest.approx(-0.03, abs=0.005)
    assert tests["lpips_alex"]["low"] < -0.03 < tests["lpips_alex"]["high"] and tests["lpips_alex"]["effect"] < -1
    assert tests["psnr"]["verdict"] == tests["identity_original"]["verdict"] == "no difference"


def test_the_gate_fails_on_a_worse_run_and_on_a_missing_metric(runs, capsys):
    back = [str(runs["better"]), str(runs["a"]), "--methods", "gan:telea", "--gate"]
    assert compare.main([*back, "lpips_alex=0.005"]) == 1
    assert "lpips_alex: worse by 0.0" in capsys.readouterr().out
    assert compare.main([*back, "lpips_alex=0.05"]) == 0
    assert compare.main([*back, "ms_ssim=0.1"]) == 1
    assert compare.main([*back, "fame=1"]) == 2 and compare.main([*back[:2]]) == 2


def test_holm_corrects_for_the_number_of_metrics():
    assert compare.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert compare.sign_test(np.array([1, 1, 1, 1, -1, 0.0])) == (4, 1, pytest.approx(12 / 32))


def test_the_verdict_rarely_sees_what_is_not_there():
    rng = np.random.default_rng(0)
    p = [compare.bootstrap(rng.normal(size=40), 400)[2] for _ in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.12


def test_bradley_terry_finds_the_strengths_that_made_the_votes():
    truth, rng = {"a": 1.0, "b": 0.0, "c": -1.0}, np.random.default_rng(0)
    votes = []
    for trial in range(1500):
        a, b = rng.permutation(list(truth))[:2]
        won = rng.random() < 1 / (1 + np.exp(truth[b] - truth[a]))
        votes.append((str(a), str(b), float(won), str(trial)))
    rows = study.score_votes(votes, draws=40)
    assert [r["method"] for r in rows] == ["a", "b", "c"]
    assert all(abs(r["strength"] - truth[r["method"]]) < 0.25 and r["low"] < r["strength"] < r["high"] for r in rows)
    even = study.bradley_terry([("a", "b", 0.5, "0")] * 4, ["a", "b"])
    assert even == pytest.approx([0, 0])
    assert np.isfinite(study.bradley_terry([("a", "b", 1.0, "0")] * 9, ["a", "b"])).all()


def test_pairs_are_balanced_and_sides_are_drawn():
    plan = study.plan_pairs(["a", "b", "c"], 5, 300, 0)
    sides = {pair: sum((left, right) == pair for _, left, right in plan) for pair in (("a", "b"), ("b", "a"))}
    assert sum(sides.values()) == 100 and 30 < sides["a", "b"] < 70
    assert len({case for case, *_ in plan[:5]}) == 5
    with pytest.raises(InputError, match="at least two"):
        study.plan_pairs(["a"], 5, 3, 0)


def test_votes_of_another_study_or_sent_twice_are_refused(tmp_path):
    trial = {"left": "gan", "right": "telea", "case": "x", "person": "p"}
    (tmp_path / "key.json").write_text(json.dumps({"id": "s", "trials": {"0": trial}}))

    def votes(name: str, study_id: str, choice: str = "left") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({"study": study_id, "voter": "v", "votes": [{"trial": "0", "choice": choice}]}))
        return path

    good = votes("good.json", "s")
    assert study.read_votes(tmp_path, [good]) == [("gan", "telea", 1.0, "0")]
    for files in ([votes("other.json", "t")], [good, good], [votes("odd.json", "s", "both")]):
        with pytest.raises(InputError):
            study.read_votes(tmp_path, files)
    assert study.main(["score", str(tmp_path), str(good)]) == 0


def test_report_is_one_page_without_links_and_under_the_limit(runs, capsys):
    import report

    (runs["a"] / "summary.csv").write_text(
        "bin,method,metric,images,people,mean,low,high,against_telea,against_value,against_low,against_high\n"
        "10-20,telea,psnr_hole,40,40,20.000000,19.0,21.0,,,,\n10-20,telea,fid,40,40,nan,nan,nan,,,,\n"
    )
    assert report.main([str(runs["a"]), "--draws", "50"]) == 0
    page = (runs["a"] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "http" not in page and len(page) < report.LARGEST
    assert "20.00" in page and ">FID<" not in page and "feature coverage" in page
    assert "| feature coverage | 0-5 % | telea | 3 |" in (runs["a"] / "report.md").read_text()
    assert report.main([str(runs["better"])]) == 2 and "summary.csv" in capsys.readouterr().err


def test_examples_are_best_worst_and_drawn_without_looking(runs):
    import report

    rows = report.load_rows(runs["a"])["telea"]
    chosen = report.choose(rows, "lpips_alex")
    values = sorted(rows["lpips_alex"])
    assert chosen["best"]["lpips_alex"].tolist() == values[:3]
    assert chosen["worst"]["lpips_alex"].tolist() == values[::-1][:3]
    other = report.choose(rows.assign(lpips_alex=0), "lpips_alex")
    assert other["random"]["index"].tolist() == chosen["random"]["index"].tolist()
