"""--keep-candidates: every candidate as a photo of its own, at the photo's full size and depth."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from idinpaint.cli.jobs import Job, check_distinct
from idinpaint.imaging.encoders import check_output
from idinpaint.imaging.photo import Photo, save_photo
from idinpaint.imaging.staging import staging
from idinpaint.painting.candidates import with_candidate
from idinpaint.report.provenance import xmp_packet
from idinpaint.types import Restoration


def kept_path(job: Job, args: argparse.Namespace, number: int) -> Path:
    """DIR/NAME_candidate_N.ending, by the result's name; for a folder's sub-folders DIR/SUB/..."""
    folder = args.keep_candidates
    if args.image.is_dir():
        folder /= job.image.parent.relative_to(args.image)
    return folder / f"{job.output.stem}_candidate_{number}{job.output.suffix}"


def check_kept(job: Job, args: argparse.Namespace) -> None:
    """InputError before any work when candidates could not be written, or would overwrite what is read or written."""
    if args.keep_candidates is None:
        return
    paths = [kept_path(job, args, number) for number in range(1, args.num_samples + 3)]
    check_output(paths[0])
    read = [path for path in (job.image, job.mask, *args.reference) if path]
    written = [path for path in (job.output, job.report, job.picture, job.html, job.invented, job.found) if path]
    check_distinct([*read, *written], paths)


def keep_candidates(
    restoration: Restoration, photo: Photo, mask: np.ndarray, job: Job, args: argparse.Namespace
) -> list[str]:
    """Writes them, all or none; returns notices, also where there is none to keep."""
    most = max((len(made) for made in restoration.candidates), default=0)
    if restoration.abstained or not most:
        return [f"{args.keep_candidates}: nothing is kept for {job.image.name}, no face was painted"]
    notices: list[str] = []
    with staging() as staged:
        for number in range(1, most + 1):
            one = with_candidate(restoration, photo.rgb, mask, number)
            place = staged.place(kept_path(job, args, number))
            notices += save_photo(photo, one.image, mask, place, xmp=xmp_packet(one.report))
    return list(dict.fromkeys(notices))
