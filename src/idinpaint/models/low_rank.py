"""Convolutions with fewer weights: k x k into r channels, then 1 x 1 (Zhang et al. 2015, arXiv:1505.06798, sec. 3.1).

The singular values of a trained kernel [out, in k k] fall fast; what lies beyond the first r is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LARGE = 240_000  # weights of a kernel from which leaving some out is worth a second convolution


class LowRankConv2d(nn.Sequential):
    """Takes the place of a convolution. The full one's weights may be loaded into it: their best approximation of
    rank r in the least-squares sense is kept (Eckart and Young 1936)."""

    def __init__(self, full: nn.Conv2d, rank: int) -> None:
        narrow = nn.Conv2d(full.in_channels, rank, full.kernel_size, full.stride, full.padding, bias=False)
        wide = nn.Conv2d(rank, full.out_channels, 1, bias=full.bias is not None)
        super().__init__(narrow, wide)
        if not full.weight.is_meta and not full.weight.any():  # a branch that starts at zero goes on doing so
            nn.init.zeros_(wide.weight)
            if wide.bias is not None:
                nn.init.zeros_(wide.bias)
        self.kernel_size, self.stride = full.kernel_size, full.stride
        self.register_load_state_dict_pre_hook(split_full_weights)


def split_full_weights(module: LowRankConv2d, state: dict[str, torch.Tensor], prefix: str, *_: Any) -> None:
    """Replace a full convolution's weight and bias in the state dict by the two factors."""
    if f"{prefix}weight" not in state:
        return
    weight = state.pop(f"{prefix}weight")
    u, s, v = torch.linalg.svd(weight.float().flatten(1), full_matrices=False)
    rank, root = module[0].out_channels, s.sqrt()
    factors = (root[:rank, None] * v[:rank], u[:, :rank] * root[:rank])
    for place, (factor, conv) in enumerate(zip(factors, module, strict=True)):
        state[f"{prefix}{place}.weight"] = factor.reshape(conv.weight.shape).to(weight.dtype)
    if f"{prefix}bias" in state:
        state[f"{prefix}1.bias"] = state.pop(f"{prefix}bias")


def lower_rank(net: nn.Module, share: float) -> None:
    """Replace, in place, every convolution of at least LARGE weights by one of `share` of its full rank.

    share: in (0, 1]; 0 leaves all as it is. Raises ValueError outside.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"rank_share is {share}; use 0 (full) to 1")
    if not share:
        return
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Conv2d and child.weight.numel() >= LARGE:
                full = min(child.out_channels, child.weight[0].numel())
                setattr(parent, name, LowRankConv2d(child, max(1, round(share * full))))
