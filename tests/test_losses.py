"""Losses in closed form on tensors worked out by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from equations.pictures import heatmap_cross_entropy, hole_l1, identity_loss, min_snr_weight  # noqa: E402


def test_hole_l1_by_hand():
    target, mask = torch.zeros(1, 3, 2, 2), torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    predicted = torch.full((1, 3, 2, 2), 0.5)
    predicted[..., 0, 0] = 0.8
    assert math.isclose(float(hole_l1(predicted, target, mask, 0.1)), 0.8 + 0.1 * 0.5, rel_tol=1e-6)


def test_heatmap_cross_entropy_is_least_at_the_point_and_skips_points_outside():
    points = torch.tensor([[[3.0, 4.0]]])
    ys, xs = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")

    def logits(x: float, y: float) -> torch.Tensor:
        return (-((xs - x) ** 2 + (ys - y) ** 2) / 2)[None, None]

    losses = [float(heatmap_cross_entropy(logits(x, y), points)) for x, y in ((3, 4), (4, 4), (6, 1))]
    assert losses == sorted(losses)
    uniform = float(heatmap_cross_entropy(torch.zeros(1, 1, 8, 8), points))
    assert math.isclose(uniform, math.log(64), rel_tol=1e-5)
    outside = torch.tensor([[[-5.0, 2.0]]])
    assert float(heatmap_cross_entropy(logits(3, 4), outside)) == 0.0


def test_identity_loss_of_equal_opposite_and_orthogonal():
    a = torch.tensor([[1.0, 0.0]])
    for other, expected in (([[1.0, 0.0]], 0.0), ([[-1.0, 0.0]], 2.0), ([[0.0, 1.0]], 1.0)):
        assert math.isclose(float(identity_loss(a, torch.tensor(other))), expected, abs_tol=1e-6)


def test_min_snr_weights_of_the_paper():
    alphas = torch.tensor([0.5, 0.99])  # SNR 1 and 99
    assert torch.allclose(min_snr_weight(alphas, 5.0, "epsilon"), torch.tensor([1.0, 5 / 99]))
    assert torch.allclose(min_snr_weight(alphas, 5.0, "v_prediction"), torch.tensor([0.5, 0.05]))


def test_hole_l1_gradient_by_finite_differences():
    torch.manual_seed(0)
    target, mask = torch.rand(1, 3, 3, 3).double(), (torch.rand(1, 1, 3, 3) > 0.5).double()
    predicted = torch.rand(1, 3, 3, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: hole_l1(p, target, mask), predicted, eps=1e-7, atol=1e-5)
