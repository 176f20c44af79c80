"""Pack every training and validation photo, who is on it, its landmarks and the training masks into one file.

    python training/pack_data.py --data DATA --output runs/faces.facepack

A bare machine then trains from that file and the repository: `train_data_dir` may name it. Test people and photos are
left out. Photos whose face had fewer than --min-source px before alignment are left out too: they would teach blur.
With --metric-weights FOLDER (what the fetching tool fills, and MobileFaceNet) what the losses need of those weights is
written to a folder `teachers` beside the pack, in half precision.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from checkpoints import cast, written
from identity_faces import crop_points
from launching import run_guarded
from network_files import load_frozen
from PIL import Image

from idinpaint.data.packed import SUFFIX
from idinpaint.data.photos import (
    PhotoEntry,
    list_identity_folders,
    load_landmarks,
    load_photos,
    load_training_masks,
    read_split,
    training_photos,
)
from idinpaint.models.face_maps import FaceMaps
from idinpaint.models.tensors import to_tensor
from idinpaint.models.weights import BUNDLED
from idinpaint.types import InputError


def soft_photos(data: Path, least: float) -> set[str]:
    """Names of photos of celeba_id256 that were enlarged: their face's crop had fewer than `least` px."""
    with np.load(data / "celeba_id256_landmarks_mp468.npz") as table:
        return {str(name) for name, px in zip(table["names"], table["source_crop_px"], strict=True) if px < least}


@torch.no_grad()
def predicted_landmarks(photos: np.ndarray) -> np.ndarray:
    """[N, 256, 256, 3] uint8 -> [N, 68, 2] px, by the bundled network."""
    net = load_frozen(FaceMaps(68), BUNDLED / "landmarks.safetensors", torch.device("cpu"))
    points = []
    for start in range(0, len(photos), 32):
        images = to_tensor(photos[start : start + 32])
        points.append(crop_points(net, images, torch.zeros_like(images[:, :1])))
    return torch.cat(points).numpy() if points else np.empty((0, 68, 2), np.float32)


def avif(pixels: np.ndarray, quality: int) -> bytes:
    """[256, 256, 3] uint8 as the bytes of an AVIF file: at 10 kB a photo it keeps 99.5 % of the gradients, where WebP
    keeps 97 to 98; a painter learns no more detail than it is shown."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "AVIF", quality=quality, speed=6)
    return buffer.getvalue()


def pack(data: Path, splits: Path, output: Path, quality: int, least: float) -> dict[str, int]:
    """Write the pack and return what it holds. Raises InputError for missing folders."""
    if output.suffix != SUFFIX:
        raise InputError(f"{output}: a packed data set ends in {SUFFIX}")
    soft = soft_photos(data, least)
    train = [entry for entry in training_photos(data, splits) if entry.key not in soft]
    people = set(read_split(splits / "celeba_id256_val.txt"))
    held = [e for e in list_identity_folders(data / "celeba_id256") if e.person in people]
    entries: list[PhotoEntry] = [*train, *held]
    photos = load_photos(entries)
    known = load_landmarks(data)
    missing = [index for index, entry in enumerate(entries) if entry.key not in known]
    landmarks = np.stack([known.get(entry.key, np.zeros((68, 2), np.float32)) for entry in entries])
    landmarks[missing] = predicted_landmarks(photos[missing])
    masks = np.stack(load_training_masks(data, splits))
    arrays = io.BytesIO()
    bits = np.packbits(masks.reshape(len(masks), -1), axis=1)
    np.savez_compressed(arrays, landmarks=landmarks.astype(np.float16), masks=bits, mask_shape=masks.shape)
    table = {
        "names": [entry.key for entry in entries],
        "people": [entry.person for entry in entries],
        "splits": ["train"] * len(train) + ["val"] * len(held),
    }
    with written(output) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("table.json", json.dumps(table))
        archive.writestr("arrays.npz", arrays.getvalue())
        for index, pixels in enumerate(photos):
            archive.writestr(f"photos/{index:05d}.avif", avif(pixels, quality))
    return {"train": len(train), "val": len(held), "masks": len(masks), "bytes": output.stat().st_size}


VGG_LAYERS = (4, 9, 16)  # of VGG16's features, that the losses read
ALEX, VGG16 = "alexnet_features_torchvision.pth", "vgg16_features_torchvision.pth"
MOBILEFACENET = "mobilefacenet_foamliu_arcface.pt"


def pack_teachers(source: Path, output: Path) -> int:
    """Write the three teachers in half precision, VGG16 up to the last layer that is read. Returns their bytes."""
    output.mkdir(parents=True, exist_ok=True)
    for name in (ALEX, VGG16, MOBILEFACENET):
        if not (source / name).is_file():
            raise InputError(f"{source / name}: no such file; fetch the metric weights into {source} first")
        state = torch.load(source / name, weights_only=True, map_location="cpu")
        if name == VGG16:
            state = {k: v for k, v in state.items() if int(k.removeprefix("features.").split(".")[0]) <= VGG_LAYERS[-1]}
        torch.save(cast(state, torch.float16), output / name)
    return sum((output / name).stat().st_size for name in (ALEX, VGG16, MOBILEFACENET))


def main() -> None:
    """Parse the command line and pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the raw data sets")
    parser.add_argument("--splits", type=Path, default=Path("configs/splits"))
    parser.add_argument("--output", type=Path, default=Path("runs/faces.facepack"))
    parser.add_argument("--quality", type=int, default=76, help="of AVIF; 76 keeps the pack near 50 MB")
    parser.add_argument("--min-source", type=float, default=200, help="px of the face's crop before alignment")
    parser.add_argument("--metric-weights", type=Path, help="folder of the teachers' published weights")
    args = parser.parse_args()
    if args.metric_weights:
        print(json.dumps({"teachers": pack_teachers(args.metric_weights, args.output.parent / "teachers")}))
        if args.output.is_file():
            return  # the pack is there already
    print(json.dumps(pack(args.data, args.splits, args.output, args.quality, args.min_source)))


if __name__ == "__main__":
    run_guarded(main)
