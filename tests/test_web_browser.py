"""The page in a real browser: Debian's chromium through playwright."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

gradio = pytest.importorskip("gradio", reason="the page needs gradio: pip install 'idinpaint[web]'")
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright drives the browser")
BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium; Debian, Ubuntu: apt install chromium")


def test_upload_brush_restore_pick_and_download(tmp_path, restorer, monkeypatch):
    from skimage.data import astronaut
    from test_web import free_port

    from idinpaint.cli.parser import build_parser
    from idinpaint.web import desk
    from idinpaint.web.serve import start

    monkeypatch.setattr(desk.Models, "restorer", lambda self: restorer)  # loaded once for all tests
    image = Image.fromarray(astronaut()).crop((96, 0, 352, 256))
    image.save(tmp_path / "p.png")
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).line([(80, 70), (130, 130)], fill=255, width=14)
    mask.save(tmp_path / "m.png")
    port = free_port()
    page = start(build_parser().parse_args(["serve", "--port", str(port)]), Path(tempfile.mkdtemp(dir=tmp_path)))
    try:
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
            result = visit(browser.new_page(viewport={"width": 1280, "height": 1600}), port, tmp_path)
            browser.close()
    finally:
        page.close()
    mask = np.asarray(Image.open(result["mask"])) > 0
    before, after = (np.asarray(Image.open(p)) for p in (tmp_path / "p.png", result["restored"]))
    given = np.asarray(Image.open(tmp_path / "m.png")) > 0
    assert mask[given].all() and 20 < (mask & ~given).sum() < 4000  # what was given, and the stroke by hand
    assert np.array_equal(before[~mask], after[~mask]) and (before[mask] != after[mask]).any()


def visit(tab, port: int, folder: Path) -> dict[str, Path]:
    """What a person does; returns the files that were downloaded, by the end of their names."""
    foreign = []
    tab.on("request", lambda r: foreign.append(r.url) if f"127.0.0.1:{port}" not in r.url[:40] else None)
    tab.goto(f"http://127.0.0.1:{port}")
    tab.set_input_files("#photo input[type=file]", folder / "p.png")
    tab.wait_for_function("/found/.test(document.querySelector('#said').innerText)", timeout=60_000)
    tab.set_input_files("#mask input[type=file]", folder / "m.png")
    tab.wait_for_function("/mask file/.test(document.querySelector('#said').innerText)", timeout=60_000)
    tab.wait_for_selector("#editor canvas")
    tab.wait_for_timeout(2500)  # the editor takes the new picture in without a sign
    box = tab.locator("#editor canvas").last.bounding_box()
    x, y = box["x"] + box["width"] / 2 + 80, box["y"] + box["height"] * 0.65  # on the shoulder
    tab.mouse.move(x, y)
    tab.mouse.down()
    for step in range(8):
        tab.mouse.move(x + 4 * step, y + 2 * step)
    tab.mouse.up()
    tab.wait_for_timeout(2500)  # the editor sends a stroke a moment after it
    tab.click("#restore")
    tab.wait_for_selector("#gallery button img, #gallery .thumbnail-item", timeout=120_000)
    tab.locator("#gallery .thumbnail-item").nth(1).click()
    tab.wait_for_function("document.querySelector('#number input').value == '2'", timeout=20_000)
    tab.click("#take")
    tab.wait_for_function("/picked by hand/.test(document.querySelector('#text textarea').value)", timeout=60_000)
    files = {}
    for link in tab.locator("#files a[href]").all():
        with tab.expect_download() as download:
            link.click()
        name = download.value.suggested_filename
        files[Path(name).stem.split("_")[-1]] = folder / "got" / name
        download.value.save_as(folder / "got" / name)
    assert not [url for url in foreign if not url.startswith(("data:", "blob:"))]  # works with the network off
    return files
