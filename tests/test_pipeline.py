"""IdentityInpaintPipeline with tiny random components: shapes, seeds, schedulers, guidance, saving."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from PIL import Image

from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pconv import PConvPrior
from idinpaint.models.refiner import DetailRefiner, hole_box

SCHEDULE = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "timestep_spacing": "trailing"}


def tiny_pipeline(scheduler=None, **settings) -> IdentityInpaintPipeline:
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
    parts = [p.eval() if isinstance(p, torch.nn.Module) else p for p in parts]
    pipeline = IdentityInpaintPipeline(*parts, [0.5] * 4, **settings)
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


def test_the_priors_share_of_the_picture(tmp_path):
    hole = inputs()["mask"].expand(-1, 3, -1, -1).bool()
    call = {"num_inference_steps": 2, **inputs()}
    made = {}
    for share in (0.0, 0.25, 1.0):
        pipeline = tiny_pipeline(prior_share=share)
        made[share] = pipeline(generator=torch.Generator().manual_seed(0), **call)
    assert torch.equal(made[1.0].images[hole], made[0.0].prior_image[hole])
    mean = 0.75 * made[0.0].predicted_images + 0.25 * made[0.0].prior_image
    assert torch.allclose(made[0.25].predicted_images, mean, atol=1e-6)
    tiny_pipeline(prior_share=0.25).save_pretrained(tmp_path, safe_serialization=True)
    again = IdentityInpaintPipeline.from_pretrained(tmp_path)
    assert IdentityInpaintPipeline(**again.components).config.prior_share == again.config.prior_share == 0.25
    again.set_progress_bar_config(disable=True)
    assert torch.equal(run(again), made[0.25].images)


def test_the_refiner_adds_to_what_was_painted_and_is_saved(tmp_path):
    torch.manual_seed(3)
    refiner = DetailRefiner(widths=(8, 8, 8), heatmaps=5, fine_width=4, outline=0).eval()
    plain, refined = tiny_pipeline(), tiny_pipeline(refiner=refiner)
    given = inputs()
    assert torch.equal(run(plain), run(refined))  # it begins by changing nothing
    torch.nn.init.normal_(refiner.out.weight, std=0.1)
    images, hole = run(refined), given["mask"].expand(-1, 3, -1, -1).bool()
    assert torch.equal(images[~hole], given["masked_image"][~hole])
    assert (images[hole] - run(plain)[hole]).abs().mean() > 0.01
    noisy = torch.where(hole, torch.randn_like(images), given["masked_image"])
    assert torch.equal(images, run(refined, masked_image=noisy))  # nothing of the hole leaks into it
    one = {name: value[1:] for name, value in given.items()}
    alone = refined(**one, num_inference_steps=2, num_images_per_prompt=2, generator=torch.Generator().manual_seed(1))
    assert alone.images.shape == (2, 3, 64, 64) and not torch.equal(*alone.images)
    refined.save_pretrained(tmp_path, safe_serialization=True)
    again = IdentityInpaintPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(run(again), images)


def test_the_refiner_leaves_what_is_far_from_the_features_alone():
    refiner = DetailRefiner(widths=(8, 8, 8), heatmaps=68, fine_width=4).eval()
    torch.nn.init.normal_(refiner.out.weight, std=0.1)
    maps = torch.zeros(1, 68, 16, 16)
    maps[:, 3, 2, 2] = 1  # of the jaw
    maps[:, 40, 8, 8] = 1  # of an eye
    painted, hole = torch.rand(1, 3, 128, 128), torch.ones(1, 1, 128, 128)
    with torch.no_grad():
        changed = (refiner(painted, hole, painted, maps) - painted).abs().amax(1)[0]
    assert changed[60:76, 60:76].min() > 0
    far = torch.ones(128, 128, dtype=torch.bool)
    far[44:92, 44:92] = False
    assert not changed[far].any()
    wider = DetailRefiner(widths=(8, 8, 8), heatmaps=68, fine_width=4, elsewhere=True).eval()
    wider.load_state_dict(refiner.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.equal(wider(painted, hole, painted, maps), refiner(painted, hole, painted, maps))
        torch.nn.init.normal_(wider.far.weight, std=0.1)
        again = (wider(painted, hole, painted, maps) - painted).abs().amax(1)[0]
    assert torch.equal(again[60:76, 60:76], changed[60:76, 60:76]) and again[far].min() > 0


def test_the_refiner_works_near_the_hole():
    hole = torch.zeros(2, 1, 64, 128)
    assert hole_box(hole) == (0, 0, 64, 128)
    hole[1, 0, 60, 50:53] = 1
    assert hole_box(hole) == (24, 16, 64, 88)
    hole[0, 0, 3, 127] = 1
    assert hole_box(hole) == (0, 16, 64, 128)


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


def pictures() -> tuple[Image.Image, Image.Image]:
    """A random picture of 96 x 64 px and the mask of a hole in it, as PIL images."""
    rng = np.random.default_rng(0)
    mask = np.zeros((96, 64), np.uint8)
    mask[24:60, 10:40] = 255
    return Image.fromarray(rng.integers(0, 256, (96, 64, 3), np.uint8)), Image.fromarray(mask)


def call(pipeline, **changes):
    arguments = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0), "id_embed": None}
    return pipeline(**{**arguments, **changes})


def test_pil_numpy_and_tensors_give_the_same_picture_of_any_size():
    pipeline, (image, mask) = tiny_pipeline(), pictures()
    (made,) = call(pipeline, image=image, mask_image=mask).images
    pixels, hole = np.asarray(image), np.asarray(mask) > 0
    assert made.size == image.size and np.array_equal(np.asarray(made)[~hole], pixels[~hole])
    assert not np.array_equal(np.asarray(made)[hole], pixels[hole])
    as_array = call(
        pipeline, image=pixels[None] / 255.0, mask_image=hole[None, ..., None] * 1.0, output_type="np"
    ).images
    assert as_array.shape == (1, 96, 64, 3) and np.abs(as_array[0] * 255 - np.asarray(made)).max() < 0.6
    tensor = torch.from_numpy(pixels / 255.0).permute(2, 0, 1)[None].float()
    hole_tensor = torch.from_numpy(hole * 1.0)[None, None]
    as_tensor = call(pipeline, image=tensor, mask_image=hole_tensor, output_type="pt").images
    assert np.allclose(as_tensor[0].permute(1, 2, 0).numpy(), as_array[0], atol=1e-5)
    noise = Image.fromarray(np.where(hole[..., None], 255 - pixels, pixels))
    assert np.array_equal(np.asarray(call(pipeline, image=noise, mask_image=mask).images[0]), np.asarray(made))
    plain = call(pipeline, masked_image=tensor * 2 - 1, mask=hole_tensor.float())
    assert np.allclose(plain.images[0].permute(1, 2, 0).numpy() / 2 + 0.5, as_array[0], atol=1e-5)


def test_output_types_and_tuples():
    pipeline, (image, mask) = tiny_pipeline(), pictures()
    images, predicted, prior = call(pipeline, image=image, mask_image=mask, return_dict=False, num_images_per_prompt=2)
    assert len(images) == 2 and predicted.shape == (2, 3, 96, 64) and prior.shape == (1, 3, 64, 64)
    latents = call(pipeline, image=image, mask_image=mask, output_type="latent").images
    assert latents.shape == (1, 4, 8, 8)
    with pytest.raises(ValueError, match="output_type is 'jpg'; use one of pil, np, pt, latent"):
        call(pipeline, image=image, mask_image=mask, output_type="jpg")
    with pytest.raises(ValueError, match="image and mask_image, or masked_image and mask"):
        call(pipeline, image=image)
    with pytest.raises(ValueError, match="multiples of 8"):
        call(pipeline, masked_image=torch.zeros(1, 3, 60, 60), mask=torch.zeros(1, 1, 60, 60))


def test_given_latents_stand_for_the_drawn_ones():
    pipeline, generator = tiny_pipeline(EulerDiscreteScheduler(**SCHEDULE)), torch.Generator().manual_seed(7)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    assert torch.equal(run(pipeline, seed=7), run(pipeline, seed=1, latents=noise))
    with pytest.raises(ValueError, match="latents have shape"):
        run(pipeline, latents=noise[:1])


def test_timesteps_of_ones_own():
    pipeline = tiny_pipeline(EulerDiscreteScheduler(**SCHEDULE))
    seen = []
    run(pipeline, timesteps=[900, 400, 100], callback_on_step_end=lambda p, i, t, kept: seen.append(int(t)))
    assert seen == [900, 400, 100] and pipeline.num_timesteps == 3
    with pytest.raises(ValueError, match="DDIMScheduler takes no timesteps"):
        run(tiny_pipeline(), timesteps=[900])
    with pytest.raises(ValueError, match="not both"):
        run(pipeline, timesteps=[900], sigmas=[1.0])


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_strength_starts_from_the_priors_fill(kind):
    pipeline = tiny_pipeline(kind(**SCHEDULE))
    given, seen = inputs(), []
    known = (1 - given["mask"]).expand_as(given["masked_image"]).bool()

    def far(strength: float) -> float:
        seen.clear()
        asked = {"num_inference_steps": 20, "strength": strength, "callback_on_step_end": lambda *a: seen.append(1)}
        out = pipeline(**given, **asked, generator=torch.Generator().manual_seed(0))
        decoded = pipeline.autoencoder.decode(pipeline.autoencoder.encode(out.prior_image), *masked(given))
        assert torch.equal(out.images[known], given["masked_image"][known])
        return float((out.predicted_images - decoded.clamp(-1, 1)).abs().mean())

    distances = [far(strength) for strength in (0.05, 0.5, 1.0)]
    assert distances[0] < 0.5 * distances[2] and distances[0] < distances[1] and len(seen) == 20
    far(0.5)
    assert len(seen) == 10
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="strength is"):
            far(wrong)


def masked(given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return given["masked_image"] * (1 - given["mask"]), given["mask"]


def test_callbacks_may_return_nothing_ask_for_more_and_interrupt():
    pipeline, seen = tiny_pipeline(), []

    def looks(pipe, index, timestep, tensors):
        seen.append(sorted(tensors))

    names = ["latents", "noise_pred", "maps", "tokens"]
    plain = run(pipeline)
    looked_at = run(pipeline, callback_on_step_end=looks, callback_on_step_end_tensor_inputs=names)
    assert torch.equal(plain, looked_at) and seen == [sorted(names)] * 2
    with pytest.raises(ValueError, match="has nonesuch; use some of latents, noise_pred"):
        run(pipeline, callback_on_step_end=looks, callback_on_step_end_tensor_inputs=["nonesuch"])

    def stops(pipe, index, timestep, tensors):
        seen.append(index)
        pipe._interrupt = True

    seen.clear()
    run(pipeline, num_inference_steps=5, callback_on_step_end=stops)
    assert seen == [0]
    assert torch.equal(run(pipeline), plain)  # the next call is whole again


def test_a_pipeline_from_the_others_components_paints_the_same():
    pipeline = tiny_pipeline()
    again = IdentityInpaintPipeline(**pipeline.components)
    again.set_progress_bar_config(disable=True)
    assert list(again.config.residual_std) == [0.5] * 4
    assert torch.equal(run(pipeline), run(again))


def test_diffusers_finds_the_class_by_the_saved_file(tmp_path, monkeypatch):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "saved")
    for way in (tmp_path / "saved", tmp_path / "saved" / "pipeline.py"):
        again = DiffusionPipeline.from_pretrained(
            str(tmp_path / "saved"), custom_pipeline=str(way), trust_remote_code=True
        )
        again.set_progress_bar_config(disable=True)
        assert type(again) is IdentityInpaintPipeline and torch.equal(run(pipeline), run(again))


def in_hub_cache(source: Path, cache: Path, name: str) -> None:
    """Lay a folder into a hub cache as a download would."""
    root = cache / f"models--{name.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    shutil.copytree(source, root / "snapshots" / ("0" * 40))


def test_a_hub_id_of_either_base(tmp_path):
    from tiny_sd import save_tiny_sd

    from idinpaint.models.sd_pipeline import IdentitySDInpaintPipeline

    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "own")
    other = IdentitySDInpaintPipeline.from_base(str(save_tiny_sd(tmp_path / "base")), resolution=64)
    other.unet.add_conditions(heatmap_channels=5, id_dim=6)
    other.save_pretrained(tmp_path / "sd")
    for name, kind in (("own", IdentityInpaintPipeline), ("sd", IdentitySDInpaintPipeline)):
        in_hub_cache(tmp_path / name, tmp_path / "hub", f"user/{name}")
        where = {"cache_dir": tmp_path / "hub", "local_files_only": True}
        again = IdentityInpaintPipeline.from_pretrained(f"user/{name}", **where)
        assert type(again) is kind
    again.set_progress_bar_config(disable=True)
    assert torch.allclose(run(other), run(again), atol=1e-4)
    third = IdentitySDInpaintPipeline(**other.components)
    third.set_progress_bar_config(disable=True)
    assert third.config.resolution == 64 and torch.equal(run(other), run(third))
    (made,) = call(third, image=pictures()[0], mask_image=pictures()[1]).images
    assert made.size == (64, 96)


def test_attention_backends_of_diffusers():
    pipeline = tiny_pipeline()
    plain = run(pipeline)
    pipeline.unet.set_attention_backend("native")
    assert torch.allclose(run(pipeline), plain, atol=1e-5)
    pipeline.unet.reset_attention_backend()
    pipeline.enable_attention_slicing(1)
    assert torch.allclose(run(pipeline), plain, atol=1e-4)
