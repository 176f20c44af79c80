"""PD-GAN (Liu et al. 2021, arXiv:2105.02201) and its face variant: a latent vector, grown under the prior's picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from idinpaint.models.low_rank import lower_rank
from idinpaint.models.spdnorm import SPDNormBlock, counted_hard_map, known_at, plain_hard_map, positional_norm


def zero(conv: nn.Module) -> None:
    """Weight and bias of zero, so that the layer starts by adding nothing."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)


class TransposedUp(nn.Module):
    """Twice the side by a transposed convolution, as published for PD-GAN."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(i, o, 4, 2, 1)

    def start_at_zero(self) -> None:
        zero(self.conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class ShuffleUp(nn.Module):
    """Twice the side by two convolutions and PixelShuffle (Shi et al. 2016), as in the face variant.

    The second convolution starts with the same filter for the four pixels of a cell (Aitken et al. 2017,
    arXiv:1707.02937), so that there is no checkerboard to unlearn.
    """

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(i, o, 3, padding=1)
        self.widen = nn.Conv2d(o, 4 * o, 3, padding=1)
        with torch.no_grad():
            self.widen.weight.copy_(self.widen.weight[::4].repeat_interleave(4, 0))
            self.widen.bias.copy_(self.widen.bias[::4].repeat_interleave(4, 0))

    def start_at_zero(self) -> None:
        zero(self.widen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(self.widen(F.leaky_relu(self.narrow(x), 0.2)), 2)


class PriorPyramid(nn.Module):
    """Features of prior and mask at every level, from full resolution down; nothing is resampled away.

    Each level is normalised: without it the modulation grows until the latent is lost under it (a trial of 100 steps
    at a rate of 1e-3 left it an effect of 1e-10).
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        finest_first = widths[::-1]
        self.stem = nn.Conv2d(4 * 4, finest_first[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(i, o, 3, 2, 1) for i, o in zip(finest_first, finest_first[1:], strict=False)
        )

    def forward(self, context: torch.Tensor) -> list[torch.Tensor]:
        """[B, 4, H, W] -> [B, C_l, h_l, w_l] a level, coarsest first; the finest has half of H."""
        x = F.leaky_relu(positional_norm(self.stem(F.pixel_unshuffle(context, 2))), 0.2)
        levels = [x]
        for conv in self.down:
            x = F.leaky_relu(positional_norm(conv(x)), 0.2)
            levels.append(x)
        return levels[::-1]


class PDGANGenerator(ModelMixin, ConfigMixin):
    """z [B, z_dim] + prior picture + mask -> picture. Level l works at H / 2 ** (len(widths) - l).

    variant: `plain`, hard map 1/k^i and transposed convolutions; `face`, count-normalised hard map whose
    neighbourhood grows with the level, and two convolutions + PixelShuffle. pyramid: the blocks see learnt features
    of the full-resolution prior and mask; False: the resized pictures themselves, as published. prior_features:
    channels of the prior network's own decoder features, one a level, which the blocks then see in the pyramid's
    place: what the prior knows of structure need not be learnt again from its picture. residual: the
    output is the prior + a correction that starts at zero; False: tanh, as published. latent_levels: the latent enters
    again at every level, in the hole only and the more the deeper (times 1 - D): at the start alone, as published, it
    is lost within ten steps of training at these widths. skips: the upsampling convolutions see the level's context
    too, and the last makes the picture's correction: a direct path from the prior, without which 200 steps of training
    moved nothing, since the hard map closes the modulation in the hole. rank_share: see lower_rank.
    """

    @register_to_config
    def __init__(
        self,
        variant: str = "face",
        z_dim: int = 128,
        seed_width: int = 48,
        widths: tuple[int, ...] = (128, 128, 128, 80, 40),
        modulation_width: int = 32,
        modulation_kernel: int = 1,
        pyramid: bool = True,
        residual: bool = True,
        latent_levels: bool = True,
        prior_features: tuple[int, ...] = (),
        skips: bool = False,
        rank_share: float = 0.0,
    ) -> None:
        super().__init__()
        if variant not in ("plain", "face"):
            raise ValueError(f"variant is {variant!r}; use plain or face")
        self.coarsest = 256 >> len(widths)
        self.seed = nn.Linear(z_dim, seed_width * self.coarsest**2)
        self.widen = nn.Conv2d(seed_width, widths[0], 1)
        self.context = PriorPyramid(widths) if pyramid and not prior_features else None
        contexts = widths if self.context is not None else (4,) * len(widths)
        if prior_features:
            contexts = tuple(channels + 4 for channels in prior_features)
        self.blocks = nn.ModuleList(
            SPDNormBlock(w, c, modulation_width, modulation_kernel) for w, c in zip(widths, contexts, strict=True)
        )
        self.latents = nn.ModuleList(nn.Linear(z_dim, w) for w in widths) if latent_levels else None
        up = TransposedUp if variant == "plain" else ShuffleUp
        ins = [w + c for w, c in zip(widths, contexts, strict=True)] if skips else list(widths)
        if skips:
            ins[-1] += 4 * 4  # the last sees the full resolution, four pixels a cell
        self.ups = nn.ModuleList(up(i, o) for i, o in zip(ins, (*widths[1:], 3 if skips else 16), strict=True))
        head = (nn.Conv2d(16 + 4, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(16, 3, 3, padding=1))
        self.out = None if skips else nn.Sequential(*head)
        if residual:
            self.ups[-1].start_at_zero() if skips else zero(head[-1])
        lower_rank(self, rank_share)

    def hard_map(self, known: torch.Tensor, level: int) -> torch.Tensor:
        """known [B, 1, h, w] -> D [B, 1, h, w]; rings 2, 3, ... from the coarsest level, as published."""
        if self.config.variant == "plain":
            return plain_hard_map(known, level + 2, 3 if level < 4 else 5)
        return counted_hard_map(known, level + 2, 3 if level < 3 else 2 * level - 1)

    def forward(
        self,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        prior_image: torch.Tensor,
        z: torch.Tensor,
        features: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """masked_image, prior_image: [B, 3, 256, 256] in [-1, 1]; mask: [B, 1, 256, 256], 1 = hole; z: [B, z_dim]
        standard normal; features: PConvPrior.fill's, where prior_features asks for them -> [B, 3, 256, 256].
        What lies under the mask is zeroed here too. Raises ValueError for missing features."""
        given, z = masked_image.dtype, z.to(self.dtype)
        prior_image = masked_image * (1 - mask) + prior_image * mask
        context = torch.cat([prior_image, mask * 2 - 1], 1).to(self.dtype)  # (B, 4, 256, 256)
        sides = [self.coarsest << level for level in range(len(self.blocks))]
        if self.context is not None:
            contexts = self.context(context)
        else:
            contexts = [F.adaptive_avg_pool2d(context, side) for side in sides]
        if self.config.prior_features:
            features = (features or [])[-len(contexts) :]  # the finest, where the generator starts below the prior
            if len(features) != len(contexts):
                raise ValueError(f"this generator needs {len(contexts)} levels of the prior's features")
            contexts = [
                torch.cat([positional_norm(f.to(c.dtype)), c], 1) for f, c in zip(features, contexts, strict=True)
            ]
        x = self.widen(self.seed(z).view(len(z), -1, self.coarsest, self.coarsest))
        for level, (block, up) in enumerate(zip(self.blocks, self.ups, strict=True)):
            known = known_at(mask, sides[level])
            hard_map = self.hard_map(known, level)
            if self.latents is not None:
                x = positional_norm(x) + (1 - hard_map).to(x.dtype) * self.latents[level](z)[:, :, None, None]
            x = block(x, contexts[level], known, hard_map)
            if self.config.skips:
                finest = [F.pixel_unshuffle(context, 2)] if level == len(self.ups) - 1 else []
                parts = (F.leaky_relu(positional_norm(x), 0.2), contexts[level], *finest)
                x = torch.cat([part.to(x.dtype) for part in parts], 1)
            x = up(x)  # (B, C_{l+1}, 2 side, 2 side)
        if self.out is not None:
            x = self.out(torch.cat([F.leaky_relu(positional_norm(x), 0.2), context.to(x.dtype)], 1))
        x = x.float()
        return (prior_image + x if self.config.residual else torch.tanh(x)).to(given)
