"""Stable Diffusion as a base, on randomly initialised pipelines of its layout (tests/tiny_sd.py)."""

from __future__ import annotations

import json
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from tiny_sd import SD15_UNET, save_tiny_sd, tiny_unet

from idinpaint.loading.bundle import load_pipeline
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.sd_base import IdentityUNet, widen_conv
from idinpaint.models.sd_pipeline import IdentitySDInpaintPipeline
from idinpaint.painting.base import FillRequest
from idinpaint.painting.diffusion import DiffusionInpainter
from idinpaint.types import FaceAnalysis, InputError

STEPS = torch.tensor([5, 500])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny_sd(tmp_path_factory.mktemp("sd") / "inpainting")


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        "latents": torch.randn(2, 4, 8, 8, generator=draw),
        "masked": torch.cat(
            [torch.rand(2, 1, 8, 8, generator=draw).round(), torch.randn(2, 4, 8, 8, generator=draw)], 1
        ),
        "heatmaps": torch.rand(2, 68, 8, 8, generator=draw),
        "text": torch.randn(2, 77, 32, generator=draw),
        "identity": torch.nn.functional.normalize(torch.randn(2, 16, generator=draw), dim=1),
    }


def predict(unet: IdentityUNet, given: dict[str, torch.Tensor], heatmaps: bool = True, identity: bool = True):
    maps = torch.cat([given["masked"], given["heatmaps"] * heatmaps], 1)
    return unet.predict(given["latents"], maps, STEPS, given["text"], given["identity"] * identity)


def conditioned(folder, **settings) -> IdentitySDInpaintPipeline:
    pipeline = IdentitySDInpaintPipeline.from_base(str(folder), resolution=64, num_inference_steps=2, **settings)
    pipeline.unet.add_conditions(68, 16)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def train(unet: IdentityUNet, given: dict[str, torch.Tensor], steps: int = 8) -> list[float]:
    """Real steps towards a target that only the conditions tell: how far the maps and the identity reach."""
    trained = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = (predict(unet, given) - given["latents"]).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_the_widened_model_gives_the_bases_output(base, inputs):
    unet = conditioned(base).unet
    plain = UNet2DConditionModel.from_pretrained(base / "unet")
    with torch.no_grad():
        for _, processor in unet._identity_processors():  # so that the scale has something to switch off
            processor.to_v_ip[0].weight.normal_()
        wanted = plain(torch.cat([inputs["latents"], inputs["masked"]], 1), STEPS, inputs["text"]).sample
        assert not torch.allclose(predict(unet, inputs, heatmaps=False), wanted, atol=1e-3)
        for _, processor in unet._identity_processors():
            processor.scale = [0.0]
        assert torch.allclose(predict(unet, inputs, heatmaps=False), wanted, atol=1e-5)
    assert unet.config.in_channels == 9 + 68 and len(unet._identity_processors()) == 10


