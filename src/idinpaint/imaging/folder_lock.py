"""One run a folder: two that write into the same one at the same time would mix their files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idinpaint.imaging.encoders import remove_empty
from idinpaint.types import InputError

try:
    import fcntl
except ImportError:  # Windows; nothing is locked there
    fcntl = None


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Holds the folder, which is made where it is missing, and taken away again where nothing came into it.

    The lock is the folder's own (flock), so no file of it stays, and it ends with the process however that ends.
    File systems without such locks are used without. InputError when another run holds it.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error.strerror})") from error
    try:
        if handle is not None:
            _lock(handle, folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)
        remove_empty(missing)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise InputError(f"{folder}: another run is writing into it; wait for it, or name another folder") from None
