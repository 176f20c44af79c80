"""Believability: smears of a wholly hidden feature on test faces, and the true pixels under the same holes.

    python eval/believability.py --data DATA --output runs/believability.jsonl --photos 200 --minutes 8

Resumable: a photo is a line. For each photo one feature (mouth, nose, an eye, both eyes in turn) is hidden whole and
filled by Telea, Gaussian blur, the mean colour and the product's networks; `real` keeps the true pixels. The verdict is
the product's own, without a reference photo. --earlier FOLDER also judges the fills of another model folder's prior,
say of an older commit; --keep FOLDER writes the painted crops, to be looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from cases import holed, split_entries
from command import parser_of, run_main
from PIL import Image
from run_store import more_lines
from tables import markdown_table

from idinpaint.data.grading import PARTS
from idinpaint.data.photos import load_landmarks
from idinpaint.faces.alignment import warp_to_crop
from idinpaint.faces.features import ellipses_over
from idinpaint.faces.references import References
from idinpaint.imaging.telea import coarse_fill
from idinpaint.painting.base import FillRequest
from idinpaint.painting.painter import fitted
from idinpaint.types import Decision

FILLS = ("real", "telea", "blur", "mean", "earlier", "prior", "gan", "diffusion")
BOX = (60.0, 70.0, 136.0, 160.0)  # of the face in the aligned photos


def fills(photo: np.ndarray, face, restorer, earlier=None) -> dict[str, np.ndarray]:
    """Fill -> crop uint8 [256, 256, 3]; photo: the true crop; earlier: another inpainter, or None."""
    hole, known = face.crop_mask, face.crop
    ring = cv2.dilate(hole.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~hole
    made = {
        "real": photo,
        "telea": coarse_fill(known, hole),
        "blur": np.where(hole[..., None], cv2.GaussianBlur(photo, (0, 0), 9), photo),
        "mean": np.where(hole[..., None], photo[ring].mean(0), photo).astype(np.uint8),
    }
    for name, inpainter in {**restorer.inpainters, "earlier": earlier}.items():
        if name in FILLS and inpainter is not None:
            predicted = inpainter.fill(FillRequest(face, face.id_embed, 1, None, 0))[0]
            made[name] = fitted(predicted, face)
    return made


def look(
    entry, points: np.ndarray, kind: str, restorer, earlier=None, keep: Path | None = None, scale: float = 1.0
) -> dict:
    """Numbers and verdicts of one photo; keep: a folder for the painted crops; scale: of the photo, whose face is 110
    px wide at 1."""
    side = round(256 * scale)
    photo = np.asarray(Image.open(entry.path).convert("RGB").resize((256, 256)).resize((side, side), Image.LANCZOS))
    hole = ellipses_over(points, PARTS[kind]).astype(np.uint8)
    hole = cv2.resize(hole, (side, side), interpolation=cv2.INTER_NEAREST) > 0
    box = tuple(scale * v for v in BOX)
    found = restorer.analyzer.analyze(holed(photo, hole), hole, box)
    face = max(found, key=lambda f: f.face_coverage)
    true = warp_to_crop(photo, None, face.crop_to_photo)[0]
    true = np.where(face.crop_mask[..., None], true, face.crop).astype(np.uint8)
    row = {"photo": entry.key, "hidden": kind, "coverage": face.face_coverage, "fills": {}}
    for name, crop in fills(true, face, restorer, earlier).items():
        if keep is not None:
            Image.fromarray(crop).save(keep / f"{entry.key.replace('/', '-')}-{name}.png")
        looked = restorer.believer(crop, face)
        strategy = {"earlier": "prior"}.get(name, name if name in restorer.inpainters else "telea")
        decision = Decision(strategy, "test", "test", face.face_coverage, float(hole.mean()))
        verdict = restorer.verifier.check(crop, face, References(), decision, looked=looked).verdict
        row["fills"][name] = {"worst": looked.worst, "failed": looked.failed, "verdict": verdict}
    return row


def auc(good: list[float], bad: list[float]) -> float:
    """Probability that a good one is above a bad one."""
    g, b = np.array(good)[:, None], np.array(bad)[None]
    return float((g > b).mean() + 0.5 * (g == b).mean())


def summary(rows: list[dict]) -> str:
    """Believable and delivered-as-good shares of each fill, and its AUC against the true pixels."""
    lines, real = [], [r["fills"]["real"]["worst"] for r in rows]
    for name in FILLS:
        some = [r["fills"][name] for r in rows if name in r["fills"]]
        if some:
            fine = sum(not s["failed"] for s in some)
            good = sum(s["verdict"] in ("verified", "plausible") for s in some)
            area = auc(real, [s["worst"] for s in some])
            lines.append([name, f"{fine} of {len(some)}", good, f"{area:.3f}"])
    text = [f"{len(rows)} photos", *markdown_table(["fill", "believable", "verified or plausible", "AUC"], lines)]
    for kind in PARTS:
        part = [r["fills"] for r in rows if r["hidden"] == kind]
        if part:
            names = [name for name in FILLS if name in part[0]]
            shares = {name: f"{sum(not fills[name]['failed'] for fills in part)}/{len(part)}" for name in names}
            text.append(f"{kind}: believable {shares}")
    return "\n".join(text)


def run(args: argparse.Namespace) -> None:
    """The photos that are missing, then the tables."""
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    marks = load_landmarks(args.data)
    entries = split_entries(args.data, marks)

    def begin():
        from idinpaint import Restorer
        from idinpaint.loading.bundle import load_bundle
        from idinpaint.painting.prior import PriorInpainter

        order, kinds = np.random.default_rng(0).permutation(len(entries)), list(PARTS)
        restorer = Restorer.from_pretrained(device="cpu")
        earlier = PriorInpainter(load_bundle(str(args.earlier)).pipeline) if args.earlier else None

        def make(index: int) -> dict:
            entry, kind = entries[order[index]], kinds[index % len(kinds)]
            return look(entry, marks[entry.key], kind, restorer, earlier, args.keep, args.scale)

        return make

    print(summary(more_lines(args.output, min(args.photos, len(entries)), args.minutes, begin)))


def main(argv: list[str] | None = None) -> int:
    """Goes on where the last call stopped, for some minutes."""
    parser = parser_of(__doc__, "--data", "--output", "--minutes")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--earlier", type=Path, help="model folder of another prior")
    parser.add_argument("--keep", type=Path, help="folder for the painted crops")
    parser.add_argument("--scale", type=float, default=1.0, help="of the photos: what is told of small faces")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
