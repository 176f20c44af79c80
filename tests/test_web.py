"""The page's server, asked as browsers and programs ask it: real files, real networks, several visitors."""

from __future__ import annotations

import argparse
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from idinpaint.cli import main
from idinpaint.cli.parser import build_parser
from idinpaint.types import InputError
from idinpaint.web.serve import check_port

gradio = pytest.importorskip("gradio", reason="the page needs gradio: pip install 'idinpaint[web]'")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory, restorer):
    """(address, root) of a running page that takes files up to 1 MB."""
    from idinpaint.web import desk
    from idinpaint.web.serve import start

    root = tmp_path_factory.mktemp("web")
    port = free_port()
    args = build_parser().parse_args(["serve", "--port", str(port), "--max-upload", "1"])
    patch = pytest.MonkeyPatch()
    patch.setattr(desk.Models, "restorer", lambda self: restorer)  # loaded once for all tests
    page = start(args, root)
    yield f"http://127.0.0.1:{port}", root
    page.close()
    patch.undo()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """a.png and b.png (mirrored), 256 px, and m.png, a stroke over the right eye and brow."""
    from skimage.data import astronaut

    folder = tmp_path_factory.mktemp("pictures")
    image = Image.fromarray(astronaut()).crop((96, 0, 352, 256))
    image.save(folder / "a.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "b.png")
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).line([(80, 70), (130, 130)], fill=255, width=14)
    mask.save(folder / "m.png")
    return folder


def client(server, folder):
    from gradio_client import Client

    return Client(server[0], verbose=False, download_files=str(folder), analytics_enabled=False)


def ask(visitor, photo: Path, mask: Path | None, **more):
    from gradio_client import handle_file

    settings = {"references": None, "samples": 2, "seed": 5, "grow": "0", "form": "as the photo", **more}
    mask = mask and handle_file(str(mask))
    return visitor.predict(photo=handle_file(str(photo)), mask=mask, **settings, api_name="/restore")


def test_the_page_writes_the_bytes_that_the_command_line_writes(server, pictures, tmp_path):
    visitor = client(server, tmp_path / "got")
    result, report, _, text = ask(visitor, pictures / "a.png", pictures / "m.png")
    words = ["restore", str(pictures / "a.png"), "--mask", str(pictures / "m.png"), "-o", str(tmp_path / "cli.png")]
    assert main([*words, "--num-samples", "2", "--seed", "5", "--grow", "0"]) == 0
    assert Path(result).read_bytes() == (tmp_path / "cli.png").read_bytes()
    before, after = (np.asarray(Image.open(p)) for p in (pictures / "a.png", result))
    hole = np.asarray(Image.open(pictures / "m.png")) > 0
    assert np.array_equal(before[~hole], after[~hole]) and (before[hole] != after[hole]).any()
    told = json.loads(Path(report).read_text())
    assert told["files"] == {"image": "a.png", "mask": "m.png", "output": "a_restored.png", "references": []}
    assert str(server[1]) not in Path(report).read_text() + text and "face 1" in text

    other, report, text = visitor.predict(number=2, api_name="/choose")
    second = np.asarray(Image.open(other))
    assert np.array_equal(second[~hole], before[~hole]) and (second != after).any() and "picked by hand" in text
    with pytest.raises(Exception, match="candidate 3: there are 2"):
        visitor.predict(number=3, api_name="/choose")


def test_visitors_at_once_do_not_mix(server, pictures, tmp_path):
    hole = np.asarray(Image.open(pictures / "m.png")) > 0

    def visit(name: str) -> bool:
        result = ask(client(server, tmp_path / name), pictures / name, pictures / "m.png", samples=1)[0]
        before, after = (np.asarray(Image.open(p)) for p in (pictures / name, result))
        return np.array_equal(before[~hole], after[~hole])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(visit, ["a.png", "b.png"] * 2))
    with pytest.raises(Exception, match="nothing is restored yet"):
        client(server, tmp_path).predict(number=1, api_name="/choose")


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("x.png", b"no picture", "x.png: is not a picture"),
        ("e.png", b"", "e.png: is empty"),
        ("bomb.png", None, "bomb.png: has more than 175 megapixels"),
    ],
)
def test_a_damaged_upload_is_one_line_without_a_path(server, pictures, tmp_path, name, data, said):
    file = tmp_path / name
    if data is None:
        Image.new("1", (20000, 20000)).save(file)
    else:
        file.write_bytes(data)
    with pytest.raises(Exception, match=said) as caught:
        ask(client(server, tmp_path / "got"), file, pictures / "m.png")
    assert "\n" not in str(caught.value) and "/" not in str(caught.value)


