"""The command line against a stand-in Restorer: parsing, files, folders, reports, exit statuses; no networks."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import idinpaint
from idinpaint.cli import doctor, main
from idinpaint.cli.parser import build_parser
from idinpaint.imaging.compositing import mark_hole
from idinpaint.imaging.telea import coarse_fill
from idinpaint.judging.controller import decide
from idinpaint.report.reporting import build_report, face_report, versions
from idinpaint.types import Candidate, FaceAnalysis, InputError, Restoration

HOLE = np.zeros((60, 80), bool)
HOLE[10:30, 20:50] = True
SHARES = {"left_eye": 0.5, "right_eye": 0.0}


def a_face(coverage):
    crop = np.zeros((256, 256, 3), np.uint8)
    eye = np.ones((1, 3))
    points = np.linspace(20, 220, 136).reshape(68, 2)
    matrix = np.hstack([np.eye(2) * 0.2, [[10.0], [5.0]]])
    share = dict(SHARES, skin=coverage)
    return FaceAnalysis((10, 5, 50, 50), matrix, crop, crop[..., 0] > 0, points, np.ones(68), {}, share, coverage, eye)


class StandIn:
    """Fills with Telea; the red value of the first pixel sets the coverage in per cent."""

    calls: list[dict] = []

    @classmethod
    def from_pretrained(cls, name_or_path="default", device="auto", **settings):
        if name_or_path == "broken":
            raise InputError("weights: sha256 differs")
        if name_or_path == "bug":
            raise TypeError("two\nlines")
        return cls()

    def __call__(self, image, mask, progress=None, **options):
        StandIn.calls.append(options)
        progress("painting the face")
        face = a_face(int(image[0, 0, 0]) / 100)
        decision = decide(face.coverage, face.face_coverage, float(mask.mean()), False, force=options["force"])
        result = mark_hole(image, mask) if decision.strategy == "abstain" else coarse_fill(image, mask)
        made = [Candidate(np.full((256, 256, 3), 60 * i, np.uint8), i, 0.5 - i / 10) for i in range(3)]
        rows = [face_report(face, decision, made)]
        extra = {"seed": options["seed"], "hole_ratio": float(mask.mean()), "references": [], "versions": versions()}
        report = build_report(decision, rows, "plausible", ["a notice"], **extra)
        invented = np.where(mask, 40, 0).astype(np.uint8)
        return Restoration(result, [made], decision, report, [face], invented)

    def analyze(self, image, mask, face_box=None):
        face = a_face(int(image[0, 0, 0]) / 100)
        return [face], decide(face.coverage, face.face_coverage, float(mask.mean()), False)

    def verify(self, photo_a, photo_b):
        return {"similarity": 0.5, "threshold": 0.3, "verdict": "same", "text": "the same person"}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    StandIn.calls = []
    monkeypatch.setitem(sys.modules, "idinpaint.restorer", types.SimpleNamespace(Restorer=StandIn))


def picture(path, coverage=10, mode="RGB"):
    ys, xs = np.mgrid[:60, :80]
    rgb = np.stack([xs * 2, ys * 3, xs + ys], -1).astype(np.uint8)
    rgb[0, 0] = coverage
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(rgb).convert(mode).save(path)
    return str(path)


def mask_file(path, hole=HOLE):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray((hole * 255).astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture
def files(tmp_path):
    return picture(tmp_path / "a.png"), mask_file(tmp_path / "m.png"), tmp_path


def test_restore_writes_photo_report_and_comparison(files, capsys):
    photo, mask, folder = files
    out = folder / "new" / "o.png"
    sides = ["--report", str(folder / "r.json"), "--comparison", str(folder / "c.png")]
    sides += ["--report-html", str(folder / "r.html"), "--invented", str(folder / "i.png"), "--max-coverage", "40%"]
    command = ["restore", photo, "--mask", mask, "-o", str(out), "--seed", "7", "--steps", "3", "--num-samples", "2"]
    assert main([*command, *sides, "--face-box", "1,2,30,40", "--reference", photo]) == 0
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(out))
    assert np.array_equal(before[~HOLE], after[~HOLE])
    options = StandIn.calls[0]
    assert (options["seed"], options["steps"], options["num_samples"]) == (7, 3, 2)
    assert options["face_box"] == [(1, 2, 30, 40)] and [str(p) for p in options["references"]] == [photo]
    report = json.loads((folder / "r.json").read_text())
    assert report["decision"]["strategy"] == "diffusion" and report["notices"] == ["a notice"]
    assert report["files"]["output"] == str(out)
    assert Image.open(folder / "c.png").width == 2 * 80 + 8
    printed = capsys.readouterr()
    assert "painting the face ..." in printed.out and "restored (diffusion)" in printed.out
    assert printed.err == "idinpaint: warning: a notice\n"
    assert sorted(os.listdir(folder)) == ["a.png", "c.png", "i.png", "m.png", "new", "r.html", "r.json"]
    assert options["max_coverage"] == 0.4 and report["schema_version"]
    assert set(np.unique(np.asarray(Image.open(folder / "i.png"))[HOLE])) == {40}
    page = (folder / "r.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "http" not in page.split("<details>")[0]
    assert "face 1: left eye hidden" in printed.out and "face 1: left eye hidden" in page


@pytest.mark.parametrize("name", ["o.png", "o.jpg", "o.webp", "o.tif"])
def test_the_output_says_what_was_done_to_it(files, name):
    photo, mask, folder = files
    assert main(["restore", photo, "--mask", mask, "-o", str(folder / name), "--seed", "5"]) == 0
    data = (folder / name).read_bytes()
    assert b"compositeWithTrainedAlgorithmicMedia" in data and b"&quot;" not in data
    assert b'"strategy": "diffusion"' in data and b'"seed": 5' in data and b'"verdict": "plausible"' in data
    assert data.count(b"<x:xmpmeta") == 1 and np.asarray(Image.open(folder / name)).shape == (60, 80, 3)


def test_the_page_escapes_what_comes_from_outside(tmp_path):
    photo, mask = picture(tmp_path / "<b>x.png"), mask_file(tmp_path / "m.png")
    command = [
        "restore",
        photo,
        "--mask",
        mask,
        "-o",
        str(tmp_path / "o.png"),
        "--report-html",
        str(tmp_path / "r.html"),
    ]
    assert main(command) == 0
    assert "<b>x.png" not in (tmp_path / "r.html").read_text()


def test_a_wrong_controller_file_is_told_before_anything_is_loaded(files, capsys):
    photo, mask, folder = files
    (folder / "c.yaml").write_text("stopp: 0.3")
    command = ["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--controller", str(folder / "c.yaml")]
    assert main(command) == 2 and not StandIn.calls
    assert "did you mean `stop`" in capsys.readouterr().err


def test_abstention_is_status_3_with_the_hole_marked(files, capsys):
    _, mask, folder = files
    photo = picture(folder / "b.png", coverage=45)
    assert main(["restore", photo, "--mask", mask, "-o", str(folder / "o.png")]) == 3
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(folder / "o.png"))
    assert np.array_equal(before[~HOLE], after[~HOLE])
    assert set(np.unique(after[HOLE])) == {88, 128}
    assert "abstained" in capsys.readouterr().out
    assert main(["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--force"]) == 0


def test_formats_follow_the_extension_and_grey_stays_grey(files):
    _, mask, folder = files
    photo = picture(folder / "g.png", mode="L")
    for name, mode in (("o.jpg", "L"), ("o.tif", "L"), ("o.png", "L")):
        assert main(["restore", photo, "--mask", mask, "-o", str(folder / name)]) == 0
        assert Image.open(folder / name).mode == mode


def test_comparison_is_at_most_2400_px_wide(tmp_path):
    photo, mask = (
        str(tmp_path / "a.png"),
        mask_file(tmp_path / "m.png", np.arange(3000 * 100).reshape(100, 3000) % 7 == 0),
    )
    Image.new("RGB", (3000, 100), (10, 0, 0)).save(photo)
    command = ["restore", photo, "--mask", mask, "-o", str(tmp_path / "o.png"), "--comparison", str(tmp_path / "c.png")]
    assert main(command) == 0
    assert Image.open(tmp_path / "c.png").width == 2400


def read_summary(folder):
    with open(folder / "summary.csv", newline="") as file:
        return {os.path.basename(row["image"]): row for row in csv.DictReader(file)}


@pytest.fixture
def folders(tmp_path):
    for name in ("one.png", "two.jpg", "three.gif"):
        picture(tmp_path / "in" / name)
        mask_file(tmp_path / "masks" / f"{name.split('.')[0]}.png")
    return tmp_path


def folder_command(folder, *more):
    return ["restore", str(folder / "in"), "--mask", str(folder / "masks"), "-o", str(folder / "out"), *more]


def test_folder_pairs_by_stem_and_sums_up(folders, capsys):
    sides = ["--report", str(folders / "reports"), "--comparison", str(folders / "looks")]
    assert main(folder_command(folders, *sides)) == 0
    assert sorted(os.listdir(folders / "out")) == ["one.png", "summary.csv", "three.png", "two.jpg"]
    assert sorted(os.listdir(folders / "reports")) == ["one.json", "three.json", "two.json"]
    assert sorted(os.listdir(folders / "looks")) == ["one.png", "three.png", "two.png"]
    rows = read_summary(folders / "out")
    assert {row["status"] for row in rows.values()} == {"restored"} and rows["one.png"]["identity_similarity"] == "0.5"
    printed = capsys.readouterr()
    assert "3 photos: 3 restored, 0 abstained, 0 bad" in printed.out and "[1/3] one.png: reading" in printed.out


def test_a_signal_leaves_the_summary_of_what_was_done(folders, monkeypatch, capsys):
    """Not that of an earlier run."""
    (folders / "out").mkdir()
    (folders / "out" / "summary.csv").write_text("image,status\nof an earlier run,restored\n")
    real = StandIn.__call__

    def second_is_stopped(self, *words, **options):
        if len(StandIn.calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *words, **options)

    monkeypatch.setattr(StandIn, "__call__", second_is_stopped)
    assert main(folder_command(folders)) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "idinpaint: error: terminated"
    assert list(read_summary(folders / "out")) == ["one.png"]
    assert sorted(os.listdir(folders / "out")) == ["one.png", "summary.csv"]


def test_one_bad_file_does_not_stop_the_rest(folders, capsys):
    (folders / "in" / "bad.jpg").write_bytes(b"not a picture")
    mask_file(folders / "masks" / "bad.png")
    picture(folders / "in" / "alone.png")
    picture(folders / "in" / "much.png", coverage=60)
    mask_file(folders / "masks" / "much.png")
    (folders / "in" / "notes.txt").write_text("x")
    assert main(folder_command(folders)) == 2
    rows = read_summary(folders / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.png": "restored", "two.jpg": "restored", "three.gif": "restored",
        "bad.jpg": "error", "alone.png": "error", "much.png": "abstained",
    }  # fmt: skip
    assert "no mask named alone.*" in rows["alone.png"]["message"] and "not a picture" in rows["bad.jpg"]["message"]
    printed = capsys.readouterr()
    assert "6 photos: 3 restored, 1 abstained, 2 bad" in printed.out
    errors = [line for line in printed.err.splitlines() if "error" in line]
    assert len(errors) == 2 and "notes.txt" in printed.err and "Traceback" not in printed.err


def test_folder_with_an_abstention_is_status_3(folders):
    picture(folders / "in" / "one.png", coverage=60)
    assert main(folder_command(folders)) == 3


def test_a_bug_in_one_photo_does_not_stop_the_rest(folders, monkeypatch, capsys):
    inner = StandIn.__call__

    def fail_once(self, image, mask, **options):
        if not StandIn.calls:
            StandIn.calls.append({})
            raise RuntimeError("went\nwrong")
        return inner(self, image, mask, **options)

    monkeypatch.setattr(StandIn, "__call__", fail_once)
    assert main(folder_command(folders)) == 2
    assert [row["status"] for row in read_summary(folders / "out").values()].count("restored") == 2
    assert "RuntimeError: went wrong" in capsys.readouterr().err


def test_one_mask_may_serve_all(folders):
    command = ["restore", str(folders / "in"), "--mask", str(folders / "masks" / "one.png"), "-o", str(folders / "out")]
    assert main(command) == 0
    assert len(read_summary(folders / "out")) == 3


def test_photos_with_one_stem_get_two_outputs(folders):
    picture(folders / "in" / "one.jpg")
    assert main(folder_command(folders)) == 0
    assert {"one.jpg", "one_png.png"} <= set(os.listdir(folders / "out"))


@pytest.mark.parametrize("out, said", [("o.png", "must name a folder"), ("in", "folder of the input")])
def test_folder_outputs_are_checked(folders, capsys, out, said):
    command = ["restore", str(folders / "in"), "--mask", str(folders / "masks"), "-o", str(folders / out)]
    assert main(command) == 2
    assert said in capsys.readouterr().err and sorted(os.listdir(folders)) == ["in", "masks"]


def test_analyze_text_json_and_overlay(files, capsys):
    photo, mask, folder = files
    assert main(["analyze", photo, "--mask", mask, "--overlay", str(folder / "v.png")]) == 0
    text = capsys.readouterr().out
    assert "1 face touched" in text and "decision: diffusion" in text
    assert Image.open(folder / "v.png").width == 80
    assert main(["analyze", photo, "--mask", mask, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["faces"][0]["coverage"]["left_eye"] == 0.5 and len(result["faces"][0]["landmarks"]) == 68
    assert result["decision"]["strategy"] == "diffusion" and result["hole_ratio"] == pytest.approx(HOLE.mean())


def test_analyze_a_folder_as_json(folders, capsys):
    assert main(["analyze", str(folders / "in"), "--mask", str(folders / "masks"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


def test_verify(files, capsys):
    photo = files[0]
    assert main(["verify", photo, photo]) == 0
    assert capsys.readouterr().out == "the same person\n"
    assert main(["verify", photo, photo, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == 0.3


def test_doctor_says_what_is_there_and_how_to_get_the_rest(capsys):
    status = main(["doctor"])
    text = capsys.readouterr().out
    for word in (
        "Python",
        "torch",
        "diffusers",
        "cpu",
        "weights",
        "insightface",
        "face-alignment",
        "yunet",
    ):
        assert word in text
    assert status == (0 if text.endswith("ready\n") and "not ready" not in text else 2)


def test_doctor_names_missing_packages(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else "1")
    lines, ok = doctor.report()
    assert not ok and any("MISSING: pip install torch" in line for line in lines)


@pytest.mark.parametrize(
    "extra, said",
    [
        (["--num-samples", "0"], "--num-samples"),
        (["--steps", "x"], "--steps"),
        (["--seed", "-1"], "--seed"),
        (["--strategy", "magic"], "--strategy"),
        (["--face-box", "1,2,3"], "--face-box"),
        (["--face-box", "1,2,0,5"], "--face-box"),
        (["--face-box", "900,2,5,5"], "outside of the 80x60 photo"),
        (["--device", "tpu"], "--device"),
        (["--max-coverage", "120"], "--max-coverage"),
        (["--unknown"], "--unknown"),
        (["--model", "broken"], "sha256 differs"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(files, capsys, extra, said):
    photo, mask, folder = files
    try:
        status = main(["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), *extra])
    except SystemExit as error:
        status = error.code
    err = capsys.readouterr().err
    assert status == 2 and said in err and err.count("\n") == 1
    assert not (folder / "o.png").exists()


def test_an_internal_error_is_one_line_too(files, capsys):
    photo, mask, folder = files
    assert main(["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--model", "bug"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "TypeError: two lines" in err


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as error:
        main([])
    assert error.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as error:
        build_parser().parse_args(["restore", "--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    options = "mask output reference strategy num-samples steps seed report comparison invert-mask model device force"
    assert all(f"--{option}" in text for option in options.split())


def test_module_runs_as_a_process_without_torch(tmp_path):
    """--help, --version and bad input answer at once: neither torch nor diffusers is imported."""
    code = (
        "import sys; from idinpaint.cli import main\n"
        "status = main(['restore', 'missing.png', '--mask', 'm.png', '-o', 'o.png'])\n"
        "sys.exit(status if not {'torch', 'diffusers'} & set(sys.modules) else 99)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(idinpaint.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr == "idinpaint: error: missing.png: no such file\n"


def test_a_folder_of_references_and_a_candidate_by_hand(files, capsys):
    photo, mask, folder = files
    for name in ("r2.png", "r1.png", "notes.txt"):
        picture(folder / "refs" / name) if name.endswith("png") else (folder / "refs" / name).write_text("x")
    words = ["restore", photo, "--mask", mask, "-o", str(folder / "o.png"), "--report", str(folder / "r.json")]
    assert main([*words, "--reference", str(folder / "refs"), "--candidate", "3"]) == 0
    assert [p.name for p in StandIn.calls[0]["references"]] == ["r1.png", "r2.png"]
    report = json.loads((folder / "r.json").read_text())
    assert report["verdict"] == "not_verified" and report["faces"][0]["candidates"][0]["seed"] == 2
    told = capsys.readouterr()
    assert "candidate 3 was picked by hand" in told.err
    assert "kept: one of 3 tries, picked by hand" in told.out and "not verified: nobody has compared" in told.out
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(folder / "o.png"))
    assert np.array_equal(before[~HOLE], after[~HOLE]) and (after[HOLE] == 120).any()  # that candidate's grey
    (folder / "none").mkdir()
    for more, said in (
        (["--reference", str(folder / "none")], "no pictures in this folder"),
        (["--candidate", "5"], "raise --num-samples"),
        (["--candidate", "4"], "there are 3"),
    ):
        assert main([*words, *more]) == 2
        told = capsys.readouterr().err
        assert said in told and told.count("\n") == 1


def test_results_that_are_there_are_passed_over(folders, capsys):
    assert main(folder_command(folders)) == 0
    before = read_summary(folders / "out")
    (folders / "out" / "one.png").unlink()
    (folders / "out" / "two.jpg").write_bytes(b"mine")
    StandIn.calls = []
    assert main(folder_command(folders, "--skip-existing")) == 0
    assert len(StandIn.calls) == 1 and (folders / "out" / "two.jpg").read_bytes() == b"mine"
    assert "1 restored, 0 abstained, 0 bad, 2 passed over" in capsys.readouterr().out
    after = read_summary(folders / "out")
    assert after["one.png"]["status"] == "restored"
    assert all(after[name] == before[name] for name in ("two.jpg", "three.gif"))  # what was said of them is kept
    summary = folders / "out" / "summary.csv"
    summary.write_text(summary.read_text().replace("restored", "abstained", 1))
    StandIn.calls = []
    capsys.readouterr()
    assert main(folder_command(folders, "--skip-existing")) == 0
    assert len(StandIn.calls) == 1, "a hole that was left marked is tried again"
    assert "1 restored, 0 abstained, 0 bad, 2 passed over" in capsys.readouterr().out
    summary.unlink()
    assert main(folder_command(folders, "--skip-existing")) == 0
    assert {row["status"] for row in read_summary(folders / "out").values()} == {"skipped"}
    assert main(folder_command(folders, "--candidate", "2")) == 2
    assert "not for a folder" in capsys.readouterr().err
