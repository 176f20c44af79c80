"""Which photo goes with which mask and into which files: single photos and folders, checked before work starts."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from idinpaint.imaging.encoders import check_output, check_writable
from idinpaint.imaging.formats import can_write, is_picture
from idinpaint.models.weights import user_folder
from idinpaint.types import InputError

SUMMARY = "summary.csv"
MASK_SUFFIX = "_mask"
FOUND_SUFFIX = "_mask_auto.png"


@dataclass(frozen=True)
class Job:
    """One photo to work on. error: why it cannot be, found while pairing; then the other fields may be missing."""

    image: Path
    mask: Path | None = None
    output: Path | None = None
    report: Path | None = None
    picture: Path | None = None  # the comparison of restore, the overlay of analyze
    error: str | None = None
    html: Path | None = None
    invented: Path | None = None  # picture of where the candidates disagree
    found: Path | None = None  # the mask that is found, when none is given

    @property
    def written(self) -> list[Path]:
        """The files that the job writes."""
        files = (self.output, self.report, self.picture, self.html, self.invented, self.found)
        return [path for path in files if path is not None]


def found_beside(output: Path | None) -> Path | None:
    """Where the mask that was found for a result is written: NAME_mask_auto.png beside it."""
    return output and output.with_name(output.stem + FOUND_SUFFIX)


def plan_single(
    image: Path,
    mask: Path | None,
    output: Path | None,
    report: Path | None,
    picture: Path | None,
    inputs: tuple[Path, ...] = (),
    html: Path | None = None,
    invented: Path | None = None,
) -> Job:
    """One photo. mask: None when it is to be found. inputs: further files that are read. InputError when a path will
    not do."""
    mask = _mask_for(image, mask) if mask and mask.is_dir() else mask
    found = found_beside(output) if mask is None else None
    read = [path for path in (image, mask) if path]
    for path in read:
        if not path.exists():
            raise InputError(f"{path}: no such file")
    for path in (output, picture, invented, found):
        if path is not None:
            check_output(path)
    for path in (report, html):
        if path is not None:
            check_writable(path)
    job = Job(image, mask, output, report, picture, html=html, invented=invented, found=found)
    check_distinct([*read, *inputs], job.written)
    return job


def plan_folder(
    images: Path,
    mask: Path | None,
    output: Path | None,
    report: Path | None,
    picture: Path | None,
    html: Path | None = None,
    invented: Path | None = None,
    inputs: tuple[Path, ...] = (),
) -> tuple[list[Job], list[str]]:
    """A job for every picture in a folder, sorted by name, and notices. All that is written goes into folders.

    mask: a folder whose files are paired by stem, one file for all, or None: to be found. A photo without
    its mask becomes a job with an error; InputError when the folders themselves will not do.
    """
    if mask is not None and not mask.exists():
        raise InputError(f"{mask}: no such file or folder")
    sides = (("--report", report), ("--report-html", html), ("--invented", invented), ("the picture", picture))
    for option, folder in (("-o", output), *sides):
        if folder is None:
            continue
        if can_write(folder) or folder.suffix.lower() in (".json", ".html") or folder.is_file():
            raise InputError(f"{folder}: {images} is a folder, so {option} must name a folder too")
        if folder.resolve() in (images.resolve(), mask and mask.resolve()):
            raise InputError(f"{folder}: is the folder of the input, name another one for {option}")
        check_writable(folder / SUMMARY)
    files = visible_files(images)
    found = [path for path in files if is_picture(path)]
    if mask and mask.resolve() == images.resolve():  # NAME_mask.png beside NAME.jpg
        stems = {unicodedata.normalize("NFC", path.stem + MASK_SUFFIX) for path in found}
        found = [path for path in found if unicodedata.normalize("NFC", path.stem) not in stems]
        if not stems & {unicodedata.normalize("NFC", path.stem) for path in files}:
            raise InputError(f"{mask}: photos and masks in one folder need masks named NAME{MASK_SUFFIX}.png")
    if not found:
        raise InputError(f"{images}: no pictures in this folder")
    notices = _passed_over(images, files)
    if mask and not mask.is_dir() and len(found) > 1:
        notices.append(f"{mask}: one mask for all {len(found)} photos; name a folder where each has its own")
    jobs, taken = [], set()
    for path in found:
        try:
            own_mask = _mask_for(path, mask) if mask and mask.is_dir() else mask
        except InputError as error:
            jobs.append(Job(path, error=str(error)))
            continue
        suffix = path.suffix if can_write(path) else ".png"
        stem = path.stem if path.stem not in taken else f"{path.stem}_{path.suffix[1:]}"
        taken.add(stem)
        result = output / f"{stem}{suffix}" if output else None
        sides = [folder and folder / f"{stem}{end}" for folder, end in ((report, ".json"), (picture, ".png"))]
        more = {"html": html and html / f"{stem}.html", "invented": invented and invented / f"{stem}.png"}
        more["found"] = found_beside(result) if mask is None else None
        jobs.append(Job(path, own_mask, result, *sides, **more))
    read = [*found, *(job.mask for job in jobs if job.mask), *inputs]
    written = [path for job in jobs for path in job.written]
    check_distinct(read, [*written, *([output / SUMMARY] if output else [])])
    return jobs, notices


def visible_files(folder: Path) -> list[Path]:
    """The visible files of a folder, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from None


