"""What the GAN family's parts do: hard maps, diversity of samples, checkerboard of upsampling, speed.

    python eval/gan_study.py maps --output maps.png
    python eval/gan_study.py diversity --data DATA --gan runs/pdgan/generator runs/pdgan-face/generator
    python eval/gan_study.py checkerboard --data DATA --gan runs/pdgan/generator runs/pdgan-face/generator
    python eval/gan_study.py speed --data DATA --gan pdgan-face

Prints one JSON line a generator. Pictures of photos go where --output says, never into the repository.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from cases import BenchmarkConfig, Item, plan_items
from command import add_data, parser_of, run_main
from metric_networks import BACKBONE_FILES, LPIPS, find_weight, weight_folders
from pictures import write_png

from idinpaint.imaging.masks import random_mask
from idinpaint.loading.bundle import find_gan, load_pipeline
from idinpaint.models.diffusion_pipeline import IdentityInpaintPipeline
from idinpaint.models.spdnorm import counted_hard_map, known_at, plain_hard_map
from idinpaint.models.tensors import to_tensor
from idinpaint.models.weights import BUNDLED
from idinpaint.painting.gan import GanInpainter, load_gan
from idinpaint.types import InputError

SAMPLES = 8


def map_picture(mask: np.ndarray) -> np.ndarray:
    """mask [256, 256] bool -> grey uint8: the hole, the plain and the counted hard map, a row a level (32, 64, 128)."""
    tensor = torch.from_numpy(mask[None, None]).float()
    rows = []
    for level, side in ((2, 32), (3, 64), (4, 128)):
        known = known_at(tensor, side)
        plain = plain_hard_map(known, level + 2, 3 if level < 4 else 5)
        counted = counted_hard_map(known, level + 2, 3 if level < 3 else 2 * level - 1)
        large = [F.interpolate(t, 256, mode="nearest")[0, 0].numpy() for t in (known, plain, counted)]
        rows.append(np.concatenate(large, 1))
    return (np.concatenate(rows) * 255).round().astype(np.uint8)


def zones(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mask [H, W] bool -> (centre, border): the deeper and the shallower half of the hole's pixels, [H, W] bool."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    middle = np.median(depth[mask])
    return mask & (depth > middle), mask & (depth <= middle)


def diversity(samples: torch.Tensor, mask: np.ndarray, lpips: LPIPS) -> tuple[float, float]:
    """Mean LPIPS over all pairs of samples [S, 3, H, W] in [-1, 1], in the hole's centre and at its border."""
    with torch.no_grad():
        found = [lpips.unit_features(sample[None]) for sample in samples]
        pairs = [lpips.maps_between(a, b) for a, b in itertools.combinations(found, 2)]
    mean = np.mean([lpips.large_map(maps, mask.shape) for maps in pairs], axis=0, dtype=np.float64)
    return tuple(float(mean[zone].mean()) for zone in zones(mask))


def checkerboard(correction: np.ndarray) -> float:
    """Power at the upsampling frequency over the power round it, of a picture [H, W]: 1 = no checkerboard.

    A grid of period 2 lies at half the sampling rate, after fftshift the first row and column; it is compared with
    the rows and columns at 0.42 to 0.48 of the rate. The window keeps the frame's edges out.
    """
    side = correction.shape[0]
    window = np.hanning(side)[:, None] * np.hanning(side)[None]
    power = np.abs(np.fft.fftshift(np.fft.fft2((correction - correction.mean()) * window))) ** 2
    half, low, high = side // 2, int(0.42 * side), int(0.48 * side)
    at = power[0].mean() + power[:, 0].mean()
    ring = power[half - high : half - low].mean() + power[:, half - high : half - low].mean()
    return float(at / ring)


def inputs_of(item: Item) -> tuple[torch.Tensor, torch.Tensor]:
    """masked_image [1, 3, 256, 256], mask [1, 1, 256, 256] of a test case."""
    mask = torch.from_numpy(item.mask[None, None]).float()
    return to_tensor(item.photo[None]) * (1 - mask), mask


