"""The ComfyUI node's functions with ComfyUI's tensors: images [B, H, W, C] float in 0..1, masks [B, H, W]."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "integrations/comfyui"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"comfy_idinpaint_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


node = load("restore")


def portrait() -> torch.Tensor:
    from skimage.data import astronaut

    return torch.from_numpy(astronaut()[:256, 96:352].copy()).float()[None] / 255


def hole(count: int = 1) -> torch.Tensor:
    mask = torch.zeros(count, 256, 256)
    mask[:, 100:112, 120:170] = 1.0
    return mask


def test_a_batch_with_one_mask(restorer):
    image = torch.cat([portrait(), portrait().flip(2)])
    result, report = node.restore(image, hole(), num_samples=1, strategy="telea", restorer=restorer)
    assert result.shape == image.shape and result.dtype == torch.float32
    known = hole()[0] < 0.5
    assert torch.equal(result[:, known], image[:, known])
    assert not torch.equal(result, image) and 0 <= result.min() and result.max() <= 1
    assert [row["decision"]["strategy"] for row in json.loads(report)] == ["telea", "telea"]


def test_known_floats_keep_what_eight_bits_cannot(restorer):
    image = (portrait() * 0.7 + 0.0013).clamp(0, 1)
    result, _ = node.restore(image, hole(), strategy="telea", restorer=restorer)
    known = hole()[0] < 0.5
    assert torch.equal(result[:, known], image[:, known])


def test_references_reach_the_face(restorer):
    result, report = node.restore(portrait(), hole(), portrait().flip(2), 3, 1, "prior", restorer=restorer)
    row = json.loads(report)[0]
    assert row["seed"] == 3 and len(row["references"]) == 1 and row["faces"]
    again, _ = node.restore(portrait(), hole(), portrait().flip(2), 3, 1, "prior", restorer=restorer)
    assert torch.equal(result, again)


def test_other_shapes(restorer):
    rgba = torch.cat([portrait(), torch.ones(1, 256, 256, 1)], -1)
    assert node.restore(rgba, hole()[0], strategy="telea", restorer=restorer)[0].shape == (1, 256, 256, 3)
    result, report = node.restore(portrait(), torch.zeros(1, 256, 256), restorer=restorer)
    assert torch.equal(result, portrait()) and json.loads(report)[0]["status"] == "unchanged"


@pytest.mark.parametrize("image, mask, said", [
    (torch.zeros(256, 256, 3), hole(), "an image is"),
    (torch.zeros(1, 256, 256, 2), hole(), "1, 3 or 4 channels"),
    (torch.zeros(1, 128, 256, 3), hole(), "give it that size"),
    (torch.zeros(3, 256, 256, 3), hole(2), "2 masks for 3 images"),
])  # fmt: skip
def test_tensors_that_do_not_fit(image, mask, said):
    with pytest.raises(ValueError, match=said):
        node.restore(image, mask)


def test_the_node_itself():
    """Where ComfyUI's API is installed: the schema is valid, and its inputs are those of `execute`."""
    pytest.importorskip("comfy_api", reason="ComfyUI is not installed")
    spec = importlib.util.spec_from_file_location(
        "comfy_idinpaint", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["comfy_idinpaint"] = module
    spec.loader.exec_module(module)
    (made,) = asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
    names = [one.id for one in made.define_schema().inputs]
    assert names == ["image", "mask", "references", "seed", "num_samples", "strategy", "force"]
