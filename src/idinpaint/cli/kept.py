"""--keep-candidates: every candidate as a photo of its own, at the photo's full size and depth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from idinpaint.cli.jobs import Job, check_distinct
from idinpaint.imaging.encoders import check_output
from idinpaint.imaging.photo import Photo, save_photo
from idinpaint.imaging.staging import staging
from idinpaint.painting.candidates import with_candidate
from idinpaint.report.provenance import xmp_packet
from idinpaint.strategies import HELPERS
from idinpaint.types import Restoration


def kept_path(job: Job, args: argparse.Namespace, number: int) -> Path:
    """DIR/NAME_candidate_N.ending, by the result's name; for a folder's sub-folders DIR/SUB/..."""
    folder = args.keep_candidates
    if args.image.is_dir():
        folder /= job.image.parent.relative_to(args.image)
    return folder / f"{job.output.stem}_candidate_{number}{job.output.suffix}"


def check_kept(jobs: Iterable[Job], args: argparse.Namespace, inputs: Iterable[Path]) -> None:
    """InputError before any work when candidates of any photo could not be written, or would overwrite what the
    command reads or writes. inputs: what is read beside the jobs' photos and masks."""
    if getattr(args, "keep_candidates", None) is None:
        return
    jobs = [job for job in jobs if job.output]
    most = args.num_samples + len(HELPERS) + 1  # other networks' candidates and one without references
    kept = [kept_path(job, args, number) for job in jobs for number in range(1, most + 1)]
    for path in kept[::most]:
        check_output(path)
    read = [path for job in jobs for path in (job.image, job.mask) if path]
    check_distinct([*read, *inputs, *(path for job in jobs for path in job.written)], kept)


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
