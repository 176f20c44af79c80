"""The mask of a job: read from its file, or found; and what comes out when nothing was found."""

from __future__ import annotations

import argparse

import numpy as np

from idinpaint.cli.detect import AUTO
from idinpaint.cli.jobs import Job
from idinpaint.cli.lazy_models import Models
from idinpaint.imaging.mask_grow import fit_mask
from idinpaint.imaging.mask_io import load_mask
from idinpaint.imaging.photo import Photo
from idinpaint.types import Decision, InputError, Restoration

REASON = "no damage was found, so nothing is changed; give --mask with the damage in white if there is some"
UNDAMAGED = Decision("telea", "undamaged", REASON, 0.0, 0.0)


def read_mask(job: Job, photo: Photo, args: argparse.Namespace, models: Models) -> tuple[np.ndarray, list[str]]:
    """(mask bool [H, W], notices), read from the job's file or found, and grown as asked for. Empty only when found.

    InputError for a mask that will not do.
    """
    if job.mask is not None:
        mask, notices = load_mask(job.mask, photo.size, args.invert_mask, photo.rgb)
        mask, grown = fit_mask(photo.rgb, mask, args.grow)
        return mask, notices + grown
    models.progress("finding the damage")
    mask = models.finder().find(photo.rgb)
    if not mask.any():
        return mask, []
    if mask.all():
        raise InputError(f"{job.image}: all of it looks like damage, nothing is known; give --mask with a part of it")
    found = mask
    mask, grown = fit_mask(photo.rgb, mask, AUTO if args.grow is None else args.grow)
    where = f"; the mask used is {job.found}" if job.found else ""
    said = f"damage was found on {100 * found.mean():.2f} % of the photo{where}: look whether it is right"
    return mask, [said, *(grown if mask is not found or args.grow is not None else [])]


def unchanged(photo: Photo, args: argparse.Namespace) -> Restoration:
    """The result for a photo on which no damage was found: the photo itself."""
    from idinpaint.report.reporting import build_report, versions

    report = build_report(
        UNDAMAGED, hole_ratio=0.0, seed=args.seed, num_samples=args.num_samples, steps=args.steps, references=[],
        encoders={}, device=args.device, versions=versions(), weights={}, calibration=None, possible_faces=[],
    )  # fmt: skip
    return Restoration(photo.rgb, [], UNDAMAGED, report, [])
