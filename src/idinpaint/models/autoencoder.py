"""f8 autoencoder for 256 px faces: a Karhunen-Loeve encoder and a decoder that also sees the known pixels.

The encoder is one 8x8 convolution, the whitened principal components of face patches, found in closed form: 16
components keep 32 dB, as much as the published tiny 16-channel autoencoders, for no training; being local, it
carries nothing of the hole into known cells. The decoder adds to the linear inverse a correction that reads the
known pixels, as the asymmetric VQGAN decoder does (Zhu et al. 2023, arXiv:2306.04632).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

PATCH = 8


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class FaceAutoencoder(ModelMixin, ConfigMixin):
    """encode: [B, 3, H, W] in [-1, 1] -> latents [B, C, H/8, W/8], about unit variance; decode: the way back.

    detail_width: of a last correction at half the picture's resolution, which also reads the prior's finest features
    (prior_width channels): without it every 4 x 4 block is painted from one place, and shows. 0: none.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        coarse_width: int = 96,
        fine_width: int = 48,
        detail_width: int = 0,
        prior_width: int = 24,
    ) -> None:
        super().__init__()
        self.analysis = nn.Conv2d(3, latent_channels, PATCH, PATCH)
        self.synthesis = nn.ConvTranspose2d(latent_channels, 3, PATCH, PATCH)
        self.analysis.requires_grad_(False)
        self.synthesis.requires_grad_(False)
        self.coarse = nn.Sequential(
            nn.Conv2d(latent_channels + 1, coarse_width, 3, padding=1), _Residual(coarse_width), _Residual(coarse_width)
        )
        self.expand = nn.Conv2d(coarse_width, 4 * fine_width, 1)
        self.context = nn.Conv2d(16 * 7, fine_width, 3, padding=1)
        self.fine = nn.Sequential(_Residual(fine_width), _Residual(fine_width))
        self.out = nn.Conv2d(fine_width, 48, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.detail = None
        if detail_width:
            self.detail = nn.Sequential(
                nn.Conv2d(4 * 7 + prior_width, detail_width, 3, padding=1), nn.SiLU(), _Residual(detail_width),
                nn.SiLU(), nn.Conv2d(detail_width, 12, 3, padding=1),
            )  # fmt: skip
            nn.init.zeros_(self.detail[-1].weight)
            nn.init.zeros_(self.detail[-1].bias)

    @torch.no_grad()
    def fit_encoder(self, images: torch.Tensor) -> float:
        """Set the encoder to the whitened principal components of the images' 8x8 patches.

        images: [N, 3, H, W] in [-1, 1]. Returns the PSNR in dB that the components keep.
        """
        patches = F.pixel_unshuffle(images, PATCH).permute(0, 2, 3, 1).reshape(-1, 3 * PATCH**2).double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        count = self.config.latent_channels
        basis, std = vectors[:, -count:].flip(1), values[-count:].flip(0).sqrt()
        forward = (basis / std).T  # (C, 192)
        self.analysis.weight.copy_(forward.view(count, 3, PATCH, PATCH))
        self.analysis.bias.copy_(-(forward @ mean))
        self.synthesis.weight.copy_((basis * std).T.view(count, 3, PATCH, PATCH))
        # A transposed convolution has one bias a colour; the patch mean is flat to within 0.01.
        self.synthesis.bias.copy_(mean.view(3, -1).mean(1))
        return float(10 * torch.log10(4 / (values[:-count].sum() / (3 * PATCH**2))))

    @apply_forward_hook
    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, C, H/8, W/8]."""
        return self.analysis(image.to(self.dtype)).to(image.dtype)

    def forward(
        self,
        latents: torch.Tensor,
        masked_image: torch.Tensor,
        mask: torch.Tensor,
        prior_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What training calls: DistributedDataParallel sees only `forward`. The same as `decode`."""
        return self.decode(latents, masked_image, mask, prior_features)

    @apply_forward_hook
    def decode(
        self,
        latents: torch.Tensor,
        masked_image: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        prior_features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """latents [B, C, h, w], masked_image [B, 3, 8h, 8w], mask [B, 1, 8h, 8w] (1 = hole) -> [B, 3, 8h, 8w].

        Without a masked image everything counts as hole. prior_features: [B, prior_width, 4h, 4w] of PConvPrior.fill,
        for the last correction; without them there is none.
        """
        given, latents = latents.dtype, latents.to(self.dtype)
        linear = self.synthesis(latents)  # (B, 3, 8h, 8w)
        if masked_image is None:
            masked_image, mask = torch.zeros_like(linear), torch.ones_like(linear[:, :1])
        masked_image, mask = masked_image.to(self.dtype), mask.to(self.dtype)
        share = F.avg_pool2d(mask, PATCH)  # (B, 1, h, w)
        x = self.coarse(torch.cat([latents, share], 1))  # (B, coarse, h, w)
        x = F.pixel_shuffle(self.expand(x), 2)  # (B, fine, 2h, 2w)
        context = torch.cat([masked_image * (1 - mask), mask, linear], 1)
        x = x + self.context(F.pixel_unshuffle(context, 4).to(x.dtype))
        picture = linear + F.pixel_shuffle(self.out(self.fine(F.silu(x))), 4)
        if self.detail is None or prior_features is None:
            return picture.to(given)
        parts = [masked_image * (1 - mask), mask, picture.to(masked_image.dtype)]
        context = F.pixel_unshuffle(torch.cat(parts, 1), 2).to(picture.dtype)  # (B, 28, 4h, 4w)
        detail = self.detail(torch.cat([context, prior_features.to(picture.dtype)], 1))
        return (picture + F.pixel_shuffle(detail, 2)).to(given)