def study(kind: str, gan: GanInpainter, items: list[Item], lpips: LPIPS | None) -> dict[str, float]:
    """Means over the test cases for one generator."""
    rows = []
    for item in items:
        masked_image, mask = inputs_of(item)
        if kind == "diversity":
            samples = masked_image + gan.paint(masked_image, mask, range(SAMPLES)) * mask
            rows.append(diversity(samples, item.mask, lpips))
        else:
            predicted = gan.paint(masked_image, mask, [0])
            with torch.no_grad():
                correction = (predicted - gan.pipeline.prior(masked_image, mask))[0].mean(0).numpy()
            rows.append((checkerboard(correction),))
    names = ("lpips_centre", "lpips_border") if kind == "diversity" else ("power_ratio",)
    return dict(zip(names, np.mean(rows, 0).tolist(), strict=True)) | {"photos": len(rows)}


def speed(gan: GanInpainter, pipeline: IdentityInpaintPipeline, items: list[Item], rounds: int = 9) -> dict[str, float]:
    """Median seconds an image of the generator (its prior included) and of the diffusion, alone and in batches of 8.

    The diffusion with one step and one candidate, with the product's four candidates, with eight steps and with 50,
    diffusers' own default. Networks only; the ways take turns within a round, so that a busy machine slows all of them.
    """
    images, masks = (torch.cat(parts) for parts in zip(*(inputs_of(item) for item in items[:8]), strict=True))
    maps = torch.zeros(len(images), 68, pipeline.heatmap_size, pipeline.heatmap_size)

    def diffuse(count: int, steps: int, copies: int) -> None:
        noise = torch.Generator().manual_seed(0)
        parts = (t[:count] for t in (images, masks, maps))
        pipeline(*parts, num_inference_steps=steps, num_images_per_prompt=copies, generator=noise)

    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for count in (1, len(images)):
            ways = {
                "gan": lambda n=count: gan.paint(images[:n], masks[:n], range(n)),
                "diffusion_1_step": lambda n=count: diffuse(n, 1, 1),
                "diffusion_4_candidates": lambda n=count: diffuse(n, 1, 4),
                "diffusion_8_steps": lambda n=count: diffuse(n, 8, 1),
                "diffusion_50_steps": lambda n=count: diffuse(n, 50, 1),
            }
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds.setdefault(f"{name}_batch_{count}", []).append((time.perf_counter() - start) / count)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def run(args: argparse.Namespace) -> None:
    """One of the studies."""
    if args.kind == "maps":
        write_png(args.output, map_picture(random_mask(np.random.default_rng(args.seed), 256)))
        return
    config = BenchmarkConfig(bins=("20-30",), max_images=args.photos, seed=args.seed)
    items = [load() for load in plan_items(config, args.data)]
    lpips = None
    if args.kind == "diversity":
        folders = weight_folders(args.data, args.metric_weights)
        backbone = find_weight(BACKBONE_FILES["alex"], folders)
        if backbone is None:
            raise InputError(f"{BACKBONE_FILES['alex']}: not in {folders[0]}; pass --metric-weights")
        lpips = LPIPS("alex", backbone)
    pipeline = load_pipeline(BUNDLED / "pipeline")
    for name in args.gan:
        gan = load_gan(find_gan(BUNDLED, name), pipeline)
        found = speed(gan, pipeline, items) if args.kind == "speed" else study(args.kind, gan, items, lpips)
        print(json.dumps({"gan": name, **found}), flush=True)


def main(argv: list[str] | None = None) -> int:
    """Parse and run. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__, "--seed", "--metric-weights")
    parser.add_argument("kind", choices=("maps", "diversity", "checkerboard", "speed"))
    add_data(parser, needed=False)
    parser.add_argument("--gan", nargs="+", default=["pdgan-face"], help="names or generator folders")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path("maps.png"))
    args = parser.parse_args(argv)
    if args.kind != "maps" and args.data is None:
        parser.error("--data DATA (or IDINPAINT_DATA) is needed for all but maps")
    return run_main(run, args)


if __name__ == "__main__":
    raise SystemExit(main())
