"""What the page does, without the page: propose a mask, restore, pick a candidate. All through the command line's own
functions, so that the files are those that `idinpaint restore` writes."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from idinpaint.cli.batch import Done, restore_job
from idinpaint.cli.jobs import always_read, plan_single
from idinpaint.cli.lazy_models import Models
from idinpaint.cli.sidecar import write_files, write_json
from idinpaint.imaging.formats import BY_NAME, can_write
from idinpaint.imaging.mask_io import load_mask
from idinpaint.imaging.photo import Photo, load_photo
from idinpaint.painting.candidates import with_candidate
from idinpaint.report.reporting import summary_lines
from idinpaint.report.visuals import HOLE_COLOUR, save_picture
from idinpaint.types import InputError

PREVIEW = 1400  # px, the longer side of pictures that are only looked at
CANVAS = 1200  # px, the editor's square; a photo is scaled to fill it, up or down, and lies in its upper left
PAINTED = 64  # of 255; a brush's opacity from which a pixel counts as painted
SAME = "as the photo"
ENDINGS = {SAME: "", **{name: BY_NAME[name].suffixes[0] for name in ("PNG", "TIFF", "JPEG")}}
Progress = Callable[[str], None]


@dataclass
class Outcome:
    """What came of one restoration; all files lie in the session's folder."""

    result: Path
    report: Path
    mask: Path
    text: str
    job: Any
    args: argparse.Namespace
    done: Done


@dataclass
class Session:
    """What one visitor has on the desk; nobody else sees it. proposed: bool [H, W]; sent: it on the canvas."""

    folder: Path
    path: Path | None = None
    photo: Photo | None = None
    proposed: np.ndarray | None = None
    sent: np.ndarray | None = None
    outcome: Outcome | None = None
    numbers: int = field(default=0)

    def close(self) -> None:
        """Takes away all files of the visit."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def room(self) -> Path:
        """A new, empty folder in the session's own."""
        self.numbers += 1
        folder = self.folder / str(self.numbers)
        folder.mkdir()
        return folder


