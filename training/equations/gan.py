"""Losses of the GAN family as pure functions, one an equation. Images are [B, 3, H, W] in [-1, 1]; masks 1 = hole."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from idinpaint.types import InputError

Scores = list[list[torch.Tensor]]  # of a discriminator: for each scale the layers' features, the last the scores


def hinge_discriminator(real: Scores, fake: Scores) -> torch.Tensor:
    """Mean over scales of E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))] (Lim and Ye 2017, arXiv:1705.02894)."""
    terms = [
        F.relu(1 - r[-1].float()).mean() + F.relu(1 + f[-1].float()).mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def hinge_generator(fake: Scores) -> torch.Tensor:
    """Mean over scales of -E[D(fake)]."""
    return -torch.stack([f[-1].float().mean() for f in fake]).mean()


def least_squares_discriminator(real: Scores, fake: Scores) -> torch.Tensor:
    """Mean over scales of E[(D(real) - 1)^2] + E[D(fake)^2] (Mao et al. 2017, arXiv:1611.04076; LaFIn)."""
    pairs = zip(real, fake, strict=True)
    return torch.stack([(r[-1].float() - 1).square().mean() + f[-1].float().square().mean() for r, f in pairs]).mean()


def least_squares_generator(fake: Scores) -> torch.Tensor:
    """Mean over scales of E[(D(fake) - 1)^2]."""
    return torch.stack([(f[-1].float() - 1).square().mean() for f in fake]).mean()


def feature_matching(real: Scores, fake: Scores) -> torch.Tensor:
    """Mean over scales of the sum over layers of mean |D_l(fake) - D_l(real)| (pix2pixHD, equation 4)."""
    terms = [
        sum((a.float() - b.detach().float()).abs().mean() for a, b in zip(f[:-1], r[:-1], strict=True))
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def perceptual_diversity(first: list[torch.Tensor], second: list[torch.Tensor], eps: float = 1e-5) -> torch.Tensor:
    """1 / (mean |phi(a) - phi(b)| + eps) over the layers' features of two fills (PD-GAN, equation 6).

    first, second: features of two pictures of the same hole, from different latents. eps bounds the loss: the
    paper's 1e-5 needs a generator that already differs; one that starts at zero wants about 0.1.
    """
    distances = [(a.float() - b.float()).abs().mean() for a, b in zip(first, second, strict=True)]
    return 1 / (torch.stack(distances).mean() + eps)


def style_loss(predicted: list[torch.Tensor], target: list[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of mean |Gram(p) - Gram(t)|, Gram = F F^T / (C h w) (Gatys et al. 2016; LaFIn). Lists of
    [B, C, h, w]."""
    return sum((_gram(a) - _gram(b)).abs().mean() for a, b in zip(predicted, target, strict=True))


def _gram(features: torch.Tensor) -> torch.Tensor:
    flat = features.float().flatten(2)  # (B, C, hw)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def total_variation(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean |difference of neighbours| over the pairs that touch the hole, down and across (PConv, L_tv; LaFIn)."""
    touched = F.max_pool2d(mask, 3, 1, 1)
    across = (image[..., 1:] - image[..., :-1]).abs() * touched[..., 1:] * touched[..., :-1]
    down = (image[..., 1:, :] - image[..., :-1, :]).abs() * touched[..., 1:, :] * touched[..., :-1, :]
    return (across.sum() + down.sum()) / (image.shape[1] * 2 * touched.sum()).clamp(min=1)


class VGGFeatures(nn.Module):
    """Frozen VGG `features` (Simonyan and Zisserman 2015) from a state dict in torchvision's key names.

    The file says which VGG it is: every 3x3 convolution is followed by a ReLU, and by a pooling where the next index
    is no convolution. layers: indices of `features` to read; 1, 6, 11, 20, 29 are VGG19's first ReLU of each block.
    """

    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self, path: str | Path, layers: tuple[int, ...] = (1, 6, 11, 20, 29)) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise InputError(f"{path}: no VGG weights there; fetch them, or set the config's VGG weights to 0")
        state = {k.removeprefix("features."): v.float() for k, v in torch.load(path, weights_only=True).items()}
        weights = {int(k.split(".")[0]): v for k, v in state.items() if k.endswith("weight") and v.ndim == 4}
        modules: dict[int, nn.Module] = {}
        for index, weight in sorted(weights.items()):
            modules[index] = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            modules[index].load_state_dict({"weight": weight, "bias": state[f"{index}.bias"]})
            modules[index + 1] = nn.ReLU()
            if index + 2 not in weights:
                modules[index + 2] = nn.MaxPool2d(2)
        if set(range(max(layers) + 1)) - set(modules):
            raise InputError(f"{path}: has {len(modules)} layers, the config asks for layer {max(layers)}")
        self.net = nn.Sequential(*(modules[i] for i in range(max(layers) + 1)))
        self.layers = tuple(layers)
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # twice as fast on a CPU
        self.register_buffer("shift", torch.tensor(self.MEAN).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(self.STD).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """[B, 3, H, W] in [-1, 1] -> one [B, C, h, w] a layer."""
        x = (((image + 1) / 2 - self.shift) / self.scale).contiguous(memory_format=torch.channels_last)
        maps = []
        for index, layer in enumerate(self.net):
            x = layer(x)
            if index in self.layers:
                maps.append(x)
        return maps


def vgg_l1(vgg: VGGFeatures, predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """feature_l1 of two pictures [B, 3, H, W] in [-1, 1]; gradients flow to `predicted` only."""
    with torch.no_grad():
        goal = vgg(target)
    return feature_l1(vgg(predicted), goal)


def feature_l1(predicted: list[torch.Tensor], target: list[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of mean |phi(p) - phi(t)| (PD-GAN's and the VGG study's perceptual loss)."""
    return sum((a.float() - b.float()).abs().mean() for a, b in zip(predicted, target, strict=True))
