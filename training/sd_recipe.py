"""Fine-tune Stable Diffusion 1.x or 2.x for portraits, with landmarks by channel and identity by IP-Adapter.

train_diffusion.py comes here when the config says `base: sd`. See configs/diffusion-sd15-inpaint.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import written
from engine import Batch, Draw, LoopConfig, Terms, main_process, save_weights, train, training_device
from equations.diffusion import latent_weight, low_noise, pred_original_sample, prediction_target, weighted_mse
from equations.pictures import min_snr_weight, skin_l1
from identity_faces import IdentityTerm, heatmap_term
from model_card import push, write_model_card
from photo_source import FaceConditions, PhotoSource
from places import BUNDLE
from sampling import standard_normal
from torch import nn
from torch.utils.checkpoint import checkpoint

from idinpaint.models.sd_base import IdentityUNet, condition_maps, working_size
from idinpaint.models.sd_pipeline import NEUTRAL_PROMPT, IdentitySDInpaintPipeline
from idinpaint.models.tensors import draw_heatmaps, to_tensor
from idinpaint.types import InputError


@dataclass
class SDConfig(LoopConfig):
    """Settings of the Stable Diffusion recipe."""

    FILES: ClassVar[dict[str, Sequence[str]]] = {
        **dict.fromkeys(("landmarks", "parsing", "identity"), ()),
        "identity_teacher": ("identity_weight", "heatmap_weight"),
    }
    RESULT: ClassVar[str] = ""  # a pipeline is its result

    base: str = "sd"
    pretrained_model_name_or_path: str = "stable-diffusion-v1-5/stable-diffusion-inpainting"  # hub id or folder
    revision: str | None = None  # commit, tag or branch of the hub id
    variant: str | None = None  # of its files: fp16
    resolution: int = 512  # px, side at which the crop is painted
    prompt: str = NEUTRAL_PROMPT
    num_inference_steps: int = 20  # default of the saved pipeline
    guidance_scale: float = 1.0
    lora_rank: int = 0  # 0: the whole UNet is trained
    num_id_tokens: int = 4
    gradient_checkpointing: bool = True
    snr_gamma: float | None = 5.0
    known_weight: float = 0.1  # of a latent cell outside the hole
    skin_weight: float = 0.5  # added on skin cells of the hole
    drop_heatmaps: float = 0.1
    drop_prompt: float = 0.1
    max_ratio: float = 0.5
    pixel_every: int = 4  # steps between those with losses in pixels
    pixel_samples: int = 2  # at most, of a batch
    min_alpha: float = 0.5  # alphas_cumprod from which a one-step prediction is decoded
    skin_l1_weight: float = 0.1
    heatmap_weight: float = 0.01
    identity_weight: float = 0.1
    landmarks: str = f"{BUNDLE}/landmarks.safetensors"
    parsing: str = f"{BUNDLE}/parsing.safetensors"
    identity: str = f"{BUNDLE}/identity.safetensors"
    identity_teacher: str | None = "mobilefacenet_foamliu_arcface.pt"
    push_to_hub: bool = False
    hub_model_id: str | None = None

    def prepare(self) -> None:
        """As in every recipe, and what Stable Diffusion asks for."""
        if self.push_to_hub and not self.hub_model_id:
            raise InputError("push_to_hub: name the repository in hub_model_id (user/name)")
        if self.resolution % 64:
            raise InputError(f"resolution {self.resolution}: a multiple of 64 is needed")
        super().prepare()


class SDDenoiser(nn.Module):
    """The UNet as the loop trains it; the frozen parts stay outside."""

    def __init__(self, unet: IdentityUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: torch.Tensor, maps: torch.Tensor, batch: Batch, text: torch.Tensor) -> torch.Tensor:
        """See IdentityUNet.predict."""
        return self.unet.predict(latents, maps, batch["timesteps"], text, batch["id_embed"])


def load_base(config: SDConfig, id_dim: int) -> IdentitySDInpaintPipeline:
    """The base with its conditions added, and LoRA when asked for. Raises InputError when it cannot be loaded."""
    pipeline = IdentitySDInpaintPipeline.from_base(
        config.pretrained_model_name_or_path, config.revision, config.variant, resolution=config.resolution,
        prompt=config.prompt, num_inference_steps=config.num_inference_steps, guidance_scale=config.guidance_scale,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    pipeline.unet.add_conditions(68, id_dim, config.num_id_tokens)
    if config.lora_rank:
        pipeline.unet.add_lora(config.lora_rank)
    return pipeline


class SDLoss:
    """The frozen parts and the losses over them; called with (model, batch, step) by the loop."""

    def __init__(self, config: SDConfig, pipeline: IdentitySDInpaintPipeline, device: torch.device) -> None:
        self.config = config
        self.scheduler = pipeline.scheduler
        self.kind = pipeline.scheduler.config.prediction_type
        self.alphas = pipeline.scheduler.alphas_cumprod.to(device)
        self.vae = pipeline.vae.requires_grad_(False).eval().to(device)
        pipeline.text_encoder.requires_grad_(False).to(device)
        with torch.no_grad():  # [2, T, C]: the fixed prompt, and the empty one for guidance
            self.text = pipeline.encode_prompt([config.prompt, ""], device, 1, False)[0]
        weights = {"skin_l1": config.skin_l1_weight, "heatmap": config.heatmap_weight}
        weights["identity"] = config.identity_weight
        self.pixel_weights = {name: weight for name, weight in weights.items() if weight}
        self.latest = dict.fromkeys(self.pixel_weights, 0.0)
        self.faces = None
        if config.identity_weight or config.heatmap_weight:
            self.faces = IdentityTerm(config.landmarks, config.identity, config.identity_teacher, device)

    def __call__(self, model: nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        """Diffusion loss, and every `pixel_every` steps the losses in pixels; each term by name.

        Between those steps the log gets the newest value, so that a row's mean is not one with zeros.
        """
        config = self.config
        image, mask = batch["image"], batch["mask"]
        size = config.resolution
        with torch.no_grad():
            large = F.interpolate(image, size=(size, size), mode="bilinear") if image.shape[-1] != size else image
            latents = self.vae.encode(large).latent_dist.mode() * self.vae.config.scaling_factor
            maps = condition_maps(self.vae, *working_size(image * (1 - mask), mask, size), batch["heatmaps"])
            noisy = self.scheduler.add_noise(latents, batch["noise"], batch["timesteps"])
        alpha = self.alphas[batch["timesteps"]]
        output = model(noisy, maps, batch, self.text[batch["no_prompt"]]).float()
        target = prediction_target(latents, batch["noise"], alpha, self.kind)
        weight = latent_weight(mask, batch["skin_mask"], latents.shape[-1], config.known_weight, config.skin_weight)
        error = weighted_mse(output, target, weight)
        scale = 1.0
        if config.snr_gamma is not None:
            scale = min_snr_weight(self.alphas, config.snr_gamma, self.kind)[batch["timesteps"]]
        loss = (error * scale).mean()
        chosen = low_noise(alpha, config.min_alpha).nonzero().flatten()[: config.pixel_samples]
        if step % config.pixel_every == 0 and len(chosen) and self.pixel_weights:
            clean = pred_original_sample(noisy[chosen], output[chosen], alpha[chosen], self.kind)
            pixel = self.pixel_terms(clean, image[chosen], mask[chosen], batch["skin_mask"][chosen])
            loss = loss + sum(self.pixel_weights[name] * value for name, value in pixel.items())
            self.latest |= {name: float(value.detach()) for name, value in pixel.items()}
        return loss, {"diffusion": float(error.detach().mean()), **self.latest}

    def pixel_terms(
        self, latents: torch.Tensor, image: torch.Tensor, mask: torch.Tensor, skin_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses of the decoded prediction at the crop's own size, in the hole; only those with a weight."""
        decoded = checkpoint(lambda x: self.vae.decode(x).sample, latents / self.vae.config.scaling_factor,
                             use_reentrant=False).float()  # fmt: skip
        if decoded.shape[-1] != image.shape[-1]:
            decoded = F.interpolate(decoded, size=image.shape[-2:], mode="bilinear", antialias=True)
        painted = image * (1 - mask) + decoded * mask
        wanted, terms = self.pixel_weights, {}
        if "skin_l1" in wanted:
            terms["skin_l1"] = skin_l1(painted, image, skin_mask * mask)
        if "heatmap" in wanted:
            terms["heatmap"] = heatmap_term(self.faces.landmarker, painted, image)
        if "identity" in wanted:
            terms["identity"] = self.faces(painted, image)
        return terms


