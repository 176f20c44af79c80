"""SPDNorm, PD-GAN, the discriminator, the encoder-decoder and LaFIn: maps worked out by hand, gradients, shapes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idinpaint.models.discriminator import Discriminator
from idinpaint.models.gan import SYSTEMS, GanInputs, generate
from idinpaint.models.lafin import landmark_map
from idinpaint.models.pconv import PartialConv2d, PConvPrior
from idinpaint.models.pdgan import PDGANGenerator, ShuffleUp
from idinpaint.models.spdnorm import (
    SPDNorm,
    SPDNormBlock,
    counted_hard_map,
    known_at,
    plain_hard_map,
    positional_norm,
)


def left_columns(width: int, known: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, width, width)
    mask[..., :known] = 1
    return mask


def test_plain_hard_map_decays_as_one_over_k_to_the_i():
    weights = plain_hard_map(left_columns(8, 2), rings=3, base=4.0)
    # Columns 0-1 are known; 2, 3 and 4 are the rings 1, 2 and 3; what lies deeper keeps the last ring's value.
    expected = torch.tensor([1, 1, 1 / 4, 1 / 16, 1 / 64, 1 / 64, 1 / 64, 1 / 64])
    assert torch.allclose(weights, expected.expand(1, 1, 8, 8))
    wide = plain_hard_map(left_columns(8, 2), rings=2, kernel=5)  # rings of two columns, k = e
    assert torch.allclose(wide[0, 0, 0], torch.tensor([1, 1, *[math.exp(-1)] * 2, *[math.exp(-2)] * 4]))


def test_counted_hard_map_by_hand():
    weights = counted_hard_map(left_columns(6, 1), rings=1)
    # A hole cell beside a straight edge sees 3 known of 9; in the first row 2 of the 6 cells inside the picture.
    assert torch.allclose(weights[0, 0, :, 1], torch.full((6,), 1 / 3)) and bool((weights[..., 2:] == 0).all())
    again = counted_hard_map(left_columns(6, 1), rings=2)
    # Column 1: (3 * 1 + 3 * 1/3 + 0) / 9 = 4/9; column 2: 3 * 1/3 / 9 = 1/9.
    assert torch.allclose(again[0, 0, 2, :4], torch.tensor([1, 4 / 9, 1 / 9, 0]))


def test_counted_hard_map_depends_on_how_many_neighbours_are_known_and_the_plain_one_does_not():
    few, many = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    few[..., 1, 1] = 1
    many[..., 1:4, 1] = 1
    many[..., 1, 1:4] = 1
    assert plain_hard_map(few, 2)[..., 2, 2] == plain_hard_map(many, 2)[..., 2, 2]
    assert torch.allclose(counted_hard_map(few, 1)[..., 2, 2], torch.tensor(1 / 9))
    assert torch.allclose(counted_hard_map(many, 1)[..., 2, 2], torch.tensor(5 / 9))


def longest_jump(weights: torch.Tensor) -> float:
    return float((weights[..., 1:] - weights[..., :-1]).abs().max())


def test_counted_hard_map_becomes_smooth_where_the_plain_one_jumps():
    known = left_columns(32, 4)
    assert longest_jump(counted_hard_map(known, 12, 5)) < 0.25 < longest_jump(plain_hard_map(known, 12, 5))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.sampled_from((3, 5)))
def test_hard_maps_lie_in_0_1_and_are_1_exactly_where_known(seed, rings, kernel):
    known = (torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed)) > 0.8).float()
    known[..., 0, 0], known[..., 6, 6] = 1, 0
    for weights in (plain_hard_map(known, rings, kernel), counted_hard_map(known, rings, kernel)):
        assert bool((weights >= 0).all()) and bool((weights[known == 1] == 1).all())
        surrounded = torch.nn.functional.avg_pool2d(known, kernel, 1, kernel // 2, count_include_pad=False) >= 0.99
        assert bool((weights[(known == 0) & ~surrounded] < 1).all())


def test_a_cell_is_known_only_when_all_its_pixels_are():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 0, 5] = 1
    assert known_at(mask, 2).tolist() == [[[[1.0, 0.0], [1.0, 1.0]]]]


def test_positional_norm_by_hand():
    x = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    assert torch.allclose(positional_norm(x).flatten(), torch.tensor([-1.0, 1.0]), atol=1e-4)


def test_spdnorm_by_hand():
    layer = SPDNorm(channels=2, context=1, hidden=1, kernel=1)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(layer.hidden.weight)
    with torch.no_grad():  # gamma = 2 P, beta = 3 P in both channels
        layer.gamma_beta.weight.copy_(torch.tensor([2.0, 2.0, 3.0, 3.0]).view(4, 1, 1, 1))
    x, context = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    for weight, expected in ((1.0, (-1 * 2 + 1.5, 2 + 1.5)), (0.0, (-1.0, 1.0)), (0.5, (-1.5 + 0.75, 1.5 + 0.75))):
        out = layer(x, context, torch.full((1, 1, 1, 1), weight))
        assert torch.allclose(out.flatten(), torch.tensor(expected), atol=1e-4)


def test_spdnorm_gradient_by_finite_differences():
    torch.manual_seed(0)
    layer = SPDNorm(3, 2, 4).double()
    inputs = [torch.rand(1, c, 3, 3).double().requires_grad_() for c in (3, 2, 1)]
    assert torch.autograd.gradcheck(layer, inputs, eps=1e-6, atol=1e-3)


def test_soft_map_is_1_on_known_cells_and_learnt_in_the_hole():
    torch.manual_seed(0)
    block = SPDNormBlock(4, 4, 8)
    known = left_columns(8, 3)
    weights = block.soft_map(torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), known)
    assert bool((weights[known == 1] == 1).all()) and bool((weights[known == 0] < 1).all())
    assert weights[known == 0].std() > 0


def test_partial_convolutions_shrink_a_hole_by_their_receptive_field_layer_after_layer():
    known = torch.ones(1, 1, 33, 33)
    known[..., 6:27, 6:27] = 0  # 21 px
    x, sides = torch.rand(1, 2, 33, 33), []
    for kernel in (3, 5, 3, 7):
        x, known = PartialConv2d((2,), 2, kernel)((x, known))
        sides.append(int((known[0, 0, 16] == 0).sum()))
    assert sides == [19, 15, 13, 7]  # less kernel - 1 each


def test_pixel_shuffle_upsampling_starts_without_a_checkerboard():
    up = ShuffleUp(4, 3)
    out = up(torch.randn(1, 4, 8, 8))
    assert out.shape == (1, 3, 16, 16)
    cells = out.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.allclose(cells, cells[..., :1].expand_as(cells), atol=1e-6)


TINY = {"widths": (8, 8, 8), "seed_width": 4, "modulation_width": 4}


def example(seed: int = 0) -> GanInputs:
    generator = torch.Generator().manual_seed(seed)
    image, prior = (torch.rand(1, 3, 256, 256, generator=generator) * 2 - 1 for _ in range(2))
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 60:140, 90:200] = 1
    landmarks = landmark_map(torch.tensor([[[100.0, 120.0], [30.0, 40.0]]]))
    return GanInputs(image * (1 - mask), mask, prior, torch.randn(1, 128, generator=generator), landmarks)


@pytest.mark.parametrize("variant", ["plain", "face"])
@pytest.mark.parametrize("pyramid", [True, False])
def test_untrained_pdgan_is_the_prior_and_reads_nothing_under_the_mask(variant, pyramid):
    torch.manual_seed(1)
    net = PDGANGenerator(variant, pyramid=pyramid, modulation_kernel=3, **TINY)
    given_ = example()
    with torch.no_grad():
        out = generate("pdgan", net, given_)
        expected = given_.masked_image + given_.prior_image * given_.mask
        assert torch.equal(out, expected)
        torch.nn.init.normal_(net.out[-1].weight, std=0.1)
        first = generate("pdgan", net, given_)
        noisy = given_.masked_image + torch.randn_like(given_.masked_image) * given_.mask
        other = GanInputs(noisy, given_.mask, given_.prior_image, given_.z)
        assert torch.equal(first, generate("pdgan", net, other))
        again = GanInputs(given_.masked_image, given_.mask, given_.prior_image, given_.z + 1)
        assert not torch.allclose(first, generate("pdgan", net, again), atol=1e-3)


def test_pdgan_as_published_ends_in_tanh_and_an_unknown_variant_is_named():
    net = PDGANGenerator("plain", pyramid=False, residual=False, **TINY)
    with torch.no_grad():
        out = generate("pdgan", net, example())
    assert float(out.abs().max()) <= 1 and not torch.allclose(out, example().prior_image, atol=0.1)
    with pytest.raises(ValueError, match="variant is 'other'"):
        PDGANGenerator("other")


def test_the_face_variant_is_small():
    assert 2 * sum(p.numel() for p in PDGANGenerator().parameters()) <= 9e6  # bytes in fp16


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("pconv", {"widths": (8, 8, 8), "head_width": 4}),
        ("pdgan-face", TINY),
        ("encdec", {"widths": (8, 8, 16), "blocks": 1}),
        ("lafin", {"widths": (8, 8, 32), "blocks": 2}),
    ],
)
def test_every_system_paints_saves_and_loads(tmp_path, system, options):
    torch.manual_seed(2)
    net = SYSTEMS[system](**options).eval()
    given_ = example()
    with torch.no_grad():
        out = generate(system, net, given_)
        net.save_pretrained(tmp_path)
        again = SYSTEMS[system].from_pretrained(tmp_path).eval()
        assert out.shape == (1, 3, 256, 256) and torch.equal(out, generate(system, again, given_))
        noisy = GanInputs(
            torch.where(given_.mask.bool(), torch.randn_like(given_.masked_image), given_.masked_image),
            *(given_.mask, given_.prior_image, given_.z, given_.landmarks),
        )
        assert torch.equal(out, generate(system, net, noisy))


def test_a_missing_input_is_named():
    with pytest.raises(ValueError, match="pdgan needs prior_image and z"):
        generate("pdgan", PDGANGenerator(**TINY), GanInputs(example().masked_image, example().mask))


def test_discriminator_scales_and_bounded_layers():
    torch.manual_seed(0)
    net = Discriminator(4, width=8, layers=2, scales=2)
    x = torch.randn(2, 4, 32, 32)
    outputs = net(x)
    assert [f.shape[-1] for f in outputs[0]] == [16, 8, 8, 8] and [f.shape[-1] for f in outputs[1]] == [8, 4, 4, 4]
    assert outputs[0][-1].shape == (2, 1, 8, 8)
    for _ in range(30):  # power iterations
        net(x)
    weight = net.nets[0].convs[1].weight.flatten(1)
    assert float(torch.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(1, abs=0.05)


def test_landmark_map_by_hand():
    drawn = landmark_map(torch.tensor([[[3.0, 5.0], [7.0, 5.0]]]), size=12, sigma_px=2.0)
    assert drawn.shape == (1, 1, 12, 12)
    assert drawn[0, 0, 5, 3] == 1 == drawn[0, 0, 5, 7]
    assert math.isclose(float(drawn[0, 0, 7, 3]), math.exp(-0.5), rel_tol=1e-5)
    assert math.isclose(float(drawn[0, 0, 5, 5]), math.exp(-0.5), rel_tol=1e-5)  # the highest, not the sum


def test_pdgan_reads_the_priors_features() -> None:
    """The decoder's features lead the modulation: they reach the picture, and missing ones are told."""
    torch.manual_seed(0)
    prior = PConvPrior(widths=(8, 16, 16, 32, 32, 32)).eval()
    given_ = example()
    picture, features = prior.fill(given_.masked_image, given_.mask)
    assert torch.equal(picture, prior(given_.masked_image, given_.mask))
    assert [tuple(f.shape[1:]) for f in features] == [
        (32, 8, 8),
        (32, 16, 16),
        (16, 32, 32),
        (16, 64, 64),
        (8, 128, 128),
    ]
    generator = PDGANGenerator(widths=(16, 16, 16, 16, 8), prior_features=(32, 32, 16, 16, 8), residual=False).eval()
    inputs = replace(given_, features=features)
    zero = replace(given_, features=[torch.zeros_like(f) for f in features])
    assert not torch.allclose(generate("pdgan-face", generator, inputs), generate("pdgan-face", generator, zero))
    with pytest.raises(ValueError, match="features"):
        generate("pdgan-face", generator, given_)
