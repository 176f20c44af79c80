"""Stage-one prior: a U-Net of partial convolutions (Liu et al. 2018, arXiv:1804.07723) over a smooth fill.

The network predicts a correction to a push-pull fill (Burt 1981's pyramid; itself a partial convolution with
a box kernel), so that it starts at the quality of a classical method and a small budget goes into structure.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from idinpaint.models.low_rank import lower_rank
from idinpaint.models.references import zero_conv


def push_pull(image: torch.Tensor, known: torch.Tensor, relax: int = 4) -> torch.Tensor:
    """Fill the hole smoothly. image: [B, C, H, W], H = W a power of 2; known: [B, 1, H, W], 1 = known.

    Known pixels come back unchanged. `relax` steps of a 3x3 mean at every level (Jacobi steps of the Laplace
    equation, coarse to fine as in nested iteration) take the blocks out.
    """
    if known.shape[-1] == 1:
        return image * known
    coarse_known = F.avg_pool2d(known, 2)
    seen = (coarse_known > 0).to(known.dtype)
    coarse = F.avg_pool2d(image * known, 2) / coarse_known.clamp(min=1e-6)
    filled = F.interpolate(push_pull(coarse * seen, seen, relax), scale_factor=2, mode="bilinear", align_corners=False)
    filled = image * known + filled * (1 - known)
    for _ in range(relax):
        mean = F.avg_pool2d(F.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, 1)
        filled = image * known + mean * (1 - known)
    return filled


class PartialConv2d(nn.Module):
    """Equations 1 and 2 of the paper: x' = W (x . m) * sum(1) / sum(m) + b where sum(m) > 0, else 0.

    `parts` are (features [B, C_i, H, W], mask [B, 1, H, W]) pairs that are concatenated: a decoder's own
    features and its skip connection have different masks. Returns the output and its mask [B, 1, H', W'].
    """

    def __init__(self, in_channels: tuple[int, ...], out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(sum(in_channels), out_channels, kernel, stride, kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.in_channels = in_channels

    def forward(self, *parts: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.conv(torch.cat([features * mask.to(features.dtype) for features, mask in parts], 1))
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        with torch.no_grad():
            weighted = sum(c * mask.float() for c, (_, mask) in zip(self.in_channels, parts, strict=True))
            pad = kernel // 2
            # Outside the picture nothing is known, nor is it counted: an all-known mask gives a plain convolution.
            total = F.avg_pool2d(F.pad(torch.ones_like(weighted), (pad,) * 4), kernel, stride) * sum(self.in_channels)
            seen = F.avg_pool2d(F.pad(weighted, (pad,) * 4), kernel, stride)
            mask = (seen > 0).float()
            ratio = mask * total / seen.clamp(min=1e-6)
        return (out * ratio.to(out.dtype) + self.bias[:, None, None].to(out.dtype)) * mask.to(out.dtype), mask


class Residual(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), the second convolution starting at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [nn.GroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        layers += [nn.GroupNorm(8, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Attention(nn.Module):
    """x + self-attention over all places (Vaswani et al. 2017), the output projection starting at zero."""

    def __init__(self, channels: int, head_dim: int = 32) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.to_out = nn.Conv2d(channels, channels, 1)
        self.heads = channels // head_dim
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        out = F.scaled_dot_product_attention(*qkv.unbind(1))  # (B, heads, HW, head_dim)
        return x + self.to_out(out.transpose(-1, -2).reshape(b, c, h, w))


class PConvPrior(ModelMixin, ConfigMixin):
    """masked image -> coarse fill. Widths are those of the levels at 1/2, 1/4, ... of the input.

    `blocks` residual blocks follow each encoder level in `block_levels`, then attention over all places at the
    coarser two of them: a hidden eye finds its visible twin. They begin as the identity, so that they can be added to a
    trained network, and fill in what is still unknown there: every place counts as known after them. rank_share: see
    lower_rank; the masks are updated as before. id_dim: numbers of an identity vector, which scales and shifts the
    coarsest features and the decoder's coarser three levels (FiLM, Perez et al. 2018). reference_widths: channels of
    a ReferenceEncoder's levels, added at 1/8 to 1/32 on the way down and at every level on the way up. All three
    begin by changing nothing.
    """

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (24, 48, 96, 192, 256, 256),
        head_width: int = 16,
        blocks: int = 0,
        block_levels: tuple[int, ...] = (2, 3, 4),
        rank_share: float = 0.0,
        id_dim: int = 0,
        reference_widths: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        ins = ((width,) for width in (3, *widths[:-1]))
        self.encoder = nn.ModuleList(
            PartialConv2d(i, o, 5 if level == 0 else 3, 2) for level, (i, o) in enumerate(zip(ins, widths, strict=True))
        )
        self.encoder_norms = nn.ModuleList(
            nn.Identity() if level == 0 else nn.BatchNorm2d(o) for level, o in enumerate(widths)
        )
        self.encoder_blocks = nn.ModuleDict(
            {
                str(level): nn.Sequential(
                    *(Residual(widths[level]) for _ in range(blocks)),
                    *([Attention(widths[level])] if level in block_levels[-2:] else []),
                )
                for level in (block_levels if blocks else ())
            }
        )
        ups, skips = widths[:0:-1], widths[-2::-1]
        self.decoder = nn.ModuleList(PartialConv2d((u, s), s, 3) for u, s in zip(ups, skips, strict=True))
        self.decoder_norms = nn.ModuleList(nn.BatchNorm2d(s) for s in skips)
        self.to_pixels = nn.Conv2d(widths[0], 4 * 8, 1)
        self.head = nn.Sequential(
            nn.Conv2d(8 + 3 + 3 + 1, head_width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(head_width, 3, 3, padding=1),
        )
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)
        lower_rank(self, rank_share)
        self.identity = nn.ModuleList(nn.Linear(id_dim, 2 * c) for c in (widths[-1], *skips[:3]) if id_dim)
        for linear in self.identity:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        levels = range(len(reference_widths))
        self.down_references = nn.ModuleDict(
            {str(level): zero_conv(reference_widths[level], widths[level]) for level in levels if level >= 2}
        )
        self.up_references = nn.ModuleDict(
            {str(level): zero_conv(reference_widths[level], widths[level]) for level in levels}
        )

    def forward(
        self,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        id_embed: torch.Tensor | None = None,
        references: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """masked_image: [B, 3, H, W] in [-1, 1], hole zeroed; mask: [B, 1, H, W], 1 = hole -> [B, 3, H, W].

        H = W a power of 2, at least 2 ** len(widths). The hole is zeroed here too. id_embed: [B, id_dim] unit vectors,
        rows of zeros for none; references: a ReferenceEncoder's levels.
        """
        return self.fill(masked_image, mask, id_embed, references)[0]

    @apply_forward_hook
    def fill(
        self,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        id_embed: torch.Tensor | None = None,
        references: list[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """`forward`, and the decoder's features [B, C_l, H / 2^l, W / 2^l], coarsest first, the finest at H / 2."""
        given, mask = masked_image.dtype, mask.float()
        known = 1 - mask
        masked_image = (masked_image.float() * known).contiguous()  # pooling 3 channels-last channels is slow
        fill = push_pull(masked_image, known)  # (B, 3, H, W)
        parts = [(masked_image.to(self.dtype), known)]
        stack = []
        for level, (conv, norm) in enumerate(zip(self.encoder, self.encoder_norms, strict=True)):
            features, valid = conv(*parts)
            features = F.relu(norm(features))  # (B, C_l, H / 2^l, W / 2^l)
            features = self._refer(self.down_references, level, features, references)
            if str(level) in self.encoder_blocks:
                features, valid = self.encoder_blocks[str(level)](features), torch.ones_like(valid)
            parts = [(features, valid)]
            stack += parts
        features = self._identify(0, features, id_embed)
        levels = []
        for step, (conv, norm, skip) in enumerate(zip(self.decoder, self.decoder_norms, stack[-2::-1], strict=True)):
            up = tuple(F.interpolate(t, scale_factor=2, mode="nearest") for t in (features, valid))
            features, valid = conv(up, skip)
            features = F.leaky_relu(norm(features), 0.2)
            features = self._refer(self.up_references, len(self.decoder) - 1 - step, features, references)
            features = self._identify(step + 1, features, id_embed)
            levels.append(features)
        pixels = F.pixel_shuffle(self.to_pixels(features), 2)  # (B, 8, H, W)
        correction = self.head(torch.cat([pixels, masked_image, fill, mask], 1).to(pixels.dtype))
        return (fill + correction.float()).to(given), levels

    @staticmethod
    def _refer(
        convs: nn.ModuleDict, level: int, features: torch.Tensor, references: list[torch.Tensor] | None
    ) -> torch.Tensor:
        if references is None or str(level) not in convs:
            return features
        return features + convs[str(level)](references[level].to(features.dtype))

    def _identify(self, place: int, features: torch.Tensor, id_embed: torch.Tensor | None) -> torch.Tensor:
        if id_embed is None or place >= len(self.identity):
            return features
        # A unit vector of D dimensions has entries of about 1/sqrt(D); bring them to unit variance.
        entries = id_embed.to(features.dtype) * id_embed.shape[-1] ** 0.5
        scale, shift = self.identity[place](entries)[..., None, None].chunk(2, 1)
        return features * (1 + scale) + shift
