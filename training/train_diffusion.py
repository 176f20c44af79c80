"""Train the diffusion refiner on residual latents, with landmarks by channel and identity by tokens.

See configs/diffusion-256.yaml. Conditions are those of inference: the frozen prior's fill, landmarks predicted
from the masked photo, identity from other photos of the person, from the visible part of the face, or none. They
cost more than a step of this small UNet, so a pool of examples is computed from (seed, pool number) and used for
several passes.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bases import run_chosen
from diffusers import DDIMScheduler, UNet2DConditionModel
from engine import Batch, LoopConfig, save_weights, train
from identity_terms import IdentityTerm, align_faces, load_frozen
from torch import nn
from train_prior import jitter

from idinpaint.data import PhotoEntry, load_photos, load_training_masks, training_photos
from idinpaint.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.losses import AlexFeatures, hole_l1, min_snr_weight, perceptual_loss
from idinpaint.masks import random_mask
from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import build_conditions
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pconv import PConvPrior
from idinpaint.tensors import draw_heatmaps, to_tensor


@dataclass
class DiffusionConfig(LoopConfig):
    """Settings of the diffusion recipe."""

    base: str = "small"  # sd: the recipe of sd_recipe.py
    prior: str = "runs/prior-256-id/prior.safetensors"
    prior_blocks: int = 2
    autoencoder: str = "runs/autoencoder/autoencoder.safetensors"
    landmarks: str = "runs/landmarks/landmarks.safetensors"
    identity: str = "runs/identity-masked/identity.safetensors"
    widths: tuple[int, ...] = (64, 128, 192)
    layers_per_block: int = 1
    token_dim: int = 192
    snr_gamma: float | None = None
    known_weight: float = 0.1
    drop_heatmaps: float = 0.1
    pool_size: int = 2048
    pool_passes: int = 4
    max_ratio: float = 0.5
    pixel_weight: float = 1.0  # on the decoded one-step prediction of a window; trains the decoder too
    pixel_samples: int = 8
    pixel_window: int = 128  # px
    residual_std: tuple[float, ...] = ()  # a later phase keeps its first phase's; empty: measured
    few_step_timesteps: tuple[int, ...] = ()  # where the decoded samples are noised to; empty: anywhere
    identity_weight: float = 0.0  # 1 - cosine on the decoded picture; needs pixel_window 256
    identity_teacher: str = "../shared/models/mobilefacenet_foamliu_arcface.pt"
    perceptual_weight: float = 0.1
    perceptual_features: str = "../shared/models/alexnet_features_torchvision.pth"


@dataclass
class Window:
    """What the decoded one-step prediction of a part of the picture needs; corner and size in latent cells."""

    alpha: torch.Tensor  # [n, 1, 1, 1], square root of alphas_cumprod
    sigma: torch.Tensor
    prior_latents: torch.Tensor  # [n, C, h, w]
    scale: torch.Tensor  # [n, C, h, w], residual std where the cell is touched, else 0
    masked_image: torch.Tensor  # [n, 3, 8 size, 8 size]
    mask: torch.Tensor
    corner: tuple[int, int]
    size: int


class Denoiser(nn.Module):
    """UNet, identity tokens and decoder as one module, so that all are trained, averaged and resumed together."""

    def __init__(self, config: DiffusionConfig, autoencoder: FaceAutoencoder, id_dim: int) -> None:
        super().__init__()
        latent_channels = autoencoder.config.latent_channels
        self.autoencoder = copy.deepcopy(autoencoder)
        self.autoencoder.requires_grad_(True)
        self.autoencoder.analysis.requires_grad_(False)  # the latents stay what the pool was made with
        self.autoencoder.synthesis.requires_grad_(False)
        depth = len(config.widths) - 1
        self.unet = UNet2DConditionModel(
            sample_size=32,
            in_channels=3 * latent_channels + 4 + 68,
            out_channels=latent_channels,
            block_out_channels=tuple(config.widths),
            layers_per_block=config.layers_per_block,
            down_block_types=("DownBlock2D",) * depth + ("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * depth,
            cross_attention_dim=config.token_dim,
            attention_head_dim=32,
            norm_num_groups=16,
        )
        nn.init.zeros_(self.unet.conv_out.weight)  # the first prediction is the prior itself
        nn.init.zeros_(self.unet.conv_out.bias)
        self.id_tokens = IdentityTokens(id_dim, token_dim=config.token_dim)

    def forward(
        self, noisy: torch.Tensor, maps: torch.Tensor, timesteps: torch.Tensor, id_embed: torch.Tensor, window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocity [B, C, h, w], and the decoded window of the one-step prediction of the first n samples."""
        velocity = self.unet(torch.cat([noisy, maps], 1), timesteps, self.id_tokens(id_embed)).sample
        n = len(window.alpha)
        clean = window.alpha * noisy[:n] - window.sigma * velocity[:n]  # v-prediction's x0
        y, x = window.corner
        latents = (window.prior_latents + clean * window.scale)[..., y : y + window.size, x : x + window.size]
        return velocity, self.autoencoder.decode(latents, window.masked_image, window.mask)


