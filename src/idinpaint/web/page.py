"""The page and its HTTP API in Gradio: what is shown where, and which function of the desk it calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

from idinpaint.batch import one_line
from idinpaint.web.desk import ENDINGS, SAME, Desk, Outcome, Session, hidden, overlay, preview

STAGES = 7  # about so many are named while a photo is restored
PICTURES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"]
INTRODUCTION = (
    "# idinpaint\nDrop a damaged photo. What looks like damage is painted over; correct it with brush and eraser. "
    "Only what is painted over is changed: every other pixel of the file stays as it is."
)
Event = tuple[Callable[..., Any], list[Any], list[Any]]


def told(desk: Desk, work: Callable[..., Any]) -> Callable[..., Any]:
    """The function with every error as one line for the visitor, without a path of this machine."""

    @wraps(work)
    def guarded(*given: Any) -> Any:
        import gradio as gr

        try:
            return work(*given)
        except gr.Error:
            raise
        except Exception as error:
            files = [Path(v) for value in given for v in (value if isinstance(value, list) else [value]) if _path(v)]
            folders = sorted({p.parent for p in files}, key=lambda p: -len(str(p)))
            line = hidden(one_line(error), [*folders, *desk.root.rglob("*/"), desk.root])
            raise gr.Error(escape(line), print_exception=False) from None

    return guarded


def _path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _paths(values: list[str] | None) -> list[Path]:
    return [Path(value) for value in values or []]


def stages(progress: Any) -> Callable[[str], None]:
    """A bar that names the stages as they come."""
    seen: list[str] = []

    def name(stage: str) -> None:
        seen.append(stage)
        progress(min(0.95, len(seen) / STAGES), desc=stage)

    return name


class Functions:
    """What the events call. Every one gets the visitor's session and gives it back, so that visitors do not mix."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def _session(self, session: Session | None) -> Session:
        return session or self.desk.session()

    def _need(self, photo: str | None) -> Path:
        from idinpaint.types import InputError

        if not photo:
            raise InputError("no photo is given; drop one first")
        return Path(photo)

    def open(self, session: Any, photo: str | None, mask: str | None, progress: Any) -> tuple[Any, ...]:
        """Photo (and mask file) -> session, the editor's picture with the damage on a layer, a line about it."""
        if not photo:
            return session, None, "Drop a photo."
        session = self._session(session)
        value = self.desk.propose(session, self._need(photo), mask and Path(mask), stages(progress))
        share = 100 * float(session.proposed.mean())
        what = "taken from the mask file" if mask else "found as damage" if share else "no damage was found: paint it"
        return session, value, f"{share:.2f} % {what}" if share else what

    def detect(self, photo: str | None, progress: Any) -> tuple[str, str]:
        """Photo -> (mask file, white = damage; a line about it)."""
        session = self.desk.session()
        path = self._need(photo)
        self.desk.propose(session, path, None, stages(progress))
        from idinpaint.visuals import save_picture

        file = session.room() / f"{path.stem}_mask.png"
        save_picture(file, session.proposed * session.proposed.dtype.type(1) * __import__("numpy").uint8(255))
        return str(file), f"damage on {100 * float(session.proposed.mean()):.2f} % of the photo"

    def restore(
        self, session: Any, photo: Any, mask: Any, references: Any, samples: Any, seed: Any, grow: Any, form: Any,
        progress: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """Files and settings -> session, result, report, mask used, verdict in words."""
        session = self._session(session)
        settings = {"samples": int(samples), "seed": int(seed), "grow": grow, "form": form}
        files = self._need(photo), mask and Path(mask), _paths(references)
        outcome = self.desk.restore(session, *files, settings, stages(progress))
        return session, str(outcome.result), str(outcome.report), str(outcome.mask), outcome.text
