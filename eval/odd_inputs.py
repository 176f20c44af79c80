"""A hundred odd inputs: what the product does with each, as a typed result. Nothing may end in a traceback.

    python eval/odd_inputs.py --data DATA --output runs/odd [--count 100] [--portrait PHOTO]

Faces come from the validation people (or from --portrait alone, without data); the oddness is made by augmentation.
Writes OUTPUT/odd_inputs.csv and odd_inputs.md. Exit status 1 when anything was raised that is not an InputError.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from cases import SPLITS, read_rgb
from PIL import Image

import idinpaint
from idinpaint.data.photos import list_identity_folders, read_split
from idinpaint.types import InputError

COLUMNS = ("kind", "number", "outcome", "strategy", "rule", "verdict", "faces", "face_coverage", "notices", "seconds")
COLUMNS += ("message",)


@dataclass(frozen=True)
class Odd:
    """A photo uint8 [H, W, 3], its mask bool [H, W], other photos given as references."""

    photo: np.ndarray
    mask: np.ndarray
    references: tuple[np.ndarray, ...] = ()


Maker = Callable[[np.ndarray, np.random.Generator], Odd]


def scratches(shape: tuple[int, int], rng: np.random.Generator, count: int = 3, width: int = 6) -> np.ndarray:
    """bool [H, W]: straight strokes across the middle of the picture."""
    mask = np.zeros(shape, np.uint8)
    height, side = shape
    for _ in range(count):
        ends = [(int(rng.integers(0, side)), int(rng.integers(height // 4, 3 * height // 4))) for _ in range(2)]
        cv2.line(mask, *ends, 1, max(1, width * height // 256))
    mask[height // 2, side // 2] = 1
    return mask.astype(bool)


def _scratched(photo: np.ndarray, rng: np.random.Generator, *references: np.ndarray) -> Odd:
    return Odd(np.ascontiguousarray(photo), scratches(photo.shape[:2], rng), references)


def _ellipse(photo: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], colour, angle=0) -> np.ndarray:
    """A filled ellipse; centre and axes in shares of the side."""
    side = photo.shape[0]
    middle = tuple(int(v * side) for v in centre)
    cv2.ellipse(photo, middle, tuple(int(v * side) for v in axes), angle, 0, 360, colour, -1, cv2.LINE_AA)
    return photo


def profile(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """One half of the face squeezed as in a turned head."""
    height, width = photo.shape[:2]
    bend = rng.uniform(1.6, 2.6)
    x = np.linspace(0, 1, width, dtype=np.float32) ** bend * (width - 1)
    maps = np.meshgrid(x.astype(np.float32), np.arange(height, dtype=np.float32))
    return _scratched(cv2.remap(photo, *maps, cv2.INTER_LINEAR), rng)


def sunglasses(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Dark lenses that the mask takes away: both eyes hidden with a few per cent of the frame."""
    lenses = np.zeros_like(photo)
    for x in (0.375, 0.62):
        _ellipse(lenses, (x, 0.475), (0.11, 0.075), (255, 255, 255))
    mask = lenses[..., 0] > 0
    return Odd(np.where(mask[..., None], 15, photo).astype(np.uint8), mask)