def test_a_fresh_model_equals_diffusers_whole_pipeline(base):
    """The same noise, scheduler, prompt and guidance through StableDiffusionInpaintPipeline itself."""
    ours = conditioned(base)
    theirs = StableDiffusionInpaintPipeline.from_pretrained(base, safety_checker=None, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    draw = torch.Generator().manual_seed(2)
    image, mask = torch.rand(1, 3, 64, 64, generator=draw) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 8:40] = 1
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    latents = theirs.vae.encode(image * (1 - mask)).latent_dist.mode() * theirs.vae.config.scaling_factor
    picture = (image + 1) / 2
    wanted = theirs(
        "a face", picture, mask, latents.detach(), height=64, width=64, num_inference_steps=3, guidance_scale=2.0,
        latents=noise, output_type="pt",
    ).images  # fmt: skip
    made = ours(
        image, mask, prompt="a face", num_inference_steps=3, guidance_scale=2.0,
        generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    assert torch.allclose(made.predicted_images, wanted * 2 - 1, atol=1e-4)
    known = (1 - mask).expand_as(image).bool()
    assert torch.equal(made.images[known], image[known])


def test_a_text_to_image_unet_is_widened_to_inpainting(tmp_path, inputs):
    """SD-2's layout: linear projections, head counts by level, v-prediction."""
    folder = save_tiny_sd(
        tmp_path / "t2i", 4, "v_prediction", use_linear_projection=True, attention_head_dim=(4, 4, 8, 8)
    )
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    unet = conditioned(folder).unet
    plain = UNet2DConditionModel.from_pretrained(folder / "unet")
    with torch.no_grad():
        wanted = plain(inputs["latents"], STEPS, inputs["text"]).sample
        assert torch.allclose(predict(unet, inputs), wanted, atol=1e-5)
    assert unet.config.in_channels == 77


@pytest.mark.parametrize("rank", [0, 4])
def test_trained_conditions_change_the_output_and_survive_saving(base, inputs, tmp_path, rank):
    pipeline = conditioned(base)
    unet = pipeline.unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    if rank:
        unet.add_lora(rank)
    losses = train(unet, inputs)
    assert losses[-1] < 0.9 * losses[0]
    with torch.no_grad():
        full = predict(unet, inputs)
        assert (full - predict(unet, inputs, heatmaps=False)).abs().max() > 1e-3
        assert (full - predict(unet, inputs, identity=False)).abs().max() > 1e-3
        if rank:
            kept = {name.replace(".base_layer", ""): value for name, value in unet.state_dict().items()}
            changed = {name for name in before if not torch.equal(before[name], kept[name])}
            assert changed and changed <= set(unet.condition_parameters())
            unet.merge_lora()
            assert torch.allclose(predict(unet, inputs), full, atol=1e-4)
        pipeline.save_pretrained(tmp_path)
        again = IdentityInpaintPipeline.from_pretrained(tmp_path)
        assert type(again) is IdentitySDInpaintPipeline and again.config.resolution == 64
        assert torch.allclose(predict(again.unet, inputs), full, atol=1e-4)
    assert not list(tmp_path.rglob("*.bin"))


def face(size: int = 256) -> FaceAnalysis:
    rng = np.random.default_rng(0)
    mask = np.zeros((size, size), bool)
    mask[100:150, 90:170] = True
    crop = rng.integers(0, 255, (size, size, 3), np.uint8)
    crop[mask] = 0
    points = rng.uniform(60, 200, (68, 2)).astype(np.float32)
    matrix = np.eye(2, 3)
    return FaceAnalysis((0, 0, 256, 256), matrix, crop, mask, points, np.ones(68), {}, {}, 0.1, None)


def test_the_diffusion_inpainter_uses_it(base, tmp_path):
    """Through the loader of `--model`: samples by their own seeds, heatmaps, identity and prompt matter."""
    made = conditioned(base)
    with torch.no_grad():
        made.unet.conv_in.weight.normal_(0, 0.1)
        for _, processor in made.unet._identity_processors():
            processor.to_v_ip[0].weight.normal_()
    made.save_pretrained(tmp_path)
    pipeline = load_pipeline(tmp_path)
    inpainter = DiffusionInpainter(pipeline)
    two = inpainter.fill(FillRequest(face(), num_samples=2, seed=3))
    assert [x.shape for x in two] == [(256, 256, 3)] * 2 and not np.array_equal(*two)
    alone = inpainter.fill(FillRequest(face(), seed=4))[0]  # the same noise; other batch sizes round differently
    assert np.abs(two[1].astype(int) - alone).max() <= 2
    embed = np.eye(16, dtype=np.float32)[0]
    assert not np.array_equal(inpainter.fill(FillRequest(face(), embed, seed=4))[0], two[1])
    with pytest.raises(InputError, match="16 numbers, the encoder gives 3"):
        inpainter.fill(FillRequest(face(), np.ones(3, np.float32)))
    image, mask = torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64)

    def call(**changes) -> torch.Tensor:
        return pipeline(image, mask, generator=torch.Generator().manual_seed(0), **changes).predicted_images

    plain = call()
    assert torch.equal(plain, call(prompt=pipeline.config.prompt)) and not torch.equal(plain, call(prompt="a cat"))
    assert not torch.equal(plain, call(heatmaps=torch.ones(1, 68, 8, 8)))
    assert not torch.equal(plain, call(guidance_scale=3.0))
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    assert torch.isfinite(call()).all()
    with pytest.raises(ValueError, match="heatmaps have shape"):
        call(heatmaps=torch.ones(1, 5, 8, 8))


def test_what_is_no_base_is_told_in_one_line(base, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, said in ((str(tmp_path), "no Stable Diffusion pipeline there"), ("nobody/nothing-at-all", "hub id")):
        with pytest.raises(InputError, match=said) as caught:
            IdentitySDInpaintPipeline.from_base(name)
        assert "\n" not in str(caught.value) and name in str(caught.value)
    broken = shutil.copytree(base, tmp_path / "broken")
    shutil.rmtree(broken / "unet")
    with pytest.raises(InputError, match="the pipeline there cannot be loaded"):
        IdentitySDInpaintPipeline.from_base(str(broken))
    (broken / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(InputError, match="is a FluxPipeline"):
        IdentitySDInpaintPipeline.from_base(str(broken))
    with pytest.raises(InputError, match="fine-tune it first"):
        load_pipeline(base)
    with pytest.raises(InputError, match="5 input channels"):
        IdentityUNet.from_config(tiny_unet(5).config).add_conditions()


def test_widening_keeps_what_was_there():
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    x, more = torch.randn(1, 3, 6, 6), torch.randn(1, 4, 6, 6)
    assert torch.allclose(widen_conv(conv, 7)(torch.cat([x, more], 1)), conv(x), atol=1e-6)


def test_the_full_size_layout_has_stable_diffusions_size():
    with torch.device("meta"):
        unet = IdentityUNet(**SD15_UNET)
        count = sum(p.numel() for p in unet.parameters())
    assert count == 859_535_364  # of stable-diffusion-inpainting's unet