def make_scheduler() -> DDIMScheduler:
    """v-prediction with zero terminal SNR (Lin et al. 2023): sampling starts at pure noise, as training does."""
    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True,
    )  # fmt: skip


KEYS = ("residual", "channels", "touched", "points", "id_embed", "image", "mask")


class ExamplePool:
    """Frozen networks and the examples that they make of photos and masks."""

    def __init__(
        self, config: DiffusionConfig, entries: list[PhotoEntry], photos: np.ndarray, device: torch.device
    ) -> None:
        self.config, self.photos, self.device = config, photos, device
        self.masks = load_training_masks(config.train_data_dir, config.splits_dir)
        self.autoencoder = load_frozen(FaceAutoencoder(), config.autoencoder, device)
        self.prior = load_frozen(PConvPrior(blocks=config.prior_blocks), config.prior, device)
        self.landmarker = load_frozen(FaceMaps(68), config.landmarks, device)
        self.identity = load_frozen(IdentityNet(), config.identity, device)
        self.same_person: list[list[int]] = []
        groups: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            if entry.person:
                groups.setdefault(entry.person, []).append(index)
        for index, entry in enumerate(entries):
            self.same_person.append([i for i in groups.get(entry.person, []) if i != index])
        empty = torch.zeros(len(photos), 1, 256, 256)[:1]
        self.embeddings = torch.cat(
            [self._embed(to_tensor(photos[i : i + 32]), empty.expand(len(photos[i : i + 32]), -1, -1, -1))[0]
             for i in range(0, len(photos), 32)]
        )  # fmt: skip
        self.number, self.examples = -1, {}
        if config.residual_std:
            self.residual_std = torch.tensor(config.residual_std)
        else:
            self.residual_std = self.build(np.random.default_rng([config.seed, 999]), 256, None)["std"]

    @torch.no_grad()
    def _embed(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted landmarks [B, 68, 2] in crop px and the identity of the visible part [B, D]."""
        image = image.to(self.device) * (1 - mask.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16):
            points = expected_points(self.landmarker(image, mask.to(self.device)))[0].float() * 4 + 1.5
            return self.identity(align_faces(image, points)).float().cpu(), points.cpu()

    @torch.no_grad()
    def build(self, rng: np.random.Generator, count: int, std: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """Make `count` examples; `std` scales the residual (None: measure it)."""
        parts: dict[str, list[torch.Tensor]] = {k: [] for k in KEYS}
        for _ in range(0, count, 16):
            index = rng.integers(0, len(self.photos), 16)
            image = to_tensor(np.stack([jitter(rng, self.photos[i]) for i in index])).to(self.device)
            holes = np.stack([random_mask(rng, 256, self.masks, self.config.max_ratio) for _ in index])
            mask = torch.from_numpy(holes[:, None]).float().to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                made = build_conditions(self.autoencoder, self.prior, image * (1 - mask), mask)
                target = self.autoencoder.encode(image)
            visible, points = self._embed(image, mask)
            embeds = torch.stack([self._identity(rng, i, v) for i, v in zip(index, visible, strict=True)])
            residual = target.float() - made.prior_latents.float()
            values = (residual, made.channels, made.touched, points, embeds, image, mask)
            for key, value in zip(KEYS, values, strict=True):
                parts[key].append(value.half().cpu())
        out = {key: torch.cat(values) for key, values in parts.items()}
        if std is None:
            hole = out["touched"].float()
            out["std"] = ((out["residual"].float().square() * hole).sum((0, 2, 3)) / hole.sum()).sqrt()
        else:
            out["residual"] = (out["residual"].float() / std.view(1, -1, 1, 1)).half()
        return out

    def _identity(self, rng: np.random.Generator, index: int, visible: torch.Tensor) -> torch.Tensor:
        """Other photos of the person (1-5, mean), else the visible part, else nothing (zeros)."""
        draw, others = rng.random(), self.same_person[index]
        if draw < 0.5 and others:
            chosen = rng.choice(others, min(len(others), int(rng.integers(1, 6))), replace=False)
            return F.normalize(self.embeddings[torch.from_numpy(chosen)].mean(0), dim=-1)
        return visible if draw < 0.85 else torch.zeros_like(visible)

    def batch(self, rng: np.random.Generator, number: int) -> dict[str, torch.Tensor]:
        """Draw a batch from pool `number`, which is a function of (seed, number)."""
        if number != self.number:
            pool_rng = np.random.default_rng([self.config.seed, 1000 + number])
            self.examples, self.number = self.build(pool_rng, self.config.pool_size, self.residual_std), number
        index = torch.from_numpy(rng.integers(0, len(self.examples["residual"]), self.config.train_batch_size))
        return {key: value[index].float() for key, value in self.examples.items()}


def save_pipeline(denoiser: Denoiser, pool: ExamplePool, folder: Path) -> None:
    """Write the whole pipeline in diffusers' layout, fp16 safetensors."""
    pipeline = IdentityInpaintPipeline(
        denoiser.unet, make_scheduler(), denoiser.autoencoder, pool.prior, denoiser.id_tokens,
        [round(float(s), 5) for s in pool.residual_std],
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)


def main(config: DiffusionConfig) -> None:
    """Load, train, write the pipeline folder."""
    torch.set_num_threads(max(1, config.threads))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    entries = training_photos(config.train_data_dir, config.splits_dir)
    pool = ExamplePool(config, entries, load_photos(entries), device)
    print(json.dumps({"residual_std": [round(float(s), 4) for s in pool.residual_std]}), flush=True)
    scheduler = make_scheduler()
    alphas = scheduler.alphas_cumprod
    features = AlexFeatures(config.perceptual_features)
    identity_of = None
    if config.identity_weight:
        identity_of = IdentityTerm(config.landmarks, config.identity, config.identity_teacher, device)
    steps_a_pool = config.pool_size * config.pool_passes // config.train_batch_size

    def make_batch(rng: np.random.Generator, step: int) -> Batch:
        batch = pool.batch(rng, step // steps_a_pool)
        heatmaps = torch.from_numpy(draw_heatmaps(batch["points"].numpy(), 32))
        keep = torch.from_numpy(rng.random((len(heatmaps), 1, 1, 1)) >= config.drop_heatmaps).float()
        batch["maps"] = torch.cat([batch.pop("channels"), heatmaps * keep], 1)
        batch["timesteps"] = torch.from_numpy(rng.integers(0, 1000, len(heatmaps)))
        if config.few_step_timesteps:
            few = rng.choice(config.few_step_timesteps, config.pixel_samples)
            batch["timesteps"][: config.pixel_samples] = torch.from_numpy(few)
        batch["noise"] = torch.randn_like(batch["residual"])
        return batch

    def make_window(batch: Batch, step: int) -> tuple[Window, torch.Tensor]:
        n, size = config.pixel_samples, config.pixel_window // 8
        y, x = np.random.default_rng([config.seed, step, 1]).integers(0, 32 - size + 1, 2)
        area = (slice(None, n), slice(None), slice(8 * y, 8 * (y + size)), slice(8 * x, 8 * (x + size)))
        image, mask = batch["image"][area], batch["mask"][area]
        kept = alphas.to(image.device)[batch["timesteps"][:n]].view(-1, 1, 1, 1)
        channels = batch["residual"].shape[1]
        std = pool.residual_std.to(image.device).view(1, -1, 1, 1)
        window = Window(
            kept.sqrt(), (1 - kept).sqrt(), batch["maps"][:n, channels : 2 * channels], std * batch["touched"][:n],
            image * (1 - mask), mask, (int(y), int(x)), size,
        )  # fmt: skip
        return window, image

    def loss_function(model: nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        noisy = scheduler.add_noise(batch["residual"], batch["noise"], batch["timesteps"])
        velocity = scheduler.get_velocity(batch["residual"], batch["noise"], batch["timesteps"])
        window, image = make_window(batch, step)
        predicted, pixels = model(noisy, batch["maps"], batch["timesteps"], batch["id_embed"], window)
        predicted, pixels = predicted.float(), pixels.float()
        weight = batch["touched"] + config.known_weight * (1 - batch["touched"])
        error = ((predicted - velocity).square() * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * predicted.shape[1])
        scale = 1.0
        if config.snr_gamma is not None:
            scale = min_snr_weight(alphas, config.snr_gamma, "v_prediction").to(error.device)[batch["timesteps"]]
        inpainted = image * (1 - window.mask) + pixels * window.mask
        l1 = hole_l1(pixels, image, window.mask)
        perceptual = perceptual_loss(features.to(image.device), inpainted, image)
        loss = (error * scale).mean() + config.pixel_weight * (l1 + config.perceptual_weight * perceptual)
        if identity_of is not None:
            identity = identity_of(inpainted, image)
            loss = loss + config.identity_weight * identity
        else:
            identity = torch.zeros(())
        high = (batch["timesteps"] >= 800).float()
        at_800 = (error.detach() * high).sum() / high.sum().clamp(min=1)
        terms = {
            "diffusion": error.mean(),
            "diffusion_t800": at_800,
            "l1": l1,
            "perceptual": perceptual,
            "identity": identity,
        }
        return loss, {name: float(value.detach()) for name, value in terms.items()}

    def build() -> Denoiser:
        return Denoiser(config, pool.autoencoder, pool.embeddings.shape[1])

    ema = train(config, build, make_batch, loss_function)
    save_weights(ema, Path(config.output_dir) / "denoiser.safetensors")
    save_pipeline(ema, pool, Path(config.output_dir) / "pipeline")


if __name__ == "__main__":
    run_chosen(main, DiffusionConfig)
