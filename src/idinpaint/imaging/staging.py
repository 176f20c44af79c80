"""All files of one photo, or none: written beside their targets first, then renamed together; undone when one fails."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idinpaint.exits import signals_held
from idinpaint.imaging.encoders import remove_empty
from idinpaint.types import InputError


class Staging:
    """Hands out a place to write each target to. `commit` moves them all over their targets.

    The place is a folder of its own beside the target (same file system, so the move is a rename), with the target's
    own name (so no name grows too long, and its extension stays). Links are written through, modes are kept.
    """

    def __init__(self) -> None:
        self._staged: dict[Path, tuple[Path, Path]] = {}  # target as named -> (its real path, where it is written)
        self._made: list[Path] = []  # folders that were not there before, outermost first

    def place(self, target: Path) -> Path:
        """Where to write what shall become `target`. InputError when the system refuses."""
        try:
            real = Path(os.path.realpath(target))
            with signals_held():
                self._make(real.parent)
                folder = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=real.parent))
                self._staged[target] = real, folder / real.name
        except OSError as error:
            raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
        return folder / real.name

    def _make(self, folder: Path) -> None:
        """The folder and those above it that are missing."""
        missing = [folder, *folder.parents]
        missing = [path for path in missing if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            self._made.append(path)

    def commit(self) -> None:
        """Everything appears. InputError when one file cannot; then every target is what it was before."""
        done: list[tuple[Path, Path]] = []  # (real path, what was there before, or a path where nothing is)
        try:
            for target, (real, written) in self._staged.items():  # noqa: B007  target is named when it fails
                before = written.parent / "before" / real.name
                before.parent.mkdir()
                if real.exists():
                    os.chmod(written, real.stat().st_mode & 0o777)
                    _keep(real, before)
                os.replace(written, real)
                done.append((real, before))
        except BaseException as error:
            for real, before in reversed(done):
                os.replace(before, real) if before.exists() else real.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error
            raise
        self._made = []

    def renamed(self, text: str) -> str:
        """The text with every place replaced by its target."""
        for target, (_, written) in self._staged.items():
            text = text.replace(str(written), str(target))
        return text

    def clear(self) -> None:
        """Takes away what is not committed, and the folders made for it."""
        for _, written in self._staged.values():
            shutil.rmtree(written.parent, ignore_errors=True)
        remove_empty(reversed(self._made))


def refuse_loops(*paths: Path | None) -> None:
    """InputError for a symbolic link that leads back to itself: it would be replaced, for it names no file."""
    for path in paths:
        if path is not None and os.path.islink(os.path.realpath(path)):
            raise InputError(f"{path}: cannot be written (a loop of symbolic links)")


def _keep(real: Path, before: Path) -> None:
    """A second name for the file, or a copy where the file system has none."""
    try:
        os.link(real, before)
    except OSError:
        shutil.copy2(real, before)


@contextmanager
def staging() -> Iterator[Staging]:
    """Commits at the end of the block; after an error, a SIGTERM or Ctrl-C nothing is left and nothing has changed."""
    staged = Staging()
    try:
        yield staged
        with signals_held():
            staged.commit()
    except InputError as error:  # it names the place, people know the target
        raise InputError(staged.renamed(str(error))) from error
    finally:
        with signals_held():
            staged.clear()
