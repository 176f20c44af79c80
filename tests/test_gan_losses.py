"""The GAN family's losses in closed form on tensors worked out by hand, gradients by finite differences."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from idinpaint.types import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from equations.gan import (  # noqa: E402
    VGGFeatures,
    feature_l1,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
    perceptual_diversity,
    style_loss,
    total_variation,
)
from equations.pictures import heatmap_loss, skin_l1  # noqa: E402


def scores(*values: float) -> list[list[torch.Tensor]]:
    """One scale: a feature layer of ones and the patch scores."""
    return [[torch.ones(1, 2, 2, 2), torch.tensor(values).view(1, 1, 1, -1)]]


def test_hinge_by_hand():
    real, fake = scores(2.0, 0.5), scores(-2.0, 0.0)
    # real: max(0, 1 - 2) = 0 and 1 - 0.5; fake: max(0, 1 - 2) = 0 and 1 + 0
    assert float(hinge_discriminator(real, fake)) == pytest.approx(0.25 + 0.5)
    assert float(hinge_generator(fake)) == pytest.approx(1.0)
    assert float(hinge_generator(fake + scores(4.0))) == pytest.approx((1.0 - 4.0) / 2)  # the mean over scales


def test_least_squares_by_hand():
    real, fake = scores(2.0, 1.0), scores(0.0, 3.0)
    assert float(least_squares_discriminator(real, fake)) == pytest.approx(0.5 + 4.5)
    assert float(least_squares_generator(fake)) == pytest.approx((1 + 4) / 2)


def test_feature_matching_leaves_the_scores_out_and_does_not_train_on_the_real_ones():
    real, fake = scores(5.0), scores(-5.0)
    fake[0][0] = torch.full((1, 2, 2, 2), 0.25, requires_grad=True)
    real[0][0] = torch.ones(1, 2, 2, 2, requires_grad=True)
    loss = feature_matching(real, fake)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.75) and real[0][0].grad is None
    assert torch.allclose(fake[0][0].grad, torch.full((1, 2, 2, 2), -1 / 8))


def test_perceptual_diversity_by_hand():
    a, b = [torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 1, 1)], [torch.ones(1, 1, 2, 2), torch.full((1, 3, 1, 1), 3.0)]
    assert float(perceptual_diversity(a, b, eps=0.5)) == pytest.approx(1 / (2 + 0.5))
    assert float(perceptual_diversity(a, a)) == pytest.approx(1e5)


def test_skin_l1_counts_skin_only():
    predicted, target = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    predicted[..., 1, 1] = 9.0
    skin = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    assert float(skin_l1(predicted, target, skin)) == pytest.approx(0.5)
    assert float(skin_l1(predicted, target, torch.zeros(1, 1, 2, 2))) == 0.0


def test_heatmap_loss_by_hand():
    maps, target = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    maps[0, 0, 0, 0], target[0, 0, 1, 1] = 1, 1  # one landmark in another cell: 1 + 1; the other agrees
    assert float(heatmap_loss(maps, target)) == pytest.approx(2 / 2)


def test_style_loss_by_hand():
    a = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 1, 2)  # rows (1, 2) and (3, 4)
    # Gram = [[5, 11], [11, 25]] / (2 * 2); against zeros the mean is 52 / 16
    assert float(style_loss([a], [torch.zeros_like(a)])) == pytest.approx(52 / 16)
    assert float(style_loss([a], [a.flip(-1)])) == 0.0  # blind to where things are


def test_total_variation_by_hand():
    image, mask = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    image[..., 0, 0] = 100.0  # far from the hole: not counted
    image[..., 4, 4], mask[..., 4, 4] = 1.0, 1
    # Four differences of 1 round the pixel; 9 touched pixels, two directions.
    assert float(total_variation(image, mask)) == pytest.approx(4 / 18)


def gradient_cases():
    torch.manual_seed(0)
    target, mask = torch.rand(1, 3, 4, 4).double(), (torch.rand(1, 1, 4, 4) > 0.5).double()
    return {
        "skin": lambda p: skin_l1(p, target, mask),
        "heatmap": lambda p: heatmap_loss(p, target),
        "style": lambda p: style_loss([p], [target]),
        "tv": lambda p: total_variation(p, mask),
        "feature": lambda p: feature_l1([p, p * p], [target, target]),
        "diversity": lambda p: perceptual_diversity([p], [target], 0.1),
        "hinge": lambda p: hinge_discriminator([[p]], [[p * 0.5]]) + hinge_generator([[p]]),
        "least squares": lambda p: least_squares_discriminator([[p]], [[p]]) + least_squares_generator([[p]]),
        "matching": lambda p: feature_matching([[target, target]], [[p, p]]),
    }


@pytest.mark.parametrize("name", gradient_cases())
def test_gradients_by_finite_differences(name):
    torch.manual_seed(1)
    predicted = (torch.rand(1, 3, 4, 4).double() * 0.8 + 0.1).requires_grad_()
    function = gradient_cases()[name]
    loss = function(predicted)
    (gradient,) = torch.autograd.grad(loss, predicted)
    # The losses compute in float32, so the differences are central and coarse.
    direction = torch.randn(1, 3, 4, 4).double()
    step = 2e-3
    numeric = (function(predicted + step * direction) - function(predicted - step * direction)) / (2 * step)
    assert math.isclose(float(numeric), float((gradient * direction).sum()), rel_tol=0.03, abs_tol=3e-3)


def vgg_file(path, widths=((0, 3, 4), (2, 4, 4), (5, 4, 8))):
    torch.manual_seed(0)
    state = {}
    for index, i, o in widths:
        state[f"features.{index}.weight"], state[f"features.{index}.bias"] = torch.randn(o, i, 3, 3), torch.randn(o)
    torch.save(state, path)
    return state


def test_vgg_layers_follow_the_file(tmp_path):
    state = vgg_file(tmp_path / "vgg.pth")
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    first, second = VGGFeatures(tmp_path / "vgg.pth", (1, 6))(image)
    x = ((image + 1) / 2 - torch.tensor(VGGFeatures.MEAN).view(1, 3, 1, 1)) / torch.tensor(VGGFeatures.STD).view(
        1, 3, 1, 1
    )
    conv = torch.nn.functional.conv2d
    expected = conv(x, state["features.0.weight"], state["features.0.bias"], padding=1).relu()
    assert torch.allclose(first, expected, atol=1e-4)
    assert second.shape == (1, 8, 8, 8)  # after the pooling at index 4


def test_vgg_file_missing_or_too_short_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no VGG weights there"):
        VGGFeatures(tmp_path / "none.pth")
    vgg_file(tmp_path / "vgg.pth")
    with pytest.raises(InputError, match="asks for layer 29"):
        VGGFeatures(tmp_path / "vgg.pth")
