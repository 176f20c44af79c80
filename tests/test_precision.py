"""One rule for float32, bfloat16 and float16 (devices.py): every strategy, every network, every scheduler."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    UniPCMultistepScheduler,
)
from test_pipeline import SCHEDULE, inputs, tiny_pipeline
from tiny_sd import save_tiny_sd

from idinpaint import Restorer
from idinpaint.cli import main
from idinpaint.faces.identity import BundledEncoder
from idinpaint.faces.landmarks import Landmarker
from idinpaint.faces.parsing import FaceParser
from idinpaint.models.conditioning import stage_one
from idinpaint.models.devices import devices_here, pick_device, pick_dtype
from idinpaint.models.encdec import EncoderDecoder
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.lafin import LaFInGenerator
from idinpaint.models.pconv import PConvPrior
from idinpaint.models.pdgan import PDGANGenerator
from idinpaint.models.sd_pipeline import IdentitySDInpaintPipeline
from idinpaint.painting.gan import GanInpainter
from idinpaint.types import InputError

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
LARGEST = {"fp16": 5, "bf16": 6}  # grey levels at a filled pixel; measured 1 to 3 and 2, by processor
FACE_BOX = (170.0, 60.0, 110.0, 130.0)  # of the astronaut
STRATEGIES = ("telea", "gan", "prior", "diffusion", "auto")


def paint(dtype: str) -> dict[str, np.ndarray]:
    """Strategy -> the astronaut with an eye filled, one sample."""
    restorer, mask = Restorer.from_pretrained(device="cpu", dtype=dtype), np.zeros((512, 512), bool)
    mask[100:125, 195:235] = True
    asked = {"num_samples": 1, "seed": 3, "face_box": FACE_BOX}
    return {name: restorer(skimage.data.astronaut(), mask, strategy=name, **asked).image for name in STRATEGIES}


@pytest.fixture(scope="module")
def exact() -> dict[str, np.ndarray]:
    return paint("fp32")


@pytest.mark.parametrize("dtype", HALF)
def test_every_strategy_paints_the_same_in_half_precision(exact, dtype):
    for name, image in paint(dtype).items():
        difference = np.abs(image.astype(int) - exact[name])
        assert difference.max() <= LARGEST[dtype], name
        assert not difference[:90].any() and not difference[130:].any(), name  # known pixels


GENERATORS = {
    "pconv": lambda: PConvPrior(blocks=1, rank_share=0.5),
    "pdgan": lambda: PDGANGenerator("plain", widths=(8, 8), residual=False),
    "pdgan-face": lambda: PDGANGenerator("face", widths=(8, 8), prior_features=(48, 24), skips=True),
    "encdec": lambda: EncoderDecoder((8, 8, 8), 1),
    "lafin": lambda: LaFInGenerator((8, 8, 32), 1),
}


@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
@pytest.mark.parametrize("system", GENERATORS)
def test_every_generator_works_in_the_dtype_of_its_weights(system, dtype):
    torch.manual_seed(0)
    image, mask = torch.rand(1, 3, 256, 256) * 2 - 1, torch.zeros(1, 1, 256, 256)
    mask[..., 80:150, 60:140] = 1
    prior, net, points = PConvPrior(), GENERATORS[system](), np.full((68, 2), 128.0)
    pictures = []
    for kind in (torch.float32, dtype):
        first = stage_one(prior.eval().to(kind), image * (1 - mask), mask)
        painter = GanInpainter(system, net.to(kind), None)
        pictures.append(painter.paint(image * (1 - mask), mask, [1], points, first))
    assert pictures[1].dtype == torch.float32
    assert torch.allclose(*pictures, atol=0.03 if dtype == torch.float16 else 0.15)


@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
def test_face_networks_work_in_the_dtype_of_their_weights(dtype):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    crop, mask = rng.integers(0, 256, (256, 256, 3), np.uint8), np.zeros((256, 256), bool)
    maps, parts, encoder = FaceMaps(68, (8, 16)), FaceMaps(10, (8, 16)), IdentityNet()
    seen = []
    for kind in (torch.float32, dtype):
        points, _ = Landmarker(maps.to(kind)).predict(crop, mask)
        classes = FaceParser(parts.to(kind)).predict(crop, mask)
        seen.append((points, classes, BundledEncoder(encoder.to(kind), 0.3).embed([crop[:112, :112]])[0]))
    (points, classes, vector), (half_points, half_classes, half_vector) = seen
    assert np.abs(points - half_points).max() < 1 and (classes == half_classes).mean() > 0.9
    assert vector @ half_vector > 0.999


def test_the_networks_give_back_the_dtype_that_they_were_given():
    pipeline, given = tiny_pipeline(), inputs()
    for weights in (torch.float32, *HALF.values()):
        pipeline.to(dtype=weights)
        for kind in (torch.float32, *HALF.values()):
            image, mask = given["masked_image"].to(kind), given["mask"].to(kind)
            latents = pipeline.autoencoder.encode(image)
            made = (pipeline.prior(image, mask), latents, pipeline.id_tokens(given["id_embed"].to(kind)))
            made += (pipeline.autoencoder.decode(latents, image, mask), pipeline.autoencoder.decode(latents))
            assert {part.dtype for part in made} == {kind}


@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
def test_stable_diffusion_in_half_precision(tmp_path, dtype):
    pipeline = IdentitySDInpaintPipeline.from_base(save_tiny_sd(tmp_path), resolution=64)
    pipeline.unet.add_conditions(heatmap_channels=5, id_dim=6)
    pipeline.set_progress_bar_config(disable=True)
    given, images = inputs(1), []
    for kind in (torch.float32, dtype):
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.to(kind)
        generator = torch.Generator().manual_seed(0)
        images.append(pipeline(**given, num_inference_steps=2, guidance_scale=2.0, generator=generator).images)
    known = (1 - given["mask"]).expand_as(images[1]).bool()
    assert torch.equal(images[1][known], given["masked_image"][known])  # not rounded to half precision
    # Untrained weights amplify rounding: the mean says more than the largest difference.
    assert float((images[0] - images[1]).abs().mean()) < (0.01 if dtype == torch.float16 else 0.06)


KINDS = (DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, LMSDiscreteScheduler)
KINDS += (DPMSolverMultistepScheduler, UniPCMultistepScheduler)


@pytest.mark.parametrize("dtype", [torch.float32, *HALF.values()], ids=["fp32", *HALF])
@pytest.mark.parametrize("kind", KINDS)
def test_no_scheduler_makes_all_seeds_alike(kind, dtype):
    def spread(scheduler) -> float:
        pipeline = tiny_pipeline(scheduler).to(dtype=dtype)
        seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
        asked = {**inputs(1), "num_inference_steps": 4, "num_images_per_prompt": 4, "generator": seeds}
        return float(pipeline(**asked).predicted_images.std(0).mean())

    assert spread(kind(**SCHEDULE)) > 0.3 * spread(DDIMScheduler(**SCHEDULE)) > 1e-3


def test_encode_decode_and_fill_fire_offload_hooks():
    """diffusers' enable_model_cpu_offload brings a part to the device by its hook."""

    class Counts(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            fired.append(type(module).__name__)
            return args, kwargs

    pipeline, given, fired = tiny_pipeline(), inputs(), []
    for part in (pipeline.autoencoder, pipeline.prior, pipeline.id_tokens, pipeline.unet):
        add_hook_to_module(part, Counts())
    pipeline.autoencoder.decode(pipeline.autoencoder.encode(given["masked_image"]))
    pipeline.prior.fill(given["masked_image"], given["mask"])
    assert fired == ["FaceAutoencoder", "FaceAutoencoder", "PConvPrior"]
    pipeline(**given, num_inference_steps=1)
    assert {"IdentityTokens", "UNet2DConditionModel"} < set(fired)


def test_diffusers_offload_runs_the_whole_pipeline():
    plain, pipeline = tiny_pipeline(), tiny_pipeline()
    pipeline.enable_model_cpu_offload(device="cpu")
    asked = {**inputs(), "num_inference_steps": 2}
    images = [p(**asked, generator=torch.Generator().manual_seed(0)).images for p in (plain, pipeline)]
    assert torch.equal(*images)


def test_devices_by_name_and_object():
    assert pick_device("cpu") == pick_device(torch.device("cpu")) == pick_device("cpu:0") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda") and devices_here()[0] == "cpu"
    for name in ("nonesuch", "cuda:99", "meta", torch.device("cuda", 99), "", 7.5):
        with pytest.raises(InputError, match=r"not on this machine; use auto or cpu"):
            pick_device(name)
    if not torch.accelerator.is_available():
        for name in ("cuda", "cuda:1", "mps", torch.device("mps")):
            with pytest.raises(InputError, match="use auto or cpu$"):
                pick_device(name)
    else:
        kind = torch.accelerator.current_accelerator().type
        assert pick_device(kind) == kind and pick_device(torch.device(kind, 0)) == f"{kind}:0"


def test_dtypes_by_name_and_object():
    assert pick_dtype("auto", "cpu") == pick_dtype("auto", "mps") == pick_dtype("fp32", "cuda") == torch.float32
    assert pick_dtype("auto", "cuda:1") == pick_dtype(torch.float16, "cpu") == torch.float16
    for wrong in ("fp8", torch.int8, None):
        with pytest.raises(InputError, match="use auto, fp32, bf16, fp16"):
            pick_dtype(wrong, "cpu")


@pytest.mark.parametrize("command", ["restore", "prepare"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path, capsys, command):
    import cv2

    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), skimage.data.astronaut())
    cv2.imwrite(str(tmp_path / "mask.png"), np.pad(np.full((30, 30), 255, np.uint8), 241))
    photo, out = str(tmp_path / "photos" / "a.png"), str(tmp_path / "out")
    given = [photo, "--mask", str(tmp_path / "mask.png"), "-o", f"{out}.png"] if command == "restore" else []
    given = given or [str(tmp_path / "photos"), out]
    assert main([command, *given, "--device", "cuda:99"]) == 2
    assert "--device cuda:99: not on this machine; use auto or cpu" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"photos", "mask.png"}