def _passed_over(folder: Path, files: list[Path]) -> list[str]:
    """Notices of what is in a folder beside its pictures and sub-folders."""
    others = [path.name for path in files if not is_picture(path)]
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    odd = sorted(path.name for path in shown if not path.is_file() and not path.is_dir())
    said = ((others, "not pictures"), (odd, "no regular files (broken links, pipes, devices)"))
    lines = []
    for names, what in said:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        lines += [f"{folder}: passed over, {what}: {', '.join(names[:5])}{more}"] if names else []
    return lines


def _mask_for(image: Path, folder: Path) -> Path:
    """NAME.* or NAME_mask.* in a folder, beside the photo only the latter. InputError: none, or more than one."""
    pictures = [path for path in visible_files(folder) if is_picture(path)]
    beside = folder.resolve() == image.parent.resolve()  # there the plain stem is the photo's own
    names = [image.stem + MASK_SUFFIX] if beside else [image.stem, image.stem + MASK_SUFFIX]
    # A Mac writes accents decomposed (NFD), others composed (NFC): the same name in other bytes.
    wanted = {unicodedata.normalize("NFC", name) for name in names}
    matches = [path for path in pictures if unicodedata.normalize("NFC", path.stem) in wanted]
    if not matches:
        raise InputError(f"{image}: no mask named {' or '.join(f'{name}.*' for name in names)} in {folder}")
    if len(matches) > 1:
        raise InputError(f"{image}: several masks for it in {folder}: {', '.join(path.name for path in matches)}")
    return matches[0]


def check_distinct(inputs: list[Path], outputs: list[Path]) -> None:
    """InputError when an output would overwrite an input or another output, under whatever name or link."""
    taken: dict[object, str] = {}
    for path in inputs:
        taken |= dict.fromkeys(_names(path), "it is read")
    for path in outputs:
        names = _names(path)
        for name in names:
            if name in taken:
                raise InputError(f"{path}: cannot be written, {taken[name]} in the same command")
        taken |= dict.fromkeys(names, "it is written")


def _names(path: Path) -> list[object]:
    """What a file is known by: its real path and, when it exists, its inode."""
    try:
        status = path.stat()
    except OSError:
        return [os.path.realpath(path)]
    return [os.path.realpath(path), (status.st_dev, status.st_ino)]


def model_files(*paths: Path | None) -> tuple[Path, ...]:
    """The files that a controller or model folder given by the user is read from."""
    found = [path for path in paths if path is not None]
    return tuple(file for path in found for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def always_read() -> tuple[Path, ...]:
    """The files of the package and of the user's folder of weights, which any command may read."""
    tops = (top for top in (Path(__file__).parents[1], user_folder()) if os.access(top, os.R_OK | os.X_OK))
    return tuple(path for top in tops for path in top.rglob("*") if os.path.isfile(path))
