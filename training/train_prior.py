"""Train the stage-one prior (PConv U-Net over a push-pull fill). See configs/prior.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from checkpoints import save_folder
from engine import Batch, Draw, LoopConfig, Terms, main_process, run_script, save_weights, train, training_device
from equations.gan import VGGFeatures, vgg_l1
from equations.pictures import AlexFeatures, hole_l1, perceptual_loss
from identity_faces import IdentityTerm
from photo_source import PhotoSource
from places import BUNDLE
from run_log import picture_grid

from idinpaint.models.pconv import PConvPrior
from idinpaint.models.tensors import to_tensor


@dataclass
class PriorConfig(LoopConfig):
    """Settings of the prior's recipe."""

    FILES: ClassVar[dict[str, Sequence[str]]] = {
        "perceptual_features": (),
        "vgg": ("vgg_weight",),
        **dict.fromkeys(("landmarks", "identity", "identity_teacher"), ("identity_weight",)),
    }
    SHARED: ClassVar[tuple[str, ...]] = ("identity_samples",)
    RESULT: ClassVar[str] = "prior.safetensors"

    resolution: int = 256
    perceptual_weight: float = 0.1
    perceptual_crop: int = 128  # the window of both feature losses, px
    vgg_weight: float = 0.0  # L1 between features of VGG, which has no stride: AlexNet's 4 px leave a faint grid
    vgg: str = "vgg16_features_torchvision.pth"
    vgg_layers: tuple[int, ...] = (4, 9, 16)
    feature_masks: float = 0.0  # share of masks that hide a whole feature, beside those among the random ones
    blocks: int = 0  # residual blocks a level; see PConvPrior
    rank_share: float = 0.0  # see lower_rank
    identity_weight: float = 0.0  # 1 - cosine between the faces of the filled and the true photo
    identity_samples: int = 4  # of the whole batch, for its cost
    landmarks: str = f"{BUNDLE}/landmarks.safetensors"
    identity: str = f"{BUNDLE}/identity.safetensors"
    identity_teacher: str = "mobilefacenet_foamliu_arcface.pt"
    perceptual_features: str = "alexnet_features_torchvision.pth"


def hole_psnr(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> float:
    """Mean over the batch of the PSNR inside the hole, dB, for images in [-1, 1]."""
    error = ((predicted.clamp(-1, 1) - target).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return float((10 * torch.log10(4 / error)).mean())


class PriorTask:
    """The data, the frozen networks and the loss of a run: what `train` calls."""

    def __init__(self, config: PriorConfig) -> None:
        self.config = config
        self.source = PhotoSource(config, config.resolution, feature_share=config.feature_masks)
        held = self.source.held()
        self.held_images = to_tensor(held)
        self.held_mask = torch.from_numpy(self.source.held_holes(len(held))[:, None]).float()
        self.features = AlexFeatures(config.perceptual_features)
        self.vgg = VGGFeatures(config.vgg, config.vgg_layers) if config.vgg_weight else None
        self.identity_of = IdentityTerm.of(config, training_device())

    def build(self) -> PConvPrior:
        """The network to train."""
        return PConvPrior(blocks=self.config.blocks, rank_share=self.config.rank_share).to(
            memory_format=torch.channels_last
        )

    def make_batch(self, draw: Draw) -> Batch:
        """Photos, holes and which of them the identity looks at."""
        _, images, holes = self.source.draw(draw.generators())
        corner = draw.common().integers(0, self.config.resolution - self.config.perceptual_crop + 1, 2)
        return {
            "image": to_tensor(images),
            "mask": torch.from_numpy(holes[:, None]).float(),
            "corner": torch.from_numpy(corner),
            "identity_rows": draw.chosen(self.config.identity_samples, "identity_samples"),
        }

    def loss_function(self, model: torch.nn.Module, batch: Batch, step: int) -> tuple[torch.Tensor, Terms]:
        """The loss and its terms."""
        image, mask = batch["image"], batch["mask"]
        predicted = model(image * (1 - mask), mask)
        reconstruction = hole_l1(predicted, image, mask, hole_share=batch["mean_mask"])
        inpainted = image * (1 - mask) + predicted * mask
        y, x = (int(v) for v in batch["corner"])
        window = (..., slice(y, y + self.config.perceptual_crop), slice(x, x + self.config.perceptual_crop))
        perceptual = perceptual_loss(self.features.to(image.device), inpainted[window], image[window])
        loss = reconstruction + self.config.perceptual_weight * perceptual
        terms = {"l1": reconstruction, "perceptual": perceptual}
        if self.vgg is not None:
            terms["vgg"] = vgg_l1(self.vgg.to(image.device), inpainted[window], image[window])
            loss = loss + self.config.vgg_weight * terms["vgg"]
        if self.identity_of is not None:
            rows = batch["identity_rows"]
            identity = self.identity_of(inpainted[rows], image[rows])
            loss, terms["identity"] = loss + self.config.identity_weight * identity, identity
        return loss, terms

    @torch.no_grad()
    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Figures of the held photos."""
        device = next(model.parameters()).device
        image, mask = self.held_images.to(device), self.held_mask.to(device)
        predicted = torch.cat([model(i * (1 - m), m) for i, m in zip(image.split(8), mask.split(8), strict=True)])
        inpainted = image * (1 - mask) + predicted * mask
        perceptual = perceptual_loss(self.features.to(device), inpainted, image)
        return {"val_hole_psnr": hole_psnr(predicted, image, mask), "val_perceptual": float(perceptual)}

    @torch.no_grad()
    def picture(self, model: torch.nn.Module) -> np.ndarray:
        """Columns: masked, filled, original."""
        device = next(model.parameters()).device
        image, mask = self.held_images[:6].to(device), self.held_mask[:6].to(device)
        predicted = model(image * (1 - mask), mask)
        return picture_grid([image * (1 - mask), image * (1 - mask) + predicted * mask, image])


def main(config: PriorConfig) -> None:
    """Load the data, train, write prior.safetensors and the folder prior/ (fp32 EMA) into the run folder."""
    config.prepare()
    task = PriorTask(config)
    calls = task.build, task.make_batch, task.loss_function, task.validate, task.picture
    ema = train(config, *calls, batch_means=("mask",))
    if main_process():
        save_folder(ema, f"{config.output_dir}/prior")  # with its config, as the diffusion's recipe reads it
        save_weights(ema, f"{config.output_dir}/prior.safetensors")


if __name__ == "__main__":
    run_script(main, PriorConfig)
