"""Optional backends, proved on files of their own layout that the tests make."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import skimage.data
import torch

from idinpaint import Restorer
from idinpaint.faces.identity import KEPT, BundledEncoder, InsightFaceEncoder, hide
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.weights import BUNDLED, WeightStore
from idinpaint.types import InputError


def faces(count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(count)]


def test_bundled_encoder_gives_unit_vectors_that_ignore_mirroring():
    encoder = BundledEncoder(IdentityNet(), 0.3)
    given = faces()
    vectors = encoder.embed(given)
    assert vectors.shape == (3, 128) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, encoder.embed([f[:, ::-1] for f in given]), atol=1e-5)


def test_an_encoder_reads_no_face_twice_and_keeps_their_order():
    encoder, read = BundledEncoder(IdentityNet(), 0.3), []
    encoder.net.register_forward_hook(lambda net, given, out: read.append(len(given[0])))
    a, b, c = faces()
    first = encoder.embed([a, b])
    again = encoder.embed([b, c, b, a])
    assert read == [2, 2, 1, 1]  # each face, then its mirror image
    assert np.array_equal(again[[0, 2, 3]], [first[1], first[1], first[0]])
    for face in faces(80):
        encoder.embed([face])
    assert len(encoder._known) == KEPT


def test_hide_sets_mid_grey():
    face, hidden = faces(1)[0], np.zeros((112, 112), bool)
    hidden[:10] = True
    out = hide(face, hidden)
    assert (out[:10] == 128).all() and np.array_equal(out[10:], face[10:])


def test_insightface_reads_an_onnx_recognition_network(tmp_path):
    pytest.importorskip("insightface", reason="pip install '.[insightface]' to run this")
    onnx = pytest.importorskip("onnx", reason="pip install onnx to run this")
    from onnx import TensorProto, helper, numpy_helper

    # The layout of a pack's recognition network: [N, 3, 112, 112] -> [N, D]; here means of the colours.
    weights = numpy_helper.from_array(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]], np.float32), "w")
    nodes = [
        helper.make_node("GlobalAveragePool", ["input.1"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["683"]),
    ]
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("683", TensorProto.FLOAT, ["None", 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "w600k_tiny.onnx")
    encoder = InsightFaceEncoder(str(tmp_path))
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 255
    vector = encoder.embed([red])[0]
    expected = np.array([1, -1, -1, -1]) / 2  # RGB order kept, (x - 127.5) / 127.5
    assert np.allclose(vector, expected, atol=1e-3)


def test_missing_backends_say_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="not installed|no recognition network"):
        InsightFaceEncoder(str(tmp_path))
    with pytest.raises(InputError, match="use bundled"):
        Restorer.from_pretrained(device="cpu", identity="nonesuch")


def test_an_encoder_of_another_size_is_refused_for_painting():
    restorer = Restorer.from_pretrained(device="cpu")
    restorer.analyzer.identity = restorer.identity = BundledEncoder(IdentityNet(dim=64), 0.3)
    mask = np.zeros((512, 512), bool)
    mask[100:120, 200:230] = True
    with pytest.raises(InputError, match="128 numbers, the encoder gives 64"):
        restorer(skimage.data.astronaut(), mask, strategy="diffusion", num_samples=1, steps=1)


def test_damaged_missing_and_foreign_weights_are_refused(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder)
    path = folder / "identity.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="sha256 differs"):
        Restorer.from_pretrained(str(folder), device="cpu")
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        WeightStore(folder).load("identity.safetensors")
    (folder / "weights.json").write_text(json.dumps({"no": 1}))
    with pytest.raises(InputError, match="not a weights manifest"):
        WeightStore(folder)
    with pytest.raises(InputError, match="neither a model folder"):
        Restorer.from_pretrained(str(tmp_path), device="cpu")


def test_every_bundled_file_agrees_with_its_sha256_and_is_half_precision():
    from safetensors.torch import load_file

    entries = list(WeightStore().entries())
    assert entries and all(e.ok for e in entries)
    assert sum(e.bytes for e in entries) <= 60e6
    for entry in entries:
        if entry.name.endswith(".safetensors"):
            kinds = {v.dtype for v in load_file(entry.path).values() if v.is_floating_point()}
            assert kinds == {torch.float16}, entry.name
