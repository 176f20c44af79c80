"""How curved a training loss is at a checkpoint: the Hessian's largest eigenvalue and its trace.

    python eval/curvature.py --data DATA diffusion prior gan:pdgan-face [gan:runs/x/generator] [--photos 4]

By Hessian-vector products (Pearlmutter 1994): power iteration for the eigenvalue, Hutchinson's estimate with signs for
the trace (Yao 2020, PyHessian). The loss is the reconstruction part of each training on the same test cases, squared
so that it has a Hessian: of a GAN and the prior the pixels in the hole, of the diffusion the velocity in the touched
cells at fixed timesteps. Losses differ between families, so `over_loss` (value / loss) stands beside each number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

import torch
from cases import BenchmarkConfig, Item, plan_items
from command import parser_of, run_main
from torch import Tensor, nn

from idinpaint.models.conditioning import build_conditions
from idinpaint.types import InputError

TIMESTEPS = (100, 400, 700, 950)


def hessian_product(loss: Callable[[], Tensor], parameters: Sequence[Tensor]) -> Callable[[list[Tensor]], list[Tensor]]:
    """v -> H v at the parameters; the graph is built once."""
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True)
    used = [(g, i) for i, g in enumerate(gradients) if g is not None]

    def product(vector: list[Tensor]) -> list[Tensor]:
        dot = sum((g * vector[i]).sum() for g, i in used)
        made = torch.autograd.grad(dot, parameters, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if m is None else m.detach() for m, p in zip(made, parameters)]

    return product


def _dot(a: list[Tensor], b: list[Tensor]) -> float:
    return float(sum((x.double() * y.double()).sum() for x, y in zip(a, b)))


def top_eigenvalue(
    product: Callable[[list[Tensor]], list[Tensor]],
    parameters: Sequence[Tensor],
    steps: int = 30,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> float:
    """The eigenvalue of largest size, with its sign, by power iteration until it moves by less than `tolerance`."""
    generator = torch.Generator().manual_seed(seed)
    vector = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    value = 0.0
    for _ in range(steps):
        length = _dot(vector, vector) ** 0.5
        if length == 0:
            return 0.0
        vector = [v / length for v in vector]
        image = product(vector)
        before, value = value, _dot(vector, image)
        if abs(value - before) <= tolerance * abs(value):
            break
        vector = image
    return value


def trace(
    product: Callable[[list[Tensor]], list[Tensor]], parameters: Sequence[Tensor], draws: int = 10, seed: int = 0
) -> tuple[float, float]:
    """(Hutchinson's estimate of the trace, its standard error): the mean of v'Hv over vectors of random signs."""
    generator, values = torch.Generator().manual_seed(seed), []
    for _ in range(draws):
        vector = [(torch.randint(0, 2, p.shape, generator=generator) * 2.0 - 1).to(p) for p in parameters]
        values.append(_dot(vector, product(vector)))
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std() / draws**0.5) if draws > 1 else float("nan")


def batch_of(items: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor]:
    """image [B, 3, 256, 256] in [-1, 1], masked_image, mask [B, 1, 256, 256]."""
    from idinpaint.models.tensors import to_tensor

    image = torch.cat([to_tensor(item.photo[None]) for item in items])
    mask = torch.cat([torch.from_numpy(item.mask[None, None]).float() for item in items])
    return image, image * (1 - mask), mask


def hole_error(predicted: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the hole."""
    return ((predicted - image).square() * mask).sum() / (3 * mask.sum())


def diffusion_loss(pipeline, image: Tensor, masked_image: Tensor, mask: Tensor) -> Callable[[], Tensor]:
    """Velocity error in touched cells, at TIMESTEPS with fixed noise; no landmarks and no identity given."""

    with torch.no_grad():
        first = pipeline.first(masked_image, mask, masked_image.new_zeros(len(mask), pipeline.id_dim))
        conditions = build_conditions(pipeline.autoencoder, first, masked_image, mask, pipeline.reference_encoder)
        std = torch.tensor(pipeline.config.residual_std).view(1, -1, 1, 1)
        clean = (pipeline.autoencoder.encode(image) - conditions.prior_latents) / std * conditions.touched
        nobody = torch.zeros(len(image), pipeline.id_dim)
        tokens = pipeline.id_tokens(nobody)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    maps = torch.cat([conditions.channels, torch.zeros(len(image), 68, *clean.shape[-2:])], 1)
    alphas = pipeline.scheduler.alphas_cumprod

    def loss() -> Tensor:
        total = 0.0
        for step in TIMESTEPS:
            a = alphas[step]
            noisy, target = a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean
            velocity = pipeline._predict(noisy, maps, tokens, torch.tensor(step), None, nobody, conditions.added)
            error = (velocity - target).square() * conditions.touched
            total = total + error.sum() / (clean.shape[1] * conditions.touched.sum())
        return total / len(TIMESTEPS)

    return loss


def network_of(name: str, pipeline, items: Sequence[Item]) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The network and its loss on the cases, for diffusion, prior or gan:NAME. Raises InputError for another name."""
    image, masked_image, mask = batch_of(items)
    if name == "diffusion":
        return pipeline.unet, diffusion_loss(pipeline, image, masked_image, mask)
    if name == "prior":
        return pipeline.prior, lambda: hole_error(pipeline.prior(masked_image, mask), image, mask)
    if not name.startswith("gan:"):
        raise InputError(f"{name}: write diffusion, prior or gan:NAME")
    from idinpaint.loading.bundle import find_gan
    from idinpaint.models.gan import GanInputs, generate, needs_landmarks, needs_prior
    from idinpaint.models.weights import BUNDLED
    from idinpaint.painting.gan import load_gan

    gan = load_gan(find_gan(BUNDLED, name.partition(":")[2]), pipeline)
    inputs = GanInputs(masked_image, mask)
    if needs_landmarks(gan.system):
        raise InputError(f"{name}: {gan.system} paints under landmarks, which this script does not give")
    if needs_prior(gan.system):
        with torch.no_grad():
            inputs.prior_image, inputs.features = pipeline.prior.fill(masked_image, mask)
        inputs.prior_image = inputs.prior_image.clamp(-1, 1)
        generator = torch.Generator().manual_seed(0)
        inputs.z = torch.randn(len(image), gan.generator.config.z_dim, generator=generator)
    return gan.generator, lambda: hole_error(generate(gan.system, gan.generator, inputs), image, mask)


def measure(name: str, pipeline, items: Sequence[Item], steps: int, draws: int) -> dict[str, float | int | str]:
    """The curvature of one network, in evaluation mode (no dropout, fixed statistics), float32."""
    network, loss = network_of(name, pipeline, items)
    parameters = [p.requires_grad_(True) for p in network.eval().float().parameters()]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the fused ones have no second derivative
        product = hessian_product(loss, parameters)
        value, top = float(loss().detach()), top_eigenvalue(product, parameters, steps)
        mean, error = trace(product, parameters, draws)
    count = sum(p.numel() for p in parameters)
    numbers = {"network": name, "parameters": count, "loss": value, "top_eigenvalue": top, "trace": mean}
    return numbers | {"trace_error": error, "top_over_loss": top / value, "trace_over_loss": mean / value}


def run(args: argparse.Namespace) -> None:
    """One JSON line a network."""
    from idinpaint.loading.bundle import load_pipeline, resolve_model

    config = BenchmarkConfig(bins=("20-30",), max_images=args.photos)
    items = [load() for load in plan_items(config, args.data)]
    for name in args.networks:
        pipeline = load_pipeline(resolve_model(args.model)[1])
        print(json.dumps(measure(name, pipeline, items, args.steps, args.draws)), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Parse, print one JSON line a network. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--data", "--model")
    parser.add_argument("networks", nargs="+", help="diffusion, prior, gan:NAME or gan:FOLDER")
    parser.add_argument("--photos", type=int, default=4, help="test cases of 20-30 %% holes in the loss")
    parser.add_argument("--steps", type=int, default=30, help="of the power iteration, at most")
    parser.add_argument("--draws", type=int, default=10, help="of the trace")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
