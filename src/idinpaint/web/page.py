"""The page and its HTTP API in Gradio: what is shown where, and which function of the desk it calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from idinpaint.exits import one_line
from idinpaint.report.visuals import save_picture
from idinpaint.types import InputError
from idinpaint.web.desk import CANVAS, ENDINGS, SAME, Desk, Session, hidden, overlay, preview

STAGES = 7  # about so many are named while a photo is restored
IDLE = 3600  # s after which a visit's files are taken away
WORK = {"concurrency_limit": 1, "concurrency_id": "work"}  # of everything that restores: one at a time
INTRODUCTION = (
    "# idinpaint\nDrop a damaged photo. What looks like damage is painted over; correct it with brush and eraser. "
    "Only what is painted over is changed: every other pixel of the file stays as it is."
)


def told(desk: Desk, work: Callable[..., Any]) -> Callable[..., Any]:
    """The function with every error as one line for the visitor, without a path of this machine."""

    @wraps(work)
    def guarded(*given: Any) -> Any:
        import gradio as gr

        try:
            return work(*given)
        except Exception as error:
            values = [v for value in given for v in (value if isinstance(value, list) else [value])]
            folders = [Path(v).parent for v in values if isinstance(v, str) and v.startswith("/")]
            folders += [path for path in desk.root.rglob("*") if path.is_dir()]
            folders.sort(key=lambda path: -len(str(path)))  # the longest first: none is within another's name
            line = hidden(one_line(error), [*folders, desk.root])
            raise gr.Error(escape(line, quote=False), print_exception=False) from None

    return guarded


def stages(progress: Any) -> Callable[[str], None]:
    """A bar that names the stages as they come."""
    seen: list[str] = []

    def name(stage: str) -> None:
        seen.append(stage)
        progress(min(0.95, len(seen) / STAGES), desc=stage)

    return name


def _need(photo: str | None) -> Path:
    if not photo:
        raise InputError("no photo is given; drop one first")
    return Path(photo)


def _paths(files: list[str] | None) -> list[Path]:
    return [Path(file) for file in files or []]


def _shown(outcome: Any) -> tuple[Any, ...]:
    """What the page shows of an outcome: before and after, overlay, text, files."""
    done = outcome.done
    pair = preview(done.photo.rgb), preview(done.restoration.image)
    files = str(outcome.result), str(outcome.report), str(outcome.mask)
    return pair, overlay(done), outcome.text, list(files)


def page_events(desk: Desk) -> tuple[Callable[..., Any], ...]:
    """(opened, restored, chosen): what the page's buttons do."""
    import gradio as gr

    bar = gr.Progress()

    def opened(session: Session | None, photo: str | None, mask: str | None, progress: Any = bar) -> tuple[Any, ...]:
        if not photo:
            return session, None, "Drop a photo."
        session = session or desk.session()
        value = desk.propose(session, _need(photo), mask and Path(mask), stages(progress))
        share = 100 * float(session.proposed.mean())
        what = "taken from the mask file" if mask else "found as damage; look whether it is right"
        return session, value, f"{share:.2f} % {what}" if share else "no damage was found: paint over it."

    def restored(session, photo, layers, references, samples, seed, grow, form, progress: Any = bar):
        if session is None:
            raise InputError("no photo is open; drop one first")
        settings = {"samples": int(samples), "seed": int(seed), "grow": grow, "form": form}
        mask = desk.painted(session, (layers or {}).get("layers") or [])
        outcome = desk.restore(session, _need(photo), mask, _paths(references), settings, stages(progress))
        made = [face[: int(samples)] for face in outcome.done.restoration.candidates]
        gallery = [(c.image, f"{n}") for face in made for n, c in enumerate(face, 1)]
        return session, gallery, *_shown(outcome)

    def chosen(session, number):
        return _shown(desk.choose(session, int(number)))

    return tuple(told(desk, event) for event in (opened, restored, chosen))


def api_events(desk: Desk) -> tuple[Callable[..., Any], ...]:
    """(detect, restore, choose): the same over HTTP, with files only."""
    import gradio as gr

    bar = gr.Progress()

    def detect(session: Session | None, photo: str | None, progress: Any = bar) -> tuple[Any, ...]:
        session, path = session or desk.session(), _need(photo)
        desk.propose(session, path, None, stages(progress))
        file = session.room() / f"{path.stem}_mask.png"
        save_picture(file, np.where(session.proposed, np.uint8(255), np.uint8(0)))
        return session, str(file), f"damage on {100 * float(session.proposed.mean()):.2f} % of the photo"

    def restore(session, photo, mask, references, samples, seed, grow, form, progress: Any = bar):
        session = session or desk.session()
        settings = {"samples": int(samples), "seed": int(seed), "grow": grow, "form": form}
        files = _need(photo), mask and Path(mask), _paths(references)
        outcome = desk.restore(session, *files, settings, stages(progress))
        return session, str(outcome.result), str(outcome.report), str(outcome.mask), outcome.text

    def choose(session, number):
        outcome = desk.choose(session, int(number))
        return str(outcome.result), str(outcome.report), outcome.text

    return tuple(told(desk, event) for event in (detect, restore, choose))


