"""Networks on small tensors: equations worked out by hand, invariances, shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from idinpaint.models.autoencoder import FaceAutoencoder
from idinpaint.models.conditioning import build_conditions, stage_one
from idinpaint.models.face_maps import FaceMaps, expected_points
from idinpaint.models.id_encoder import IdentityNet
from idinpaint.models.id_tokens import IdentityTokens
from idinpaint.models.pconv import PartialConv2d, PConvPrior, push_pull


def test_partial_convolution_of_an_all_known_mask_is_a_convolution():
    torch.manual_seed(0)
    layer = PartialConv2d((3,), 5, 3, 2)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 16, 16)
    out, mask = layer((x, torch.ones(2, 1, 16, 16)))
    plain = F.conv2d(x, layer.conv.weight, layer.bias, 2, 1)
    assert torch.allclose(out, plain, atol=1e-5)
    assert bool((mask == 1).all())


def test_partial_convolution_by_hand():
    layer = PartialConv2d((1,), 1, 3)
    torch.nn.init.ones_(layer.conv.weight)
    x = torch.full((1, 1, 5, 5), 2.0)
    known = torch.zeros(1, 1, 5, 5)
    known[..., 0] = 1  # only the first column is known
    out, mask = layer((x, known))
    # In column 1 three of nine pixels are known: 3 * 2 * 9 / 3 = 18, as if all nine were 2.
    assert torch.allclose(out[0, 0, 1:4, 1], torch.full((3,), 18.0))
    # Column 2 sees no known pixel: zero and still a hole. The hole shrank by one column.
    assert bool((out[..., 2:] == 0).all()) and bool((mask[..., 2:] == 0).all()) and bool((mask[..., :2] == 1).all())


def test_partial_convolution_ignores_the_hole():
    torch.manual_seed(0)
    layer = PartialConv2d((3,), 4, 3)
    x, known = torch.randn(1, 3, 8, 8), (torch.rand(1, 1, 8, 8) > 0.5).float()
    other = torch.where(known.bool(), x, torch.randn_like(x))
    assert torch.equal(layer((x, known))[0], layer((other, known))[0])


def test_push_pull_keeps_known_pixels_and_reproduces_a_constant():
    known = (torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1)) > 0.7).float()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    filled = push_pull(image, known)
    assert torch.equal(filled * known, image * known)
    assert filled.min() >= image[known.expand_as(image) > 0].min() - 1e-6
    constant = push_pull(torch.full((1, 3, 32, 32), 0.3), known)
    assert torch.allclose(constant, torch.full_like(constant, 0.3), atol=1e-5)


def test_added_blocks_change_nothing_before_they_are_trained():
    torch.manual_seed(3)
    plain = PConvPrior(widths=(8, 32, 32, 32), head_width=8).eval()
    torch.nn.init.normal_(plain.head[-1].weight)
    blocks = PConvPrior(widths=(8, 32, 32, 32), head_width=8, blocks=1, block_levels=(1, 2, 3)).eval()
    missing, unexpected = blocks.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(key.startswith("encoder_blocks") for key in missing)
    image, mask = torch.rand(1, 3, 64, 64) * 2 - 1, torch.zeros(1, 1, 64, 64)
    mask[..., 20:23, 5:60] = 1
    with torch.no_grad():
        assert torch.allclose(plain(image, mask), blocks(image, mask), atol=1e-6)
        torch.nn.init.normal_(blocks.encoder_blocks["3"][-1].to_out.weight)
        assert not torch.allclose(plain(image, mask), blocks(image, mask), atol=1e-3)


def test_untrained_prior_is_the_push_pull_fill():
    prior = PConvPrior(widths=(8, 8, 8), head_width=8).eval()
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(prior(image, mask), push_pull(image * (1 - mask), 1 - mask), atol=1e-6)
        noisy = torch.where(mask.bool(), torch.randn_like(image), image)
        assert torch.equal(prior(image, mask), prior(noisy, mask))


def smooth_faces(count: int = 8) -> torch.Tensor:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, 64, mode="bicubic", align_corners=False).clamp(-1, 1)


def test_encoder_fit_whitens_and_inverts():
    model = FaceAutoencoder(16)
    images = smooth_faces()
    kept = model.fit_encoder(images)
    with torch.no_grad():
        latents = model.encode(images)
        decoded = model.decode(latents)
    assert latents.shape == (8, 16, 8, 8)
    std = latents.transpose(0, 1).flatten(1).std(1)
    assert torch.allclose(std, torch.ones(16), atol=0.05)
    psnr = 10 * torch.log10(4 / (decoded - images).square().mean())
    assert kept > 25 and abs(float(psnr) - kept) < 1.5


def test_conditions_do_not_read_the_hole():
    torch.manual_seed(0)
    autoencoder, prior = FaceAutoencoder(4), PConvPrior(widths=(8, 8, 8)).eval()
    autoencoder.fit_encoder(smooth_faces())
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 10:30, 20:50] = 1
    image = smooth_faces(1)
    with torch.no_grad():
        a = build_conditions(autoencoder, stage_one(prior, image, mask), image, mask)
        other = torch.where(mask.bool(), torch.randn_like(image), image)
        b = build_conditions(autoencoder, stage_one(prior, other, mask), other, mask)
    assert torch.equal(a.channels, b.channels) and a.channels.shape == (1, 12, 8, 8)
    assert torch.equal(a.touched, F.max_pool2d(mask, 8))


def test_face_maps_shape_and_blindness_to_the_hole():
    net = FaceMaps(68).eval()
    image, mask = torch.rand(1, 3, 256, 256) * 2 - 1, torch.zeros(1, 1, 256, 256)
    mask[..., 64:128, 64:128] = 1
    with torch.no_grad():
        logits = net(image, mask)
        assert logits.shape == (1, 68, 64, 64)
        assert torch.equal(logits, net(torch.where(mask.bool(), torch.zeros_like(image), image), mask))


def test_expected_points_of_a_sharp_and_a_flat_map():
    logits = torch.zeros(1, 2, 16, 16)
    logits[0, 0, 5, 9] = 50.0
    points, confidence = expected_points(logits)
    assert torch.allclose(points[0, 0], torch.tensor([9.0, 5.0]), atol=1e-3)
    assert torch.allclose(points[0, 1], torch.tensor([7.5, 7.5]), atol=1e-3)
    assert confidence[0, 0] > 0.99 > 0.3 > confidence[0, 1]


def test_identity_vectors_are_unit():
    vectors = IdentityNet().eval()(torch.rand(2, 3, 112, 112) * 2 - 1)
    assert vectors.shape == (2, 128)
    assert np.allclose(vectors.detach().norm(dim=1), 1, atol=1e-5)


def test_id_tokens_zero_row_gives_the_null_tokens():
    net = IdentityTokens(8, 4, 16, 32)
    embed = F.normalize(torch.randn(2, 8), dim=1)
    embed[1] = 0
    tokens = net(embed)
    assert tokens.shape == (2, 4, 16)
    assert torch.equal(tokens[1], net.null) and not torch.equal(tokens[0], net.null)


@pytest.mark.parametrize("channels", [8, 16])
def test_autoencoder_save_and_load(tmp_path, channels):
    model = FaceAutoencoder(channels)
    model.fit_encoder(smooth_faces())
    model.save_pretrained(tmp_path)
    again = FaceAutoencoder.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
