"""IdentityInpaintPipeline with tiny random components: shapes, seeds, schedulers, guidance, saving."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)

from idinpaint.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pconv import PConvPrior

SCHEDULE = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "timestep_spacing": "trailing"}


def tiny_pipeline(scheduler=None) -> IdentityInpaintPipeline:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=3 * 4 + 4 + 5, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=8, norm_num_groups=4,
    )  # fmt: skip
    autoencoder = FaceAutoencoder(4, 8, 8)
    autoencoder.fit_encoder(torch.rand(4, 3, 64, 64) * 2 - 1)
    prior = PConvPrior(widths=(8, 8, 8), head_width=8)
    tokens = IdentityTokens(6, 4, 16, 8)
    parts = (unet, scheduler or DDIMScheduler(**SCHEDULE), autoencoder, prior, tokens)
    pipeline = IdentityInpaintPipeline(*(p.eval() if isinstance(p, torch.nn.Module) else p for p in parts), [0.5] * 4)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(batch, 1, 64, 64)
    mask[..., 16:40, 20:50] = 1
    embed = torch.nn.functional.normalize(torch.randn(batch, 6, generator=generator), dim=1)
    return {
        "masked_image": torch.rand(batch, 3, 64, 64, generator=generator) * 2 - 1,
        "mask": mask,
        "heatmaps": torch.rand(batch, 5, 8, 8, generator=generator),
        "id_embed": embed,
    }


def run(pipeline, seed: int = 0, **changes) -> torch.Tensor:
    arguments = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(seed), **inputs(), **changes}
    return pipeline(**arguments).images


def test_known_pixels_come_back_and_the_hole_does_not_leak():
    pipeline, given = tiny_pipeline(), inputs()
    images = run(pipeline)
    assert images.shape == (2, 3, 64, 64)
    known = (1 - given["mask"]).expand_as(images).bool()
    assert torch.equal(images[known], given["masked_image"][known])
    noisy = torch.where(known, given["masked_image"], torch.randn_like(images))
    assert torch.equal(images, run(pipeline, masked_image=noisy))


def test_seed_samples_guidance_identity_and_heatmaps_matter():
    pipeline = tiny_pipeline()
    base = run(pipeline)
    assert torch.equal(base, run(pipeline))
    for changed in (
        run(pipeline, seed=5),
        run(pipeline, guidance_scale=2.0),
        run(pipeline, id_embed=None),
        run(pipeline, heatmaps=torch.zeros(2, 5, 8, 8)),
        run(pipeline, temperature=0.5),
    ):
        assert not torch.equal(base, changed)
    assert run(pipeline, num_images_per_prompt=3).shape == (6, 3, 64, 64)


@pytest.mark.parametrize("kind", [DPMSolverMultistepScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler])
def test_any_scheduler(kind):
    pipeline = tiny_pipeline(kind(**SCHEDULE))
    assert torch.isfinite(run(pipeline, num_inference_steps=3)).all()


def test_callback_sees_and_may_change_the_latents():
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, tuple(tensors["latents"].shape)))
        return {"latents": tensors["latents"] * 0}

    pipeline = tiny_pipeline()
    images = run(pipeline, callback_on_step_end=callback)
    assert [s for s, _ in seen] == [0, 1] and seen[0][1] == (2, 4, 8, 8)
    assert torch.equal(images, run(pipeline, seed=9, callback_on_step_end=callback))


def test_save_and_load(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    assert not list(tmp_path.rglob("*.bin")) and len(list(tmp_path.rglob("*.safetensors"))) == 4
    again = IdentityInpaintPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert list(again.config.residual_std) == [0.5] * 4
    assert torch.equal(run(pipeline), run(again))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mask": torch.zeros(2, 1, 32, 32)}, "mask has shape"),
        ({"heatmaps": torch.zeros(2, 5, 4, 4)}, "heatmaps have shape"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
    ],
)
def test_wrong_shapes_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        run(tiny_pipeline(), **changes)
