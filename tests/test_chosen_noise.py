"""The first samples' noise is made of chosen parts, the others' is their own; the same number gives the same noise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from idinpaint.painting.chosen_noise import sample_noise

SHAPE = (16, 32, 32)


def plain(seed: int) -> torch.Tensor:
    return torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(seed))[0]


@pytest.mark.parametrize(
    ("number", "chosen"), [(3, None), (3, []), (2, [[5, 6, 7], [8, 9, 10]]), (1 << 40, [[5, 6, 7]])]
)
def test_without_a_choice_the_seed_is_the_samples_number(number, chosen):
    assert torch.equal(sample_noise(SHAPE, number, chosen), plain(number))


def test_the_parts_of_a_chosen_sample_come_from_their_seeds():
    noise = sample_noise(SHAPE, 1, [[1, 2, 3], [5, 6, 7]])
    assert torch.equal(noise[:, :14], plain(5)[:, :14]) and torch.equal(noise[:, :21, :12], plain(5)[:, :21, :12])
    assert torch.equal(noise[:, 14:21, 12:20], plain(6)[:, 14:21, 12:20])
    assert torch.equal(noise[:, 21:], plain(7)[:, 21:])
    assert torch.equal(sample_noise(SHAPE, 0, [[4, 4, 4]]), plain(4))
    assert abs(float(noise.std()) - 1) < 0.02 and abs(float(noise.mean())) < 0.02


def test_larger_latents_are_cut_at_the_same_places():
    noise = sample_noise((4, 64, 64), 0, [[1, 2, 3]])
    nose = torch.randn((1, 4, 64, 64), generator=torch.Generator().manual_seed(2))[0]
    assert torch.equal(noise[:, 28:42, 24:40], nose[:, 28:42, 24:40])


def test_the_inpainter_paints_by_its_models_choice(restorer):
    pipeline = restorer.bundle.pipeline
    own = SimpleNamespace(**{"chosen": pipeline.config.get("chosen_noise")})
    assert pipeline.latent_shape == SHAPE
    assert own.chosen is None or all(len(parts) == 3 for parts in own.chosen)
