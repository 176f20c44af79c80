"""The seed paper's table from a made-up summary and rows whose answer is known."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "eval"))

import paper_table  # noqa: E402
from run_store import COLUMNS  # noqa: E402

PSNR = {"telea": 25.0, "pconv": 26.0, "pdgan": 28.0, "pdgan-face": 27.0}


def write_run(folder: Path) -> None:
    """30 people in two bins, the methods apart by PSNR; and the summary's lines that the tables read."""
    rng = np.random.default_rng(0)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for method, mean in PSNR.items():
            for index in range(60):
                row = dict.fromkeys(COLUMNS, "nan") | {"method": method, "bin": ("10-20", "20-30")[index % 2]}
                row |= {"index": index // 2, "person": index // 2, "photo": f"{index}.png", "mask": "m"}
                writer.writerow(row | {"psnr": mean + rng.normal(0, 0.1), "ssim": 0.9})
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["bin", "method", "metric", "images", "people", "mean", "low", "high", "against_value"])
        for name in ("10-20", "20-30", "all"):
            for method, mean in PSNR.items():
                for metric in {*paper_table.SHOWN, *paper_table.ABLATED}:
                    writer.writerow([name, method, metric, 60, 30, mean if metric == "psnr" else 0.9, 0.8, 1.0, ""])


def test_published_figures_stand_beside_and_the_order_is_reported(tmp_path, capsys):
    write_run(tmp_path)
    assert paper_table.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "paper_table.md").read_text() == text.rstrip("\n") + "\n"
    (line,) = [x for x in text.splitlines() if x.startswith("| pdgan-face")]
    assert "27.00" in line and line.endswith("| 24.02 | 0.9593 |")
    (line,) = [x for x in text.splitlines() if x.startswith("| telea")]
    assert line.endswith("| - | - |")
    (line,) = [x for x in text.splitlines() if x.startswith("| face variant: both | -")]
    assert "worse" in line and "no difference" in line  # PSNR, and SSIM
    assert "here: PConv, face variant: both, PD-GAN. Published: PConv, PD-GAN, face variant: both." in text
    assert "Another order; 2 of the 2 differences" in text and "10-20, 20-30 %" in text


def test_a_run_without_the_systems_is_refused(tmp_path, capsys):
    with (tmp_path / "summary.csv").open("w") as file:
        file.write("bin,method,metric,images,people,mean,low,high\n10-20,telea,psnr,1,1,20,20,20\n")
    assert paper_table.main([str(tmp_path)]) == 2
    assert "benchmark-all.yaml" in capsys.readouterr().err
    with pytest.raises(paper_table.InputError):
        paper_table.build(tmp_path / "none")
