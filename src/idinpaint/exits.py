"""How a command ends: every error becomes one line on stderr and an exit status; a signal leaves no temporary file."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from idinpaint.types import InputError

BAD = 2  # bad input, or files that cannot be read or written
INTERRUPTED, TERMINATED = 130, 143  # 128 + the signal's number
LONGEST = 10_000  # characters of an error's line; paths may have 4,096


class Terminated(BaseException):
    """SIGTERM has come. Like KeyboardInterrupt no Exception, so that no handler of errors swallows it."""


def run_guarded(work: Callable[[], int]) -> int:
    """The status that `work` returns, or that of its error, told in one line."""
    _open_streams()
    try:
        with unwinding():
            status = work()
            sys.stdout.flush()
            return status
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except Terminated:
        return _fail("terminated", TERMINATED)
    except BrokenPipeError:  # the reader of stdout has gone, e.g. `| head`
        _drop(sys.stdout)
        return 0
    except InputError as error:
        return _fail(str(error), BAD)
    except OSError as error:  # of a file that the user named: a name too long, a loop of links, a full disk
        where = f"{error.filename}: " if error.filename is not None else ""
        _drop(sys.stdout)  # it may be the file that is full
        return _fail(f"{where}{error.strerror or error}", BAD)
    except Exception as error:  # no traceback for a person who restores a photo; IDINPAINT_DEBUG=1 shows it
        return _fail(one_line(error), 1)


def one_line(error: BaseException) -> str:
    """The error's text on one line; its type too when it is not about the input."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return text
    if os.environ.get("IDINPAINT_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller photo"
    return f"internal error, {type(error).__name__}: {text} (IDINPAINT_DEBUG=1 shows where)"


def _open_streams() -> None:
    """Closed streams go nowhere; what a stream's encoding lacks is escaped (file names, an ASCII terminal)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  open until the process ends
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _drop(stream: object) -> None:
    """What is still in the stream's buffer, and all that follows, goes nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream that is no file
        pass


def _fail(message: str, status: int) -> int:
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    line = " ".join(message.split())
    line = line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
    try:
        print(f"{clear}idinpaint: error: {line}", file=sys.stderr, flush=True)
    except OSError:  # stderr is full or gone; the status still tells
        _drop(sys.stderr)
    return status


@contextmanager
def unwinding() -> Iterator[None]:
    """SIGTERM raises Terminated within the block, so that temporary files are taken away; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def signals_held() -> Iterator[None]:
    """SIGTERM and Ctrl-C that come within the block act at its end: what tidies up is not left half-way. Keep it short;
    main thread only, elsewhere signals do not arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not None]
    before = [(number, signal.signal(number, lambda number, _: came.append(number))) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