def _add_api(desk: Desk, visit: Any, photo: Any, given: list[Any], number: Any, text: Any) -> None:
    """The calls over HTTP, within a page's Blocks; the page does not show their outputs. given: inputs of `restore`."""
    import gradio as gr

    detect, restore, choose = api_events(desk)
    names = ("mask_used", "result", "report")
    mask, result, report = (gr.File(label=n, visible=False, interactive=False) for n in names)
    called = gr.Button(visible=False)
    called.click(detect, [visit, photo], [visit, mask, text], api_name="detect", **WORK)
    called.click(restore, given, [visit, result, report, mask, text], api_name="restore", **WORK)
    called.click(choose, [visit, number], [result, report, text], api_name="choose", **WORK)


def build_page(desk: Desk) -> Any:
    """The Blocks. Every event gets the visitor's own session, so that visitors do not mix."""
    import gradio as gr

    opened, restored, chosen = page_events(desk)
    with gr.Blocks(title="idinpaint", analytics_enabled=False, delete_cache=(600, IDLE)) as page:
        visit = gr.State(None, time_to_live=IDLE, delete_callback=lambda session: session and session.close())
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                photo = gr.File(label="Photo", elem_id="photo")
                mask = gr.File(label="Mask file, instead of what is found", elem_id="mask")
                references = gr.File(label="Other photos of the person", file_count="multiple", elem_id="references")
                with gr.Accordion("Settings", open=False):
                    samples = gr.Slider(1, 8, 4, step=1, label="Candidates")
                    seed = gr.Number(0, label="Seed", precision=0)
                    grow = gr.Textbox("auto", label="Widen the mask by px, or auto")
                    form = gr.Dropdown(list(ENDINGS), value=SAME, label="Format of the result")
            with gr.Column(scale=3, min_width=320):
                said = gr.Markdown("Drop a photo.", elem_id="said")
                editor = gr.ImageEditor(
                    label="Damage: brush adds, eraser takes away", type="numpy", image_mode="RGBA", format="png",
                    sources=(), transforms=(), layers=gr.LayerOptions(allow_additional_layers=False), height=620,
                    # always the whole canvas: Gradio shifts the layers of pictures that are smaller
                    canvas_size=(CANVAS, CANVAS), fixed_canvas=True,
                    brush=gr.Brush(colors=["rgba(235, 40, 120, 0.67)"], color_mode="fixed"), elem_id="editor",
                )  # fmt: skip
                button = gr.Button("Restore", variant="primary", elem_id="restore")
        with gr.Row():
            slider = gr.ImageSlider(label="Before and after", interactive=False, format="png", elem_id="slider")
            tinted = gr.Image(label="What was filled; the stronger, the more the candidates differ", format="png")
        text = gr.Textbox(label="What was done, and how far to trust it", lines=6, elem_id="text")
        with gr.Row():
            gallery = gr.Gallery(label="Candidates, best first", format="png", columns=4, elem_id="gallery")
            with gr.Column():
                number = gr.Number(1, label="Take candidate", precision=0, minimum=1, elem_id="number")
                take = gr.Button("Take it", elem_id="take")
                files = gr.File(label="Result, report, mask", file_count="multiple", elem_id="files", interactive=False)
        hide = {**WORK, "api_visibility": "private"}
        outputs = [slider, tinted, text, files]
        for file in (photo, mask):
            file.change(opened, [visit, photo, mask], [visit, editor, said], **hide)
        settings = [references, samples, seed, grow, form]
        button.click(restored, [visit, photo, editor, *settings], [visit, gallery, *outputs], **hide)
        take.click(chosen, [visit, number], outputs, **hide)
        _add_api(desk, visit, photo, [visit, photo, mask, *settings], number, text)

        def picked(event):
            return int(event.index) + 1

        picked.__annotations__ = {"event": gr.SelectData}  # by which Gradio gives it; gradio is no name of the module

        gallery.select(picked, None, number, api_visibility="private", queue=False)
    return page