class SDBatches:
    """make_batch of the loop: everything from the generators of the samples."""

    def __init__(self, config: SDConfig, device: torch.device) -> None:
        self.config = config
        self.source = PhotoSource(config, max_ratio=config.max_ratio)
        self.faces = FaceConditions(config, self.source, device)
        self.id_dim = self.faces.embeddings.shape[1]

    def __call__(self, draw: Draw) -> Batch:
        """Photos, masks, conditions, timesteps and noise, every sample from its own generator."""
        generators = draw.generators()
        config, cells = self.config, self.config.resolution // 8
        index, photos, holes = self.source.draw(generators)
        image, mask = to_tensor(photos), torch.from_numpy(holes[:, None]).float()
        visible, points = self.faces.read(image, mask)
        id_embed = self.faces.identities(generators, index, visible)
        draws = torch.from_numpy(np.stack([rng.random(2) for rng in generators]))
        keep = (draws[:, 0] >= config.drop_heatmaps).float().view(-1, 1, 1, 1)
        noise = standard_normal(generators, (4, cells, cells))
        return {
            "image": image,
            "mask": mask,
            "skin_mask": self.faces.skin(image).cpu(),
            "heatmaps": torch.from_numpy(draw_heatmaps(points.numpy(), cells)) * keep,
            "id_embed": id_embed,
            "no_prompt": (draws[:, 1] < config.drop_prompt).long(),
            "timesteps": torch.tensor([int(rng.integers(1000)) for rng in generators]),
            "noise": noise,
        }


