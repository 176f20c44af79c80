"""Identity embedding -> cross-attention tokens (the FaceID projection of IP-Adapter, Ye et al. 2023)."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn


class IdentityTokens(ModelMixin, ConfigMixin):
    """id_embed [B, D] unit vectors -> id_tokens [B, T, C]; a row of zeros means "no identity given"."""

    @register_to_config
    def __init__(self, id_dim: int = 128, num_tokens: int = 4, token_dim: int = 192, hidden: int = 512) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(id_dim, hidden), nn.GELU(), nn.Linear(hidden, num_tokens * token_dim))
        self.norm = nn.LayerNorm(token_dim)
        self.null = nn.Parameter(torch.randn(num_tokens, token_dim) * 0.02)

    def forward(self, id_embed: torch.Tensor) -> torch.Tensor:
        # A unit vector of D dimensions has entries of about 1/sqrt(D); bring them to unit variance.
        scaled = (id_embed * self.config.id_dim**0.5).to(self.dtype)
        tokens = self.net(scaled).view(len(id_embed), self.config.num_tokens, -1)
        given = (id_embed.abs().sum(-1) > 0)[:, None, None]
        tokens = torch.where(given, self.norm(tokens), self.null.to(tokens.dtype).expand_as(tokens))  # (B, T, C)
        return tokens.to(id_embed.dtype)
