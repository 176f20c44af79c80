"""The files of one result: the photo, report as JSON and as a page, comparison, map of what was invented."""

from __future__ import annotations

import argparse
import base64
import io
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from idinpaint.cli.jobs import Job
from idinpaint.imaging.encoders import write_atomic
from idinpaint.imaging.photo import Photo, save_photo
from idinpaint.imaging.staging import staging
from idinpaint.report import visuals
from idinpaint.report.provenance import xmp_packet
from idinpaint.report.reporting import summary_lines, to_plain, verdict_words
from idinpaint.types import Restoration

WRITTEN = ("output", "report", "picture", "html", "invented", "found")  # the files of a Job
PAGE_WIDTH = 1000  # px, of the pictures in the page
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
    "pre{background:#f5f5f5;padding:1em;overflow:auto;font-size:13px}.verdict{font-size:1.4em;font-weight:bold}"
)


def write_files(
    job: Job,
    photo: Photo,
    mask: np.ndarray,
    restoration: Restoration,
    notices: list[str],
    args: argparse.Namespace,
    start: float,
) -> dict[str, Any]:
    """Writes all files of a job, or none; returns the report. notices: grows by what was converted; start: s."""
    report, signer = dict(restoration.report), args.credentials
    with staging() as staged:
        places = {name: staged.place(path) for name in WRITTEN if (path := getattr(job, name))}
        there = replace(job, **places)
        write_pictures(there, photo.rgb, mask, restoration)
        xmp = xmp_packet(report) if mask.any() else None  # nothing was done to it: nothing is said or signed
        save = partial(save_photo, photo, restoration.image, mask, xmp=xmp)
        notices += (
            save(there.output) if signer is None or xmp is None else signer.save(save, there.output, job.image, report)
        )
        files = {
            "image": job.image,
            "mask": job.mask or job.found,
            "output": job.output,
            "references": list(args.reference),
        }
        seconds = time.monotonic() - start
        report = to_plain({**report, "files": files, "notices": notices, "seconds_total": seconds})
        if there.report:
            write_json(there.report, report)
        if there.html:
            write_page(there.html, report, photo.rgb, mask, restoration)
    return report


def write_json(path: Path, value: Any) -> None:
    """Plain JSON, indented, all or nothing."""
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_pictures(job: Job, rgb: np.ndarray, mask: np.ndarray, restoration: Restoration) -> None:
    """The comparison, the map of what was invented (black where nothing was) and the mask that was found, where they
    are asked for."""
    if job.picture:
        visuals.save_picture(job.picture, beside_input(rgb, mask, restoration))
    if job.invented:
        blank = np.zeros(mask.shape, np.uint8)
        visuals.save_picture(job.invented, blank if restoration.invented is None else restoration.invented)
    if job.found:
        visuals.save_picture(job.found, np.where(mask, np.uint8(255), np.uint8(0)))


def beside_input(rgb: np.ndarray, mask: np.ndarray, restoration: Restoration) -> np.ndarray:
    """The comparison picture, with the verdict."""
    verdict = verdict_words(restoration.report)
    done = "not restored: abstained" if restoration.abstained else "restored" + f", {verdict}" * bool(verdict)
    return visuals.comparison(rgb, mask, restoration.image, restoration.candidates, restoration.picked, done)


def write_page(
    path: Path, report: Mapping[str, Any], rgb: np.ndarray, mask: np.ndarray, restoration: Restoration
) -> None:
    """The report as one HTML file that needs no other: pictures are inside."""
    text = render_page(report, rgb, mask, restoration)
    write_atomic(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def render_page(report: Mapping[str, Any], rgb: np.ndarray, mask: np.ndarray, restoration: Restoration) -> str:
    """HTML text; everything that comes from outside is escaped."""
    pictures = {
        "The damage marked, the result, the candidates": beside_input(rgb, mask, restoration),
        "What the analysis saw": visuals.overlay(rgb, mask, restoration.faces, restoration.decision),
    }
    if restoration.invented is not None:
        pictures["Where the candidates disagree (bright: invented differently)"] = restoration.invented
    verdict = verdict_words(report) or "no face judged"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>idinpaint report</title><style>{_STYLE}</style>",
        "<h1>What was done to this picture</h1>",
        f"<p class=verdict>{escape(report['status'])}, {escape(verdict)}</p>",
        f"<p>{escape(report['decision']['strategy'])} ({escape(report['decision']['rule'])}): "
        f"{escape(report['decision']['reason'])}</p>",
        "".join(f"<p>{escape(line)}</p>" for line in summary_lines(report)),
        "".join(f"<p><b>Note:</b> {escape(str(line))}</p>" for line in report["notices"]),
    ]
    for title, picture in pictures.items():
        parts.append(f"<h2>{escape(title)}</h2>{_image(picture, title)}")
    parts += [_coverage_table(report), _candidate_table(report), _reference_table(report)]
    everything = escape(json.dumps(to_plain(report), indent=1, ensure_ascii=False))
    parts.append(f"<details><summary>Everything</summary><pre>{everything}</pre></details></html>\n")
    return "\n".join(parts)


def _image(picture: np.ndarray, title: str) -> str:
    file = io.BytesIO()
    Image.fromarray(visuals.shrink(picture, PAGE_WIDTH)).save(file, "PNG")
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _table(title: str, heads: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return ""
    cells = "".join("<tr>" + "".join(f"<td>{escape(_text(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{''.join(f'<th>{escape(h)}</th>' for h in heads)}</tr>{cells}</table>"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _coverage_table(report: Mapping[str, Any]) -> str:
    rows = [
        [number, name.replace("_", " "), f"{100 * share:.1f} %"]
        for number, face in enumerate(report["faces"], 1)
        for name, share in face["coverage"].items()
    ]
    return _table("Hidden features", ["face", "feature", "hidden"], rows)


def _candidate_table(report: Mapping[str, Any]) -> str:
    names = ["seed", "identity_similarity", "seam", "apart", "landmark_shift", "reason", "shown"]
    rows = [[n, *(c.get(k) for k in names)] for n, f in enumerate(report["faces"], 1) for c in f["candidates"]]
    return _table("Candidates, best first", ["face", *(name.replace("_", " ") for name in names)], rows)


def _reference_table(report: Mapping[str, Any]) -> str:
    rows = [[r["name"], "yes" if r["used"] else "left out", r["weight"]] for r in report["references"]]
    rows = [[*row, r["similarity_to_others"]] for row, r in zip(rows, report["references"])]
    return _table("Reference photos", ["photo", "used", "weight", "similarity to the others"], rows)