def sunglasses_kept(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """The glasses stay, scratches elsewhere."""
    return _scratched(sunglasses(photo, rng).photo, rng)


def hand(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Skin-coloured fingers over the mouth."""
    out = photo.copy()
    colour = tuple(int(v) for v in photo[110:130, 120:136].reshape(-1, 3).mean(0) * rng.uniform(0.8, 1.1))
    for index in range(4):
        _ellipse(out, (0.36 + 0.09 * index, 0.78), (0.045, 0.2), colour, int(rng.integers(-15, 15)))
    return _scratched(out, rng)


def lollipop(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A disc on a stick before the face, which the mask removes."""
    mask = np.zeros_like(photo)
    side = photo.shape[0]
    centre = (rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.75))
    _ellipse(mask, centre, (0.12, 0.12), (255, 255, 255))
    cv2.line(mask, tuple(int(v * side) for v in centre), (int(centre[0] * side), side - 1), (255, 255, 255), side // 40)
    hole = mask[..., 0] > 0
    return Odd(np.where(hole[..., None], (200, 30, 60), photo).astype(np.uint8), hole)


def face_mask(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A surgical mask to be removed: mouth and nose hidden."""
    hole = np.zeros(photo.shape[:2], bool)
    side = photo.shape[0]
    hole[int(0.58 * side) : int(0.9 * side), int(0.28 * side) : int(0.72 * side)] = True
    return Odd(np.where(hole[..., None], (140, 190, 220), photo).astype(np.uint8), hole)


def tiny(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A face of 20 to 40 px in a large plain picture."""
    side = int(rng.integers(28, 56))
    small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    out = np.full((360, 480, 3), 120, np.uint8)
    y, x = int(rng.integers(0, 360 - side)), int(rng.integers(0, 480 - side))
    out[y : y + side, x : x + side] = small
    mask = np.zeros(out.shape[:2], bool)
    mask[y + side // 2 : y + side // 2 + max(2, side // 10), x : x + side] = True
    return Odd(out, mask)


def two_faces(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """The same portrait twice, scratches over both."""
    return _scratched(np.hstack([photo, photo[:, ::-1]]), rng)


def no_face(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Smooth noise."""
    small = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return _scratched(cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC), rng)


def text(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A watermark across the face, masked."""
    mask = np.zeros(photo.shape[:2], np.uint8)
    for y in range(60, 240, 45):
        cv2.putText(mask, "SAMPLE COPY", (12, y), cv2.FONT_HERSHEY_SIMPLEX, 1.1, 1, int(rng.integers(3, 8)))
    hole = mask.astype(bool)
    return Odd(np.where(hole[..., None], 255, photo).astype(np.uint8), hole)


def drawing(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A pencil drawing by filter."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    sketch = cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (0, 0), 6), scale=256)
    return _scratched(np.repeat(sketch[..., None], 3, 2), rng)


def cartoon(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Flat colours."""
    flat = cv2.bilateralFilter(photo, 9, 90, 9)
    return _scratched((flat // 48 * 48 + 24).astype(np.uint8), rng)


def childlike(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A child's proportions: the lower face shortened."""
    half = photo.shape[0] // 2
    lower = cv2.resize(photo[half:], (photo.shape[1], int(0.72 * half)), interpolation=cv2.INTER_AREA)
    return _scratched(np.vstack([photo[:half], lower]), rng)


def upside_down(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Scanned the wrong way round."""
    return _scratched(photo[::-1, ::-1], rng)


def all_hidden(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """The whole face under the mask."""
    hole = _ellipse(np.zeros_like(photo), (0.5, 0.58), (0.27, 0.36), (255, 255, 255))[..., 0] > 0
    return Odd(photo, hole)


def overexposed(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Nearly white."""
    return _scratched(np.clip(photo.astype(int) * 2 + 90, 0, 255).astype(np.uint8), rng)


def sliver(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A strip that holds a part of the face only."""
    return _scratched(photo[:, 100:130], rng)


def wrong_reference(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """A reference photo without a face."""
    return _scratched(photo, rng, no_face(photo, rng).photo)


def full_mask(photo: np.ndarray, rng: np.random.Generator) -> Odd:
    """Nothing is known."""
    return Odd(photo, np.ones(photo.shape[:2], bool))


KINDS: dict[str, Maker] = {
    maker.__name__: maker
    for maker in (
        *(profile, sunglasses, sunglasses_kept, hand, lollipop, face_mask, tiny, two_faces, no_face, text, drawing),
        *(cartoon, childlike, upside_down, all_hidden, overexposed, sliver, wrong_reference, full_mask),
    )
}


def run_one(restorer, kind: str, number: int, photo: np.ndarray) -> dict[str, object]:
    """What happened, as a row: restored, abstained or refused (an InputError); crashed is a bug."""
    rng = np.random.default_rng([number, *kind.encode()])
    odd, start = KINDS[kind](photo.copy(), rng), time.perf_counter()
    row: dict[str, object] = {"kind": kind, "number": number}
    try:
        result = restorer(odd.photo, odd.mask, references=odd.references, num_samples=1)
    except InputError as error:
        row |= {"outcome": "refused", "message": str(error)}
    except Exception as error:
        traceback.print_exc()
        row |= {"outcome": "crashed", "message": f"{type(error).__name__}: {error}"}
    else:
        report = result.report
        if not np.array_equal(result.image[~odd.mask], odd.photo[~odd.mask]):
            row["outcome"], row["message"] = "crashed", "known pixels changed"
            return row
        row |= {"outcome": report["status"], "verdict": report["verdict"], "faces": len(report["faces"])}
        row |= {"strategy": result.decision.strategy, "rule": result.decision.rule, "message": result.decision.reason}
        row |= {"face_coverage": round(result.decision.face_coverage, 3), "notices": len(report["notices"])}
    row["seconds"] = round(time.perf_counter() - start, 2)
    return row


def portraits(data: Path | None, portrait: Path | None, count: int) -> list[np.ndarray]:
    """Aligned photos of the validation people in turn, or the one portrait (its middle, 256 px)."""
    if portrait is not None:
        with Image.open(portrait) as image:
            return [np.array(image.convert("RGB").resize((256, 256)))]
    people = set(read_split(SPLITS / "celeba_id256_val.txt"))
    entries = [e for e in list_identity_folders(data / "celeba_id256") if e.person in people]
    step = max(1, len(entries) // max(count, 1))
    return [read_rgb(entry.path) for entry in entries[::step]]


def markdown(rows: list[dict[str, object]]) -> str:
    """One line a kind: how many ended how, by which strategies."""
    lines = ["| kind | inputs | outcomes | strategies | verdicts | median seconds |", "|---" * 6 + "|"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        counts = [
            ", ".join(f"{name} {number}" for name, number in Counter(r.get(key) for r in own if r.get(key)).items())
            or "-"
            for key in ("outcome", "strategy", "verdict")
        ]
        seconds = float(np.median([r.get("seconds", 0.0) for r in own]))
        lines.append(f"| {kind.replace('_', ' ')} | {len(own)} | {' | '.join(counts)} | {seconds:.2f} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run all kinds in turn; 0, 1 when something crashed, 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--portrait", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    try:
        if args.data is None and args.portrait is None:
            raise InputError("give --data, the folder with celeba_id256/, or --portrait PHOTO")
        photos = portraits(args.data, args.portrait, args.count)
        restorer = idinpaint.Restorer.from_pretrained(device=args.device)
    except InputError as error:
        print(f"odd_inputs: {error}", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    rows, kinds = [], list(KINDS)
    with (args.output / "odd_inputs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for number in range(args.count):
            rows.append(run_one(restorer, kinds[number % len(kinds)], number, photos[number % len(photos)]))
            writer.writerow(rows[-1])
            file.flush()
    table = markdown(rows)
    (args.output / "odd_inputs.md").write_text(table, encoding="utf-8")
    print(table)
    return int(any(row["outcome"] == "crashed" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
