"""Does the fill look like its print? Grain, tint and sharpness in the hole against the known pixels beside it.

    python eval/print_look.py grain --data DATA [--count 50] [--strategy telea]
    python eval/print_look.py tint --data DATA [--count 12] [--strategy prior]
    python eval/print_look.py sharp --data DATA [--count 5] [--side 3000] [--strategy prior]

grain: synthetic grain (deviation 4 to 20 levels, white to 1.6 px, mono and colour, JPEG 85 on every second photo);
high-pass deviations in 9 px windows, the 25th and 50th per cent of the hole over those of a 24 px ring, with grain,
without (`--grain none`), and of the undamaged photo itself. tint: neutral and sepia prints, with a reference in
colour: levels off the print's own tone. sharp: photos enlarged (Lanczos), mean squared gradient in the hole over that
of the ring, over the same ratio of the undamaged photo. CelebAMask-HQ test pictures and NVIDIA masks of the data.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from command import parser_of
from PIL import Image

from idinpaint import Restorer
from idinpaint.imaging.compositing import known_ring
from idinpaint.imaging.grain import SIGMA
from idinpaint.types import LUMA

STRENGTHS, SIZES = (4, 7, 10, 14, 20), (0.0, 0.6, 1.0, 1.6)
SEPIA = (np.array([0.9, 0.82, 0.68]), np.array([24, 14, 4]))
MOUTH = (256, 385, 75, 45)  # x, y, half axes, in a 512 px aligned photo


def grainy(photo: np.ndarray, index: int) -> np.ndarray:
    """uint8 [H, W, 3] with the index-th kind of grain, neutral on every third one."""
    rng, mono = np.random.default_rng(index), index % 3 == 0
    strength, size = STRENGTHS[index % 5], SIZES[index % 4]
    grain = rng.standard_normal((*photo.shape[:2], 1 if mono else 3)).astype(np.float32)
    grain = grain if mono else 0.6 * grain + 0.8 * rng.standard_normal((*photo.shape[:2], 1)).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), size).reshape(grain.shape) if size else grain
    base = np.repeat((photo @ LUMA)[..., None], 3, 2) if mono else photo.astype(np.float32)
    made = np.clip(np.rint(base + grain * strength / grain.std()), 0, 255).astype(np.uint8)
    if index % 2 == 0:
        return made
    file = io.BytesIO()
    Image.fromarray(made).save(file, "JPEG", quality=85)
    return np.array(Image.open(file))


def damage(masks: list[Path], index: int, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: an irregular mask and an ellipse. size: (H, W)."""
    rng = np.random.default_rng(1000 + index)
    mask = Image.open(masks[(index * 7) % len(masks)]).convert("L").resize(size[::-1], Image.Resampling.NEAREST)
    hole = (np.array(mask) > 127).astype(np.uint8)
    place = (int(rng.integers(180, 330)), int(rng.integers(180, 400)))
    axes = (int(rng.integers(18, 45)), int(rng.integers(14, 35)))
    return cv2.ellipse(hole, place, axes, float(rng.integers(0, 180)), 0, 360, 1, -1).astype(bool)