def save_result(config: SDConfig, pipeline: IdentitySDInpaintPipeline, unet: IdentityUNet) -> Path:
    """Write run/pipeline (fp16, LoRA merged), its card, and for a LoRA run/lora: the small files by themselves."""
    output = Path(config.output_dir)
    if config.lora_rank:
        save_lora(unet, output / "lora")
        unet.merge_lora()
    pipeline.register_modules(unet=unet)
    for part in (unet, pipeline.vae, pipeline.text_encoder):
        nn.Module.half(part)  # the loss is done with them
    described = output / "run.json"
    run = json.loads(described.read_text()) if described.is_file() else {"config": asdict(config), "commit": ""}
    run["command"] = "accelerate launch -q training/train_diffusion.py"
    where = config.hub_model_id or f"{output.name}/pipeline"
    losses = last_losses(output / "log.jsonl")
    with written(output / "pipeline") as temporary:
        pipeline.save_pretrained(temporary)
        write_model_card(temporary, run, config.pretrained_model_name_or_path, where, losses)
    return output / "pipeline"


def save_lora(unet: IdentityUNet, folder: Path) -> None:
    """pytorch_lora_weights.safetensors in diffusers' layout, and conditions.safetensors beside it."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    IdentitySDInpaintPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    kept = nn.ParameterDict({name.replace(".", "/"): value for name, value in unet.condition_parameters().items()})
    save_weights(kept, folder / "conditions.safetensors")


def last_losses(log: Path) -> dict[str, float]:
    """The newest value of each loss in a run's log."""
    found: dict[str, float] = {}
    for line in log.read_text().splitlines() if log.is_file() else []:
        row = json.loads(line)
        found |= {name: row[name] for name in ("loss", "diffusion", "skin_l1", "heatmap", "identity") if name in row}
    return found


def main(config: SDConfig) -> None:
    """Load, train, write the pipeline folder, push it when asked to."""
    config.prepare()
    torch.set_num_threads(max(1, config.threads))
    device = training_device()
    batches = SDBatches(config, device)
    pipeline = load_base(config, batches.id_dim)
    loss = SDLoss(config, pipeline, device)
    ready = [pipeline.unet]

    def build() -> SDDenoiser:
        return SDDenoiser(ready.pop() if ready else load_base(config, batches.id_dim).unet)

    ema = train(config, build, batches, loss)
    if not main_process():
        return
    folder = save_result(config, pipeline, ema.unet)
    if config.push_to_hub:
        print(json.dumps({"pushed": push(folder, config.hub_model_id)}), flush=True)
