"""Losses of the diffusion recipes as pure functions, one an equation. See pictures.py for the shape conventions.

Timesteps t [B]; a = alphas_cumprod[t]; x_t = sqrt(a) x_0 + sqrt(1 - a) e, the noisy latents [B, 4, h, w].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pred_original_sample(
    noisy: torch.Tensor, output: torch.Tensor, alpha: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """One-step estimate of x_0 (Ho et al. 2020, eq. 15; v: Salimans and Ho 2022, appendix D). alpha: a, [B].

    epsilon: (x_t - sqrt(1 - a) e) / sqrt(a); v_prediction: sqrt(a) x_t - sqrt(1 - a) v.
    """
    a = alpha.view(-1, 1, 1, 1)
    if prediction_type == "epsilon":
        return (noisy - (1 - a).sqrt() * output) / a.sqrt()
    if prediction_type == "v_prediction":
        return a.sqrt() * noisy - (1 - a).sqrt() * output
    raise ValueError(f"prediction_type {prediction_type}: epsilon or v_prediction")


def prediction_target(
    latents: torch.Tensor, noise: torch.Tensor, alpha: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """What the network is to give: e, or v = sqrt(a) e - sqrt(1 - a) x_0."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        a = alpha.view(-1, 1, 1, 1)
        return a.sqrt() * noise - (1 - a).sqrt() * latents
    raise ValueError(f"prediction_type {prediction_type}: epsilon or v_prediction")


def weighted_mse(output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Per sample [B]: sum w (o - t)^2 / (C sum w). weight: [B, 1, h, w]."""
    error = ((output - target).square() * weight).sum((1, 2, 3))
    return error / (output.shape[1] * weight.sum((1, 2, 3))).clamp(min=1e-6)


def latent_weight(
    mask: torch.Tensor, skin_mask: torch.Tensor, size: int, known_weight: float, skin_weight: float
) -> torch.Tensor:
    """Weight of a latent cell [B, 1, size, size]: known_weight + (1 - known_weight) h + skin_weight h s.

    h is the cell's share of hole, s its share of face skin; masks are [B, 1, H, W].
    """
    hole, skin = (F.adaptive_avg_pool2d(x, size) for x in (mask, skin_mask))
    return known_weight + (1 - known_weight) * hole + skin_weight * hole * skin


def low_noise(alpha: torch.Tensor, threshold: float) -> torch.Tensor:
    """[B] bool: the one-step prediction is worth decoding, a >= threshold."""
    return alpha >= threshold
