"""Options of `restore` for many photos and many candidates, and the table that a folder's work leaves."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from idinpaint.types import InputError

COLUMNS = (
    ("image", "mask", "output", "status", "strategy", "rule", "forced", "face_coverage", "hole_ratio")
    + ("verdict", "identity_similarity", "seconds", "message")
)  # fmt: skip


def add_restore_options(parser: argparse.ArgumentParser, whole_number: Callable[..., Any]) -> None:
    """--candidate, --skip-existing, --recursive, --keep-candidates, --grain; whole_number: an argparse type."""
    parser.add_argument(
        "--candidate", type=whole_number(1, 64), default=1, metavar="N", help="take the N-th best of --num-samples (1)"
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="pass over photos whose result is there already; not those from which summary.csv says it abstained",
    )
    parser.add_argument("--recursive", action="store_true", help="a folder's sub-folders too, under the same names")
    parser.add_argument(
        "--keep-candidates", type=Path, metavar="DIR", help="write every candidate as a photo of its own, best first"
    )
    parser.add_argument(
        "--grain", choices=("auto", "none"), default="auto", help="the fill gets the photo's own grain (auto)"
    )


def check_restore_options(args: argparse.Namespace) -> None:
    """InputError for options that do not go together, before anything is loaded. Folders of references are opened."""
    if args.candidate > args.num_samples:
        raise InputError(f"--candidate {args.candidate}: only {args.num_samples} are painted; raise --num-samples")
    if args.candidate > 1 and args.image.is_dir():
        raise InputError(f"--candidate {args.candidate}: picks one by eye, so it is for one photo, not for a folder")
    if args.recursive and not args.image.is_dir():
        raise InputError(f"--recursive: {args.image} is no folder; leave it out for one photo")
    if args.keep_candidates is not None and args.keep_candidates.exists() and not args.keep_candidates.is_dir():
        raise InputError(f"--keep-candidates {args.keep_candidates}: is a file, a folder is needed")
    args.reference = list(reference_files(args.reference))


def reference_files(given: Sequence[Path]) -> tuple[Path, ...]:
    """The files that --reference names; a folder stands for the pictures in it, by name. InputError for one without."""
    from idinpaint.cli.jobs import visible_files
    from idinpaint.imaging.formats import is_picture

    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        pictures = [file for file in visible_files(path) if is_picture(file)]
        if not pictures:
            raise InputError(f"--reference {path}: no pictures in this folder")
        found += pictures
    return tuple(found)


def earlier_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a summary that an earlier run wrote, by their photo; none where there is none that can be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {row["image"]: row for row in csv.DictReader(file) if row.keys() == set(COLUMNS)}
    except (OSError, KeyError, csv.Error):
        return {}


def write_summary(path: Path, rows: list[dict[str, Any]], earlier: Mapping[str, dict[str, Any]]) -> None:
    """One line a photo, CSV with a header. earlier: `earlier_rows` of that file; a photo that was passed over keeps its
    line."""
    from idinpaint.imaging.encoders import write_atomic
    from idinpaint.report.reporting import to_plain

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in to_plain(rows):
        writer.writerow(earlier.get(row["image"], row) if row["status"] == "skipped" else row)
    data = text.getvalue().encode(errors="surrogateescape")  # file names need not be UTF-8
    write_atomic(path, lambda file: file.write(data))