def deviations(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The 25th and 50th per cent of the high-pass deviations of the windows inside `where`, bool [H, W]."""
    luma = rgb.astype(np.float32) @ LUMA
    high = np.where(where, luma - cv2.GaussianBlur(luma, (0, 0), SIGMA), 0)
    share = cv2.blur(where.astype(np.float32), (9, 9))
    energy = cv2.blur(high**2, (9, 9)) / np.maximum(share, 1e-3)
    return np.percentile(np.sqrt(energy[where & (share > 0.4)]), (25, 50))


def grain_row(restorer: Restorer, photo: np.ndarray, mask: np.ndarray, index: int, strategy: str) -> dict[str, Any]:
    """Ratios hole / ring at both percentages, with grain, without, and of the photo before the damage."""
    given = grainy(photo, index)
    ring = deviations(given, known_ring(mask, 24))
    row: dict[str, Any] = {}
    for grain in ("auto", "none"):
        done = restorer(given, mask, strategy=strategy, num_samples=1, seed=0, grain=grain, force=True)
        assert (done.image[~mask] == given[~mask]).all()
        row[grain] = (deviations(done.image, mask) / ring).tolist()
    return {**row, "original": (deviations(given, mask) / ring).tolist()}


def ellipse(side: int) -> np.ndarray:
    """bool [side, side]: the mouth of an aligned photo."""
    scale = side / 512
    x, y, a, b = (round(v * scale) for v in MOUTH)
    return cv2.ellipse(np.zeros((side, side), np.uint8), (x, y), (a, b), 0, 0, 360, 1, -1).astype(bool)


def tint_row(restorer: Restorer, photo: np.ndarray, strategy: str) -> dict[str, Any]:
    """Levels off the print's tone under the mask, mean and worst; a neutral one's is max - min of R, G, B."""
    grey, mask, row = (photo @ LUMA)[..., None], ellipse(photo.shape[0]), {}
    for kind, (factor, lift) in {"neutral": (np.ones(3), np.zeros(3)), "sepia": SEPIA}.items():
        given = np.clip(np.rint(grey * factor + lift), 0, 255).astype(np.uint8)
        done = restorer(given, mask, references=[photo], strategy=strategy, num_samples=1, seed=0, force=True)
        pixels = done.image[mask].astype(float)
        pixels = pixels[pixels.max(1) < 255]
        level = (pixels @ LUMA - lift @ LUMA) / (factor @ LUMA)
        off = np.abs(pixels - (level[:, None] * factor + lift)).max(1) if lift.any() else np.ptp(pixels, axis=1)
        row[kind] = [float(off.mean()), float(off.max())]
    return row


def sharp_row(restorer: Restorer, photo: np.ndarray, side: int, strategy: str) -> dict[str, Any]:
    """Gradient energy of the hole over the ring's, as a share of the undamaged photo's, with grain and without."""
    large = cv2.resize(photo, (side, side), interpolation=cv2.INTER_LANCZOS4)
    mask = ellipse(side)
    ring = known_ring(mask, side // 20)

    def ratio(rgb: np.ndarray) -> float:
        y, x = np.gradient(rgb.astype(np.float32) @ LUMA)
        energy = x**2 + y**2
        return float(energy[mask].mean() / energy[ring].mean())

    made = {g: restorer(large, mask, strategy=strategy, num_samples=1, grain=g, force=True) for g in ("auto", "none")}
    return {grain: ratio(done.image) / ratio(large) for grain, done in made.items()}


def main() -> None:
    """Prints a line for each photo, then the means."""
    parser = parser_of(__doc__, "--data")
    parser.add_argument("what", choices=("grain", "tint", "sharp"))
    parser.add_argument("--count", type=int, help="photos (50, 12, 5)")
    parser.add_argument("--strategy", help="telea for grain, else prior")
    parser.add_argument("--side", type=int, default=3000, help="px, of sharp")
    args = parser.parse_args()
    count = args.count or {"grain": 50, "tint": 12, "sharp": 5}[args.what]
    strategy = args.strategy or ("telea" if args.what == "grain" else "prior")
    photos = sorted((args.data / "CelebAMask-HQ/extra-img").glob("*.jpg"))[:count]
    masks = sorted((args.data / "nvidia_irregular_masks").glob("0-10/*"))
    masks = masks or sorted((args.data / "nvidia_irregular_masks").glob("*/*"))[:150]
    if not photos or (args.what == "grain" and not masks):
        parser.error(f"--data {args.data}: no CelebAMask-HQ/extra-img or nvidia_irregular_masks in it")
    restorer, rows = Restorer.from_pretrained(device="cpu"), []
    for index, path in enumerate(photos):
        photo = np.array(Image.open(path).convert("RGB"))
        if args.what == "grain":
            row = grain_row(restorer, photo, damage(masks, index, photo.shape[:2]), index, strategy)
        elif args.what == "tint":
            row = tint_row(restorer, photo, strategy)
        else:
            row = sharp_row(restorer, photo, args.side, strategy)
        rows.append(row)
        print(json.dumps({"photo": path.name, **row}), flush=True)
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        within = (np.abs(values - 1) <= 0.2).sum(axis=0).tolist()
        said = f" largest {values.max(axis=0).round(3)}" if args.what == "tint" else f" within 20 %: {within}"
        print(f"{name}: mean {values.mean(axis=0).round(3)}{said} of {len(rows)}")


if __name__ == "__main__":
    main()
