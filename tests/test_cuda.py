"""The same on a CUDA GPU as on the CPU: painter and whole restoration. Skips where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from idinpaint.cli import main
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.weights import BUNDLED

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="run this where there is a CUDA GPU")


def test_the_bundled_pipeline_paints_the_same():
    torch.manual_seed(0)
    known, hole = torch.rand(1, 3, 256, 256) * 0.2, torch.zeros(1, 1, 256, 256)
    hole[..., 90:150, 60:120] = 1
    asked = {"latents": torch.randn(2, 16, 32, 32), "num_images_per_prompt": 2, "num_inference_steps": 1}
    maps = torch.zeros(1, 68, 32, 32)
    maps[:, :, 12, 12] = 1
    painted = {}
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.float32), ("cuda", torch.float16)):
        pipeline = IdentityInpaintPipeline.from_pretrained(BUNDLED / "pipeline", torch_dtype=dtype).to(device)
        given = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in asked.items()}
        pictures = pipeline(
            masked_image=(known * (1 - hole)).to(device), mask=hole.to(device), heatmaps=maps.to(device), **given
        )
        painted[device, dtype] = pictures.images.float().cpu()
    apart = {key: (picture - painted["cpu", torch.float32]).abs() * 127.5 for key, picture in painted.items()}
    print({str(key): (float(d.mean()), float(d.max())) for key, d in apart.items()})
    assert apart["cuda", torch.float32].max() < 2 and apart["cuda", torch.float16].mean() < 1  # of 255


def test_a_restoration_on_the_gpu(tmp_path):
    photo, hole = skimage.data.astronaut(), np.zeros((512, 512), bool)
    hole[98:128, 190:240] = True
    Image.fromarray(photo).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "mask.png")
    made = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.png"
        given = ["restore", str(tmp_path / "a.png"), "--mask", str(tmp_path / "mask.png"), "-o", str(out)]
        assert main([*given, "--strategy", "diffusion", "--force", "--device", device, "--dtype", "fp32"]) in (0, 3)
        made[device] = np.asarray(Image.open(out).convert("RGB")).astype(int)
        assert np.array_equal(made[device][~hole], photo[~hole])
        assert np.abs(made[device][hole] - photo[hole]).mean() > 1
    assert np.abs(made["cpu"] - made["cuda"])[hole].mean() < 4  # of 255; the drawn noise is the same
