"""Low-rank convolutions: what loading a full kernel keeps, what it leaves out, and where they are put."""

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from idinpaint.models.low_rank import LARGE, LowRankConv2d, lower_rank
from idinpaint.models.pconv import PartialConv2d, PConvPrior
from idinpaint.models.pdgan import PDGANGenerator


def filled(rank: int, full: nn.Conv2d) -> LowRankConv2d:
    low = LowRankConv2d(full, rank)
    low.load_state_dict(full.state_dict())
    return low


def product(low: LowRankConv2d) -> torch.Tensor:
    return low[1].weight.flatten(1) @ low[0].weight.flatten(1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([1, 2]), st.integers(0, 99))
def test_full_rank_gives_the_convolution_itself(out, into, stride, seed):
    torch.manual_seed(seed)
    full = nn.Conv2d(into, out, 3, stride, 1)
    x = torch.randn(2, into, 8, 8)
    low = filled(min(out, into * 9), full)
    assert torch.allclose(low(x), full(x), atol=1e-5)
    assert (low.kernel_size, low.stride) == (full.kernel_size, full.stride)


def test_what_is_left_out_is_the_smaller_singular_values():
    torch.manual_seed(0)
    full = nn.Conv2d(4, 6, 3, bias=False)
    values = torch.linalg.svdvals(full.weight.flatten(1))
    for rank in (1, 3, 5):
        error = (product(filled(rank, full)) - full.weight.flatten(1)).square().sum()
        assert error.item() == pytest.approx(values[rank:].square().sum().item(), rel=1e-4)  # Eckart-Young


def test_a_kernel_of_rank_one_survives_rank_one():
    full = nn.Conv2d(2, 2, 1, bias=False)
    full.weight.data = torch.tensor([[3.0, 1.0], [6.0, 2.0]]).view(2, 2, 1, 1)  # second row = 2 x first
    assert torch.allclose(product(filled(1, full)), torch.tensor([[3.0, 1.0], [6.0, 2.0]]), atol=1e-5)


def test_its_own_weights_load_as_they_are():
    low = LowRankConv2d(nn.Conv2d(4, 4, 3), 2)
    other = LowRankConv2d(nn.Conv2d(4, 4, 3), 2)
    other.load_state_dict(low.state_dict())
    assert torch.equal(product(other), product(low))


def test_only_large_kernels_are_replaced():
    net = nn.Sequential(nn.Conv2d(128, 256, 3), nn.Conv2d(256, 8, 3), nn.ConvTranspose2d(8, 8, 4))
    assert net[0].weight.numel() >= LARGE > net[1].weight.numel()
    before = copy.deepcopy(net)
    lower_rank(net, 0)
    assert [type(m) for m in net] == [type(m) for m in before]
    lower_rank(net, 0.25)
    assert isinstance(net[0], LowRankConv2d) and net[0][0].out_channels == 64
    assert [type(m) for m in net[1:]] == [type(m) for m in before[1:]]
    with pytest.raises(ValueError, match="rank_share"):
        lower_rank(net, 1.5)


def test_a_branch_that_starts_at_zero_still_does():
    full = nn.Conv2d(4, 4, 3, padding=1)
    nn.init.zeros_(full.weight)
    nn.init.zeros_(full.bias)
    assert not LowRankConv2d(full, 2)(torch.randn(1, 4, 8, 8)).any()


def test_partial_convolution_updates_its_mask_as_before():
    torch.manual_seed(0)
    conv = PartialConv2d((4,), 6, 3, 2)
    low = copy.deepcopy(conv)
    low.conv = filled(6, conv.conv)
    x, mask = torch.randn(1, 4, 8, 8), (torch.rand(1, 1, 8, 8) > 0.7).float()
    (out, valid), (low_out, low_valid) = conv((x, mask)), low((x, mask))
    assert torch.equal(valid, low_valid) and torch.allclose(out, low_out, atol=1e-5)


def test_prior_starts_from_a_full_one_and_reloads_from_a_folder(tmp_path):
    torch.manual_seed(0)
    full = PConvPrior(blocks=1).eval()
    low = PConvPrior(blocks=1, rank_share=0.5).eval()
    low.load_state_dict(full.state_dict())
    assert low.num_parameters() < 0.7 * full.num_parameters()
    image, mask = torch.rand(1, 3, 256, 256) * 2 - 1, torch.zeros(1, 1, 256, 256)
    mask[..., 100:160, 90:170] = 1
    low.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(PConvPrior.from_pretrained(tmp_path).eval()(image, mask), low(image, mask))


def test_script_splits_a_folder_and_refuses_others(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "training"))
    import lower_rank as script

    generator = PDGANGenerator(seed_width=8, widths=(256, 160, 16), skips=True)
    generator.save_pretrained(tmp_path / "full")
    config = json.loads((tmp_path / "full" / "config.json").read_text())
    del config["rank_share"]  # as written before there was one
    (tmp_path / "full" / "config.json").write_text(json.dumps(config))
    assert script.main([str(tmp_path / "full"), "--share", "0.25", "--output", str(tmp_path / "low")]) == 0
    low = PDGANGenerator.from_pretrained(tmp_path / "low")
    assert low.config.rank_share == 0.25 and low.num_parameters() < generator.num_parameters()
    kernel = generator.state_dict()["blocks.0.hard_convs.0.weight"].flatten(1)
    assert torch.linalg.matrix_rank(product(low.blocks[0].hard_convs[0])) == 64 < min(kernel.shape)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    for folder, share in (("other", "0.5"), ("nowhere", "0.5"), ("full", "2"), ("low", "0.5")):
        assert script.main([str(tmp_path / folder), "--share", share, "--output", str(tmp_path / "x")]) == 2
        assert folder in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
