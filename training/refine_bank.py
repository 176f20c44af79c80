"""What the bundled diffusion paints over hidden features of the training photos: the refiner's inputs.

python training/refine_bank.py --output runs/refine_bank --photos 4000 [--split train] [--part 1/2]

Writes shards of 64 (.npz, uint8): image, painted, prior, mask, predicted and true landmarks. Resumable.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from device_examples import DeviceExamples, ExampleConfig
from launching import run_guarded
from painter_stages import DiffusionStage

from idinpaint.data.packed import PackedFaces
from idinpaint.models.tensors import to_uint8

SHARD, BATCH = 64, 16
STRIDE = 977  # between the photos of a shard: neighbours in a data set are alike


@dataclass
class Painted:
    """image, painted, prior: [N, 256, 256, 3] uint8, known pixels in all of them; mask: [N, 256, 256] bool, True =
    hole; predicted, points: [N, 68, 2] px, read from the masked photo and true."""

    image: np.ndarray
    painted: np.ndarray
    prior: np.ndarray
    mask: np.ndarray
    predicted: np.ndarray
    points: np.ndarray


def joined(parts: list[Painted]) -> Painted:
    """One of several."""
    return Painted(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Painted)))


@torch.no_grad()
def paint(stage: DiffusionStage, examples: DeviceExamples, index: torch.Tensor) -> Painted:
    """Candidates as inference paints them, in one step from pure noise, for the photos at `index`."""
    batch = examples.batch(len(index), index)
    with torch.autocast(examples.device.type, torch.bfloat16):
        pictures = stage(batch, training=False).pictures.clamp(-1, 1)
        fill = stage.base[0].fill(batch)[0].float().clamp(-1, 1)
    masked, mask = batch.masked_image, batch.mask
    return Painted(
        to_uint8(batch.image), to_uint8(masked + pictures * mask), to_uint8(masked + fill * mask),
        mask[:, 0].bool().cpu().numpy(), batch.predicted.cpu().numpy(), batch.points.cpu().numpy(),
    )  # fmt: skip


def read_bank(folder: Path, split: str, known: set[str]) -> Iterator[Painted]:
    """The split's shards that are not in `known`, whose names are added to it."""
    for path in sorted(folder.glob(f"{split}-*.npz")):
        if path.name not in known:
            known.add(path.name)
            with np.load(path) as arrays:
                yield Painted(**{f.name: arrays[f.name] for f in fields(Painted)})


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="runs/faces.facepack")
    parser.add_argument("--init", type=Path, default=Path("runs/bundle"), help="of training/import_bundle.py")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument("--part", default="1/1")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    part, parts = map(int, args.part.split("/"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = ExampleConfig(
        feature_share=0.8, torn_share=0.1, both_share=0.1, bank_size=200, no_reference=0.6,
        landmarks=str(args.init / "landmarks.safetensors"), identity=str(args.init / "identity.safetensors"),
    )  # fmt: skip
    examples = DeviceExamples(PackedFaces(args.data), config, device, args.split)
    stage = DiffusionStage([args.init]).to(device).eval()
    args.output.mkdir(parents=True, exist_ok=True)
    for shard in range(part - 1, -(-args.photos // SHARD), parts):
        path = args.output / f"{args.split}-{shard:04d}.npz"
        if path.is_file():
            continue
        torch.manual_seed(shard)
        last = min((shard + 1) * SHARD, args.photos)
        places = torch.arange(shard * SHARD, last, device=device) * STRIDE % len(examples.photos)
        made = joined([paint(stage, examples, index) for index in places.split(BATCH)])
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(file, **{f.name: getattr(made, f.name) for f in fields(Painted)})
        os.replace(temporary, path)
        print(f"{path.name}", flush=True)


if __name__ == "__main__":
    run_guarded(main)
