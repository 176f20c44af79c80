"""The work of `restore` and `analyze`, for one photo and for folders: read, call the Restorer, write, sum up."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from idinpaint.cli.detect import AUTO
from idinpaint.cli.found_masks import UNDAMAGED, read_mask, unchanged
from idinpaint.cli.jobs import SUMMARY, Job, always_read, model_files, plan_folder, plan_single
from idinpaint.cli.kept import check_kept, keep_candidates
from idinpaint.cli.lazy_models import Models
from idinpaint.cli.pipes import piped, through_pipes
from idinpaint.cli.restore_options import check_restore_options, earlier_rows, write_summary
from idinpaint.cli.sidecar import write_files
from idinpaint.cli.trees import plan_tree
from idinpaint.exits import one_line
from idinpaint.imaging.containers import check_fits
from idinpaint.imaging.photo import Photo, load_photo
from idinpaint.imaging.staging import refuse_loops
from idinpaint.painting.candidates import with_candidate
from idinpaint.progress import Progress
from idinpaint.report.content_credentials import find_credentials
from idinpaint.report.reporting import headline, summary_lines, to_plain, verdict_words
from idinpaint.types import Decision, FaceAnalysis, InputError, Restoration

RESTORED, BAD, ABSTAINED = 0, 2, 3  # exit statuses


def warn(notices: list[str], progress: Progress) -> None:
    """Notices on stderr, a line each."""
    progress.clear()
    for notice in notices:
        print(f"idinpaint: warning: {notice}", file=sys.stderr)


def read_inputs(job: Job, args: argparse.Namespace, models: Models) -> tuple[Photo, np.ndarray, list[str]]:
    """(photo, mask, notices); the mask is empty when nothing was found. InputError for all that can be wrong with the
    files and the face box."""
    photo = load_photo(job.image)
    mask, notices = read_mask(job, photo, args, models)
    for x, y, w, h in args.face_box or ():
        if x >= photo.size[0] or y >= photo.size[1] or x + w <= 0 or y + h <= 0:
            width, height = photo.size
            raise InputError(
                f"{job.image}: --face-box {x:g},{y:g},{w:g},{h:g} is outside of the {width}x{height} photo"
            )
    return photo, mask, photo.notices + notices


def run_restore(args: argparse.Namespace) -> int:
    """`idinpaint restore`; returns the exit status."""
    if piped(args):
        return through_pipes(args, run_restore)
    check_restore_options(args)
    references = tuple(args.reference)
    for path in references:
        load_photo(path)  # told now, not after minutes of work
    args.credentials = find_credentials(args.c2pa_cert, args.c2pa_key)
    sides = {"html": args.report_html, "invented": args.invented}
    refuse_loops(args.output, args.report, args.comparison, *sides.values())
    inputs = (*references, *filter(None, (args.c2pa_cert, args.c2pa_key)), *always_read())
    return _run(args, restore_one, args.output, args.report, args.comparison, inputs, sides)


def run_analyze(args: argparse.Namespace) -> int:
    """`idinpaint analyze`; returns the exit status."""
    refuse_loops(args.overlay)
    return _run(args, analyze_one, None, None, args.overlay, always_read())


def _run(
    args: argparse.Namespace,
    work: Callable[..., dict[str, Any]],
    output: Path | None,
    report: Path | None,
    picture: Path | None,
    inputs: tuple[Path, ...] = (),
    sides: Mapping[str, Path | None] = MappingProxyType({}),
) -> int:
    """Plans the jobs and does them. One photo: its error is raised. A folder: errors are counted."""
    as_json = getattr(args, "json", False)
    given = (args.model, args.controller, getattr(args, "gan", None))
    inputs = (*inputs, *model_files(*(Path(path) for path in given if path)))
    mask = None if args.mask == AUTO else args.mask
    if mask is None and args.invert_mask:
        raise InputError("--invert-mask: is about a mask that you give; with --mask auto there is none, leave it out")
    if not args.image.is_dir():
        job = plan_single(args.image, mask, output, report, picture, inputs, **sides)
        check_kept([job], args, inputs)
        if _skips(job, args):
            print(f"{job.output}: passed over, it is there already")
            return RESTORED
        progress = Progress(plain=work is restore_one)
        models = Models(args, progress)
        row = work(job, args, models, progress)
        if as_json:
            print(json.dumps(to_plain(row), indent=2))
        return ABSTAINED if row["status"] == "abstained" else RESTORED
    plan = plan_tree if getattr(args, "recursive", False) else plan_folder
    jobs, notices = plan(args.image, mask, output, report, picture, inputs=inputs, **sides)
    check_kept(jobs, args, inputs)
    progress = Progress(len(jobs), plain=work is restore_one)
    warn(notices, progress)
    models = Models(args, progress)
    rows: list[dict[str, Any]] = []
    earlier = {} if output is None else earlier_rows(output / SUMMARY)
    unfinished = {image for image, row in earlier.items() if row["status"] == "abstained"}
    try:
        for number, job in enumerate(jobs, 1):
            progress.photo(number, job.image.name)
            rows.append(_try(work, job, args, models, progress, str(job.image) in unfinished))
    finally:
        if output is not None:
            write_summary(output / SUMMARY, rows, earlier)
    counts = {status: sum(row["status"] == status for row in rows) for status in ("error", "abstained", "skipped")}
    if as_json:
        print(json.dumps(to_plain(rows), indent=2))
    else:
        fine = len(rows) - sum(counts.values())
        done = "restored" if work is restore_one else "analyzed"
        more = f", {counts['skipped']} passed over" if counts["skipped"] else ""
        print(f"{len(rows)} photos: {fine} {done}, {counts['abstained']} abstained, {counts['error']} bad{more}")
    return BAD if counts["error"] else ABSTAINED if counts["abstained"] else RESTORED


def _skips(job: Job, args: argparse.Namespace) -> bool:
    """Whether --skip-existing passes over it."""
    return getattr(args, "skip_existing", False) and job.output is not None and job.output.is_file()


def _try(
    work: Callable[..., dict[str, Any]],
    job: Job,
    args: argparse.Namespace,
    models: Models,
    progress: Progress,
    unfinished: bool,
) -> dict[str, Any]:
    """One photo of a folder; whatever goes wrong with it becomes a row and a line on stderr. unfinished: an earlier run
    abstained from it, so that it is not passed over."""
    start = time.monotonic()
    try:
        if job.error:
            raise InputError(job.error)
        if _skips(job, args) and not unfinished:
            return {"image": job.image, "output": job.output, "status": "skipped", "message": "its result is there"}
        return work(job, args, models, progress)
    except Exception as error:  # one bad file does not stop the rest
        message = one_line(error)
        progress.clear()
        print(f"idinpaint: error: {message}", file=sys.stderr)
        seconds = time.monotonic() - start
        return {"image": job.image, "mask": job.mask, "status": "error", "message": message, "seconds": seconds}


@dataclass(frozen=True)
class Done:
    """One restored photo, its files written. mask: bool [H, W], as it was used."""

    photo: Photo
    mask: np.ndarray
    restoration: Restoration
    report: dict[str, Any]
    notices: list[str]


def restore_job(job: Job, args: argparse.Namespace, models: Models, progress: Callable[[str], None]) -> Done:
    """Restores one photo and writes its files, all or none. args: those of `restore`, with `credentials`."""
    start = time.monotonic()
    progress("reading the photo")
    if args.credentials is not None:
        args.credentials.check(job.image, job.output)
    photo, mask, notices = read_inputs(job, args, models)
    check_fits(photo.size, job.output, job.invented)
    restoration = (
        unchanged(photo, args)
        if not mask.any()
        else models.restorer()(
            photo.rgb,
            mask,
            references=tuple(args.reference),
            strategy=args.strategy,
            num_samples=args.num_samples,
            steps=args.steps,
            seed=args.seed,
            force=args.force,
            face_box=args.face_box,
            max_coverage=args.max_coverage,
            reference_pixels=not args.no_reference_pixels,
            progress=progress,
            grain=args.grain,
        )
    )
    tries = restoration
    if args.candidate > 1:
        restoration = with_candidate(restoration, photo.rgb, mask, args.candidate)
    progress("writing")
    notices += restoration.report.get("notices", [])
    report = write_files(job, photo, mask, restoration, notices, args, start)
    if args.keep_candidates is not None:
        notices += keep_candidates(tries, photo, mask, job, args)
    return Done(photo, mask, restoration, report, notices)


def restore_one(job: Job, args: argparse.Namespace, models: Models, progress: Progress) -> dict[str, Any]:
    """`restore_job`, told on the terminal. Returns its row of the summary."""
    done = restore_job(job, args, models, progress)
    restoration, report, decision = done.restoration, done.report, done.restoration.decision
    warn(done.notices, progress)
    status = "abstained" if restoration.abstained else "restored"
    what = f"{headline(report)} ({decision.strategy}): {decision.reason}"
    if args.image.is_dir() and report["verdict"] not in (None, "abstained"):
        what += f"; {verdict_words(report)}"
    print(f"{job.output}: {what} [{report['seconds_total']:.1f} s]", flush=True)
    if not args.image.is_dir():
        print("".join(f"  {line}\n" for line in summary_lines(report)), end="", flush=True)
    best = [face[0].identity_similarity for face in restoration.candidates if face]
    return {
        **_decision_row(job, decision),
        "status": status,
        "verdict": report["verdict"],
        "identity_similarity": min((value for value in best if value is not None), default=None),
        "seconds": report["seconds_total"],
        "message": decision.reason,
    }


def _decision_row(job: Job, decision: Decision) -> dict[str, Any]:
    row = {name: getattr(decision, name) for name in ("strategy", "rule", "forced", "face_coverage", "hole_ratio")}
    return {"image": job.image, "mask": job.mask, "output": job.output, **row}


def analyze_one(job: Job, args: argparse.Namespace, models: Models, progress: Progress) -> dict[str, Any]:
    """Analyses one photo; prints it unless --json; returns what --json shows."""
    progress("reading the photo")
    photo, mask, notices = read_inputs(job, args, models)
    if mask.any():
        restorer = models.restorer(painters=False)
        progress("analysing")
        faces, decision = restorer.analyze(photo.rgb, mask, face_box=args.face_box)
    else:
        faces, decision = [], UNDAMAGED
    if job.picture:
        from idinpaint.report import visuals

        visuals.save_picture(job.picture, visuals.overlay(photo.rgb, mask, faces, decision))
    progress.clear()
    warn(notices, progress)
    if not args.json:
        _print_analysis(job, photo, faces, decision)
    return {
        "image": job.image,
        "mask": job.mask,
        "status": "analyzed",
        "width": photo.size[0],
        "height": photo.size[1],
        "hole_ratio": float(mask.mean()),
        "decision": decision,
        "faces": [_face_json(face) for face in faces],
        "notices": notices,
    }


def _print_analysis(job: Job, photo: Photo, faces: list[FaceAnalysis], decision: Decision) -> None:
    width, height = photo.size
    count = f"{len(faces)} face{'' if len(faces) == 1 else 's'} touched by the mask"
    print(f"{job.image}: {width}x{height}, {100 * decision.hole_ratio:.1f} % is hole, {count}")
    for number, face in enumerate(faces, 1):
        x, y, w, h = face.box
        hidden = ", ".join(f"{name} {100 * share:.0f} %" for name, share in face.coverage.items() if share >= 0.005)
        low, high = face.coverage_interval or (face.face_coverage,) * 2
        share = f"{100 * face.face_coverage:.1f} % hidden, by landmark error {100 * low:.1f} to {100 * high:.1f} %"
        print(f"  face {number} at {x:.0f},{y:.0f} {w:.0f}x{h:.0f}: {share} ({hidden})")
    print(f"  decision: {decision.strategy} ({decision.rule}): {decision.reason}")


def _face_json(face: FaceAnalysis) -> dict[str, Any]:
    """Numbers only; landmarks in photo px."""
    matrix = np.asarray(face.crop_to_photo)
    return {
        "box": face.box,
        "coverage": face.coverage,
        "face_coverage": face.face_coverage,
        "face_coverage_interval": face.coverage_interval,
        "landmarks": np.round(face.landmarks @ matrix[:, :2].T + matrix[:, 2], 2),
        "landmark_confidence": np.round(face.landmark_confidence, 4),
        "crop_to_photo": matrix,
        "identity_readable": face.id_embed is not None,
    }