class Desk:
    """The models, and one piece of work at a time. root: where the sessions' folders are made."""

    def __init__(self, root: Path, args: argparse.Namespace) -> None:
        self.root, self.models = root, Models(args, lambda stage: None)
        self.lock = threading.Lock()

    def session(self) -> Session:
        """A new visit."""
        return Session(Path(tempfile.mkdtemp(prefix="visit-", dir=self.root)))

    def find(self, photo: Photo, progress: Progress) -> np.ndarray:
        """The damage of a photo, bool [H, W]."""
        with self.lock:
            progress("finding the damage")
            return self.models.finder().find(photo.rgb)

    def propose(self, session: Session, path: Path, mask: Path | None, progress: Progress) -> dict[str, Any]:
        """Opens a photo: what the editor shows, the damage found (or read from a mask file) on a layer of its own."""
        photo = load_photo(path)
        found = self.find(photo, progress) if mask is None else load_mask(mask, photo.size, photo=photo.rgb)[0]
        session.path, session.photo, session.proposed, session.outcome = path, photo, found, None
        scale = CANVAS / max(photo.size)
        width, height = (max(1, round(side * scale)) for side in photo.size)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        background = np.full((CANVAS, CANVAS, 3), 255, np.uint8)
        background[:height, :width] = cv2.resize(photo.rgb, (width, height), interpolation=how)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        session.sent = cv2.resize(found.astype(np.float32), (width, height), interpolation=how) > 0
        layer = np.zeros((CANVAS, CANVAS, 4), np.uint8)
        layer[:height, :width][session.sent] = (*HOLE_COLOUR, 170)
        return {"background": background, "layers": [layer], "composite": None}

    def painted(self, session: Session, layers: Sequence[np.ndarray]) -> Path:
        """The mask of the editor's layers, uint8 [h, w, 4] each, at the photo's own size: a file. What was not painted
        or erased by hand stays as it was proposed, to the pixel."""
        if session.photo is None or session.sent is None or session.proposed is None:
            raise InputError("no photo is open; drop one first")
        small = np.zeros(session.sent.shape, bool)
        for layer in layers:
            if layer.shape != (CANVAS, CANVAS, 4):
                raise InputError(f"the editor gave a layer of {layer.shape}; load the page again")
            small |= layer[: small.shape[0], : small.shape[1], 3] >= PAINTED
        if not small.any():
            raise InputError("nothing is painted; paint over what is damaged")
        changed = (small != session.sent).astype(np.uint8)
        mask = session.proposed.copy()
        if changed.any():
            size = session.photo.size
            changed = cv2.resize(changed, size, interpolation=cv2.INTER_NEAREST).astype(bool)
            value = cv2.resize(small.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
            mask[changed] = value[changed]
        path = session.room() / f"{session.path.stem}_mask.png"
        save_picture(path, np.where(mask, np.uint8(255), np.uint8(0)))
        return path

    def restore(
        self,
        session: Session,
        photo: Path,
        mask: Path | None,
        references: Sequence[Path],
        settings: dict[str, Any],
        progress: Progress,
    ) -> Outcome:
        """`idinpaint restore` with these files; mask None: what is found. settings: samples, seed, grow, form."""
        folder = session.room()
        args = _arguments(photo, mask, references, folder, settings)
        job = plan_single(photo, mask, args.output, args.report, None, (*references, *always_read()))
        with self.lock:
            self.models.progress = progress
            for path in references:
                load_photo(path)
            done = restore_job(job, args, self.models, progress)
        session.outcome = _outcome(job, args, done, [photo, *references])
        return session.outcome

    def choose(self, session: Session | None, number: int) -> Outcome:
        """The same with candidate `number` (1 = the best) instead. Files of their own."""
        before = None if session is None else session.outcome
        if before is None:
            raise InputError("nothing is restored yet, so there is no candidate to pick")
        done, folder = before.done, session.room()
        restoration = with_candidate(done.restoration, done.photo.rgb, done.mask, number)
        output, report = folder / before.job.output.name, folder / before.job.report.name
        job = replace(before.job, output=output, report=report, found=None, mask=before.mask)
        notices = [*done.photo.notices, *restoration.report["notices"]]
        written = write_files(job, done.photo, done.mask, restoration, notices, before.args, time.monotonic())
        return _outcome(job, before.args, replace(done, restoration=restoration, report=written, notices=notices), [])


def _arguments(
    photo: Path, mask: Path | None, references: Sequence[Path], folder: Path, settings: dict[str, Any]
) -> argparse.Namespace:
    """As the command line would have them."""
    from idinpaint.cli.parser import build_parser

    if settings["form"] not in ENDINGS:
        raise InputError(f"format: use one of {', '.join(ENDINGS)}")
    ending = ENDINGS[settings["form"]] or (photo.suffix if can_write(photo) else ".png")
    output = folder / f"{photo.stem}_restored{ending}"
    words = ["restore", str(photo), "--mask", "auto" if mask is None else str(mask), "-o", str(output)]
    words += ["--report", str(folder / f"{photo.stem}_report.json")]
    words += ["--num-samples", str(settings["samples"]), "--seed", str(settings["seed"])]
    words += ["--grow", str(settings["grow"])] if str(settings["grow"]) != "" else []
    for path in references:
        words += ["--reference", str(path)]
    try:
        args = build_parser().parse_args(words)
    except SystemExit:
        raise InputError("a setting is out of range: samples 1 to 64, seed from 0, grow auto or 0 to 64 px") from None
    args.credentials = None
    return args


def _outcome(job: Any, args: argparse.Namespace, done: Done, read: Sequence[Path]) -> Outcome:
    """Names instead of this machine's paths in the report, and the verdict in words."""
    mask = job.mask or job.found
    hide = [job.output.parent, mask.parent, *(path.parent for path in read)]
    report = hidden(done.report, hide)
    write_json(job.report, report)
    lines = [f"{report['status']} ({report['decision']['strategy']}): {report['decision']['reason']}"]
    lines += [line.strip() for line in summary_lines(report)]
    lines += [f"note: {line}" for line in report["notices"]]
    return Outcome(job.output, job.report, mask, "\n".join(lines), job, args, done)


def hidden(value: Any, folders: Sequence[Path]) -> Any:
    """The value with these folders taken out of every text in it."""
    if isinstance(value, dict):
        return {key: hidden(entry, folders) for key, entry in value.items()}
    if isinstance(value, list):
        return [hidden(entry, folders) for entry in value]
    if isinstance(value, str):
        for folder in folders:
            value = value.replace(f"{folder}/", "")
    return value


def preview(rgb: np.ndarray) -> np.ndarray:
    """Area-averaged until the longer side is at most PREVIEW px; uint8 [h, w, 3]."""
    height, width = rgb.shape[:2]
    scale = PREVIEW / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


def overlay(done: Done) -> np.ndarray:
    """The result with what was filled tinted, the more the candidates disagree there: uint8 [h, w, 3]."""
    weight = 0.3 * done.mask.astype(np.float32)
    if done.restoration.invented is not None:
        weight += 0.7 * done.restoration.invented.astype(np.float32) / 255
    small = preview(done.restoration.image).astype(np.float32)
    weight = cv2.resize(weight, small.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None].clip(0, 1)
    return np.rint(small * (1 - weight) + np.array(HOLE_COLOUR, np.float32) * weight).astype(np.uint8)
