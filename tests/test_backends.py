"""Landmarks, identity and judge by flag; where optional weights lie, and what is said when they do not."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from idinpaint.cli import doctor, main
from idinpaint.faces import identity
from idinpaint.faces.identity import InsightFaceEncoder
from idinpaint.faces.landmarks import FaceAlignmentLandmarker
from idinpaint.loading.bundle import load_judge
from idinpaint.models import weights
from idinpaint.models.weights import FAN_FILE, SFACE_FILE, WeightStore, sha256_of
from idinpaint.types import InputError


def arcface_onnx(path: Path, dim: int = 512) -> Path:
    """A random network in the layout of a pack's recognition model: input.1 [N, 3, 112, 112] -> 683 [N, dim]."""
    onnx = pytest.importorskip("onnx", reason="pip install onnx to run this")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    filters = numpy_helper.from_array(rng.normal(0, 0.1, (8, 3, 7, 7)).astype(np.float32), "f")
    matrix = numpy_helper.from_array(rng.normal(0, 0.1, (8 * 16 * 16, dim)).astype(np.float32), "m")
    nodes = [
        helper.make_node("Conv", ["input.1", "f"], ["c"], strides=[7, 7]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["v"]),
        helper.make_node("MatMul", ["v", "m"], ["683"]),
    ]
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("683", TensorProto.FLOAT, ["None", dim])]
    graph = helper.make_graph(nodes, "random", inputs, outputs, [filters, matrix])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def photos(tmp_path) -> dict[str, str]:
    """The astronaut, its mirror image, and a mask of an eye."""
    pixels, mask = skimage.data.astronaut(), np.zeros((512, 512), np.uint8)
    mask[100:125, 195:235] = 255
    for name, image in (("a", pixels), ("b", np.ascontiguousarray(pixels[:, ::-1])), ("mask", mask)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    return {name: str(tmp_path / f"{name}.png") for name in ("a", "b", "mask", "out")}


def test_insightface_verifies_and_judges_by_flag(photos, tmp_path, capsys):
    pytest.importorskip("insightface", reason="pip install '.[insightface]' to run this")
    pack = arcface_onnx(tmp_path / "antelopev2" / "antelopev2" / "glintr100.onnx").parents[1]  # as its zip unpacks
    assert main(["verify", photos["a"], photos["a"], "--identity", f"insightface:{pack}", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["encoder"] == "insightface/glintr100.onnx" and said["similarity"] == pytest.approx(1, abs=1e-5)
    report = tmp_path / "r.json"
    given = ["restore", photos["a"], "--mask", photos["mask"], "-o", photos["out"], "--report", str(report)]
    given += ["--num-samples", "1", "--reference", photos["b"], "--judge", f"insightface:{pack}"]
    assert main(given) == 0
    encoders = json.loads(report.read_text())["encoders"]
    assert encoders["insightface/glintr100.onnx"] == {
        "sha256": sha256_of(pack / "antelopev2" / "glintr100.onnx"), "role": "verifies"
    }  # fmt: skip
    capsys.readouterr()
    given = given[:6] + ["--identity", f"insightface:{pack}"]
    for strategy in ("auto", "gan", "prior"):  # all of them stand on the prior, which takes the identity too
        assert main([*given, "--strategy", strategy]) == 2
        assert "128 numbers, the encoder gives 512; to verify" in capsys.readouterr().err
    assert main([*given, "--strategy", "telea"]) == 0


def test_a_packs_network_is_found_wherever_the_zip_put_it(tmp_path, monkeypatch):
    for name in ("a/w600k_r50.onnx", "a/1k3d68.onnx", "b/b/glintr100.onnx", "b/b/scrfd.onnx", "c/own.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(identity, "PACKS", tmp_path)
    found = [InsightFaceEncoder.find(pack).name for pack in ("a", "b", str(tmp_path / "c"), "a/1k3d68.onnx")[:3]]
    assert found == ["w600k_r50.onnx", "glintr100.onnx", "own.onnx"]
    (tmp_path / "c" / "two.onnx").touch()
    for wrong in ("c", "nonesuch"):
        with pytest.raises(InputError, match="insightface-cli model.download"):
            InsightFaceEncoder.find(wrong)


def test_judges_that_are_not_there_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("IDINPAINT_WEIGHTS", str(tmp_path))
    store = WeightStore()
    assert load_judge(store) is None and load_judge(store, "bundled") is None
    with pytest.raises(InputError, match="idinpaint download sface"):
        load_judge(store, "sface")
    with pytest.raises(InputError, match="use auto, sface, insightface:PACK or bundled"):
        load_judge(store, "nobody")


def test_2dfan_offline_is_one_line_and_loads_no_detector(tmp_path, monkeypatch):
    face_alignment = pytest.importorskip("face_alignment", reason="pip install '.[face-alignment]' to run this")
    import torch

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match="is not there; `idinpaint download 2dfan` fetches it"):
        FaceAlignmentLandmarker()
    path = weights.download_path(FAN_FILE)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut off")
    with pytest.raises(InputError, match="cannot be loaded"):
        FaceAlignmentLandmarker()
    from face_alignment.models import FAN

    torch.save(FAN(4).state_dict(), path)
    before = set(path.parent.iterdir())
    landmarker = FaceAlignmentLandmarker()
    points, confidence = landmarker.predict(skimage.data.astronaut()[:256, 100:356], np.zeros((256, 256), bool))
    assert points.shape == (68, 2) and confidence.shape == (68,) and set(path.parent.iterdir()) == before
    assert face_alignment.__version__


@pytest.fixture
def server(tmp_path, monkeypatch):
    """DOWNLOADS' files from a server of our own; 2dfan's is not the published one, and yunet's is not there."""
    (tmp_path / "served").mkdir()
    for name in (SFACE_FILE, FAN_FILE):
        (tmp_path / "served" / name).write_bytes(name.encode())
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    handler.log_message = lambda *args: None
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    digests = {SFACE_FILE: sha256_of(tmp_path / "served" / SFACE_FILE)}
    base, published = f"http://127.0.0.1:{http.server_port}", weights.DOWNLOADS.items()
    here = {name: (f"{base}/{name}", digests.get(name, digest), terms) for name, (_, digest, terms) in published}
    monkeypatch.setattr(weights, "DOWNLOADS", here)
    monkeypatch.setenv("IDINPAINT_WEIGHTS", str(tmp_path / "mine"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield tmp_path
    http.shutdown()


def test_download_keeps_what_is_published_and_nothing_else(server, capsys):
    assert main(["download", "sface"]) == 0
    assert (server / "mine" / SFACE_FILE).read_bytes() == SFACE_FILE.encode()
    assert main(["download", "sface"]) == 0 and "there already" in capsys.readouterr().out
    assert main(["download"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("2dfan" in line and "sha256" in line and "nothing was kept" in line for line in lines)
    files = {path.name for path in (*server.glob("mine/*"), *server.glob("torch/**/*")) if path.is_file()}
    assert files == {SFACE_FILE} and not list(server.glob("**/.part"))
    assert main(["download", "nonesuch"]) == 2 and "use yunet, sface, 2dfan" in capsys.readouterr().err


def test_without_a_net_download_says_what_to_fetch(server, capsys, monkeypatch):
    gone = {name: ("http://127.0.0.1:9/" + name, *rest) for name, (_, *rest) in weights.DOWNLOADS.items()}
    monkeypatch.setattr(weights, "DOWNLOADS", gone)
    assert main(["download", "sface"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"put http://127.0.0.1:9/{SFACE_FILE} into {server / 'mine'}" in said


def test_doctor_says_whether_weights_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("IDINPAINT_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(identity, "PACKS", tmp_path / "packs")
    assert "WEIGHTS not there: idinpaint download 2dfan" in doctor._weights_of("face-alignment")
    assert "WEIGHTS not there: insightface-cli" in doctor._weights_of("insightface")
    assert "not there: idinpaint download sface" in doctor._file("sface", "a judge")
    path = weights.download_path(FAN_FILE)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    (tmp_path / "packs" / "buffalo_l").mkdir(parents=True)
    (tmp_path / "packs" / "buffalo_l" / "w600k_r50.onnx").touch()
    assert "WEIGHTS BAD" in doctor._weights_of("face-alignment")
    assert "packs buffalo_l" in doctor._weights_of("insightface")