def test_settings_out_of_range_and_a_missing_photo_are_one_line(server, pictures, tmp_path):
    visitor = client(server, tmp_path)
    for more, said in (({"samples": 0}, "."), ({"grow": "far"}, "grow auto"), ({"seed": -1}, "seed from 0")):
        with pytest.raises(Exception, match=said):
            ask(visitor, pictures / "a.png", pictures / "m.png", **more)
    with pytest.raises(Exception, match="no photo is given"):
        visitor.predict(photo=None, api_name="/detect")


def test_uploads_stay_in_their_folder_and_have_a_limit(server, pictures, tmp_path):
    import httpx

    def upload(name: str, data: bytes) -> httpx.Response:
        return httpx.post(f"{server[0]}/gradio_api/upload", files={"files": (name, data)}, timeout=30)

    answer = upload("../../../../evil.png", (pictures / "a.png").read_bytes())
    assert answer.status_code == 200 and Path(answer.json()[0]).resolve().is_relative_to(server[1].resolve())
    assert not list(tmp_path.parent.rglob("evil.png")) or Path(answer.json()[0]).is_file()
    large = upload("large.png", bytes(2_000_000))
    assert large.status_code == 413 and "exceed" in large.text
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(f"{server[0]}/gradio_api/call/detect", json={"data": [file]}, timeout=30).json()["event_id"]
    told = httpx.get(f"{server[0]}/gradio_api/call/detect/{asked}", timeout=60).text
    assert "event: error" in told and "damage on" not in told
    assert httpx.get(f"{server[0]}/gradio_api/file={secret}", timeout=30).status_code in (403, 404)


def test_nothing_is_asked_of_other_machines(server):
    import httpx

    config = httpx.get(f"{server[0]}/config", timeout=30).json()
    assert config["analytics_enabled"] is False and not config.get("space_id")
    style = json.dumps(config.get("stylesheets") or []) + str(config.get("theme"))
    assert "googleapis" not in style


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="name another --host or --port"):
            check_port("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="cannot listen"):
        check_port("no.such.host.invalid", 7860)


def test_a_mask_painted_in_the_editor_comes_back_at_the_photos_size(tmp_path, monkeypatch):
    from idinpaint.web import desk

    rgb = np.random.default_rng(0).integers(0, 255, (1800, 2400, 3), np.uint8)
    found = np.zeros(rgb.shape[:2], bool)
    found[101:104, 333:1999] = True
    Image.fromarray(rgb).save(tmp_path / "p.png")
    place = desk.Desk(tmp_path, argparse.Namespace(model="default", device="cpu"))
    monkeypatch.setattr(place, "find", lambda photo, progress: found)
    session = place.session()
    value = place.propose(session, tmp_path / "p.png", None, lambda stage: None)
    layer = value["layers"][0]
    assert value["background"].shape == (1200, 1200, 3) and np.array_equal(layer[:900, :, 3] > 0, session.sent)
    same = np.asarray(Image.open(place.painted(session, [layer]))) > 0
    assert np.array_equal(same, found)  # untouched: to the pixel what was found
    layer = layer.copy()
    layer[40:60, 700:800, 3] = 0  # erased
    layer[500:510, 10:20] = 255  # painted
    mask = np.asarray(Image.open(place.painted(session, [layer]))) > 0
    wanted = found.copy()
    wanted[80:120, 1400:1600] = False
    wanted[1000:1020, 20:40] = True
    assert np.array_equal(mask, wanted)
    with pytest.raises(InputError, match="nothing is painted"):
        place.painted(session, [np.zeros_like(layer)])
    session.close()
    assert not session.folder.exists()
