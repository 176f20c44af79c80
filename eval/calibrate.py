"""How far identity survives damage, by strategy; thresholds and probabilities that the product then quotes.

    python eval/calibrate.py --data ../shared/data --output runs/calibration [--set key=value] [--install]

Writes OUTPUT/rows.csv (a line an image; the same command resumes), calibration.json, calibration.md and plots.
--install copies calibration.json into the package. PROTOCOL.md says how the numbers are made. Half a second to
three seconds of CPU an image and method.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from calibration_fit import acceptance_curve, bin_rows, propose, reliability, threshold_at, wrong_reference
from calibration_plots import write_plots
from cases import SPLITS, read_mask, read_rgb
from metrics import SFACE_FILE, find_weight, weight_folders
from run_store import read_rows

import idinpaint
from idinpaint.calibration import SHIPPED, VERSION
from idinpaint.config import load_config
from idinpaint.data import PhotoEntry, list_identity_folders, read_split
from idinpaint.faces.alignment import crop_from_box, transform_points
from idinpaint.faces.identity import SFaceEncoder, arcface_crop
from idinpaint.types import InputError
from idinpaint.weights import sha256_of

COLUMNS = ("split", "method", "person", "photo", "mask", "coverage", "interval", "independent", "bundled", "visible")
COLUMNS += ("original", "seconds")
OTHERS = 3  # real photos of the person that a restoration is compared with; none of them is a reference
SETTLED_AT = 0.8  # acceptance below which a strategy should no longer be used


@dataclass(frozen=True)
class CalibrationConfig:
    """split: val or test. images: how many photos; each gets one mask, of hole bins in turn. methods: strategies,
    `+refN` with N references, `+wrongN` with N photos of another person. far: false-accept rate of the threshold."""

    split: str = "val"
    images: int = 60
    methods: tuple[str, ...] = ("telea", "diffusion", "diffusion+ref2", "diffusion+wrong2")
    bins: tuple[str, ...] = ("00-10", "10-20", "20-30", "30-40", "40-50")
    far: float = 0.01
    num_samples: int = 2
    seed: int = 0
    model: str = "default"
    device: str = "auto"
    bootstrap: int = 500


@dataclass(frozen=True)
class Case:
    """One photo with its mask, the person's other photos, and photos of somebody else."""

    entry: PhotoEntry
    mask_name: str
    others: tuple[Path, ...]
    references: tuple[Path, ...]
    strangers: tuple[Path, ...]


def plan_cases(config: CalibrationConfig, data: Path) -> list[Case]:
    """Photos of the split's people in turn, masks of the held-out list, bin after bin; the same for every run."""
    held = read_split(SPLITS / f"celeba_id256_{config.split}.txt")
    people: dict[str, list[PhotoEntry]] = {name: [] for name in held}
    for entry in list_identity_folders(data / "celeba_id256"):
        if entry.person in people:
            people[entry.person].append(entry)
    rng = np.random.default_rng(config.seed)
    people = {k: [v[i] for i in rng.permutation(len(v))] for k, v in sorted(people.items()) if len(v) > OTHERS + 1}
    if not people:
        raise InputError(f"{data}/celeba_id256: none of the people of the {config.split} split is there")
    masks = read_split(SPLITS / "nvidia_masks_test.txt")
    by_bin = {b: [m for m in masks if m.startswith(b + "/")] for b in config.bins}
    if not all(by_bin.values()):
        raise InputError(f"bins: no held-out masks for {[b for b, m in by_bin.items() if not m]}")
    names, cases = list(people), []
    for index in range(config.images):
        name, stranger = names[index % len(names)], names[(index + 1 + index // len(names)) % len(names)]
        if stranger == name:
            stranger = names[(index + 1) % len(names)]
        photos = people[name]
        turn = (index // len(names)) % len(photos)
        rest = [photos[(turn + k) % len(photos)].path for k in range(1, len(photos))]
        own = by_bin[config.bins[index % len(config.bins)]]
        mask = own[int(rng.integers(len(own)))]
        strangers = tuple(p.path for p in people[stranger][:5])
        cases.append(Case(photos[turn], mask, tuple(rest[:OTHERS]), tuple(rest[OTHERS : OTHERS + 5]), strangers))
    return cases


class Judge:
    """SFace on faces aligned as the product aligns them: the encoder that decides acceptance here."""

    def __init__(self, restorer, path: Path) -> None:
        self.restorer, self.sha256 = restorer, sha256_of(path)
        self.encoder = SFaceEncoder(path, self.sha256)
        side = 100.0 / float(np.asarray(crop_from_box((0.0, 0.0, 100.0, 100.0)))[0, 0])
        offset = np.asarray(crop_from_box((0.0, 0.0, side, side)), np.float64)[:, 2]
        self.box = (float(-offset[0]), float(-offset[1]), side, side)
        self.photo = functools.cache(self._photo)

    def _photo(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """(SFace vector, bundled vector) of an untouched photo."""
        rgb = read_rgb(path)
        (face,) = self.restorer.analyzer.analyze(rgb, None, self.box)
        aligned = self.aligned(rgb, face.landmarks, face.crop_to_photo)
        return self.encoder.embed([aligned])[0], face.id_embed

    def aligned(self, rgb: np.ndarray, landmarks: np.ndarray, crop_to_photo: np.ndarray) -> np.ndarray:
        """[112, 112, 3] of the face whose crop landmarks are given."""
        return arcface_crop(rgb, None, transform_points(crop_to_photo, landmarks))


def unit_mean(vectors: list[np.ndarray]) -> np.ndarray:
    """Normalised mean of unit vectors."""
    mean = np.mean(vectors, axis=0)
    return mean / np.linalg.norm(mean)


def score(case: Case, method: str, config: CalibrationConfig, restorer, judge: Judge, data: Path) -> dict[str, object]:
    """One restoration's row: similarities to the person's other photos by both encoders, and of the evidence."""
    photo = read_rgb(case.entry.path)
    mask = read_mask(data / "nvidia_irregular_masks" / case.mask_name)
    strategy, _, extra = method.partition("+")
    pool = case.strangers if extra.startswith("wrong") else case.references
    references = pool[: int(extra.removeprefix("ref").removeprefix("wrong"))] if extra else ()
    start = time.perf_counter()
    result = restorer(
        np.where(mask[..., None], 0, photo).astype(np.uint8), mask, references=references, strategy=strategy,
        num_samples=config.num_samples, seed=config.seed, force=True, face_box=judge.box,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    (face,) = result.faces
    aligned = judge.aligned(result.image, face.landmarks, face.crop_to_photo)
    # With a stranger's photos the question is whether the result passes for the stranger.
    truth = [judge.photo(path) for path in (references if extra.startswith("wrong") else case.others)]
    sface, bundled = (unit_mean([vectors[k] for vectors in truth]) for k in (0, 1))
    given = [judge.photo(path)[1] for path in (references or case.references[:2])]
    low, high = face.coverage_interval
    return {
        "split": config.split, "method": method, "person": case.entry.person, "photo": case.entry.path.name,
        "mask": case.mask_name, "coverage": face.face_coverage, "interval": high - low,
        "independent": float(judge.encoder.embed([aligned])[0] @ sface),
        "bundled": float(restorer.identity.embed([aligned])[0] @ bundled),
        "visible": float("nan") if face.id_embed is None else float(face.id_embed @ unit_mean(given)),
        "original": float(judge.photo(case.entry.path)[0] @ sface), "seconds": seconds,
    }  # fmt: skip


def run_rows(
    config: CalibrationConfig, cases: list[Case], restorer, judge: Judge, data: Path, path: Path
) -> list[dict]:
    """All rows, those that are there already taken from the file."""
    rows = read_rows(path)
    done = {(r["split"], r["method"], r["person"], r["photo"], r["mask"]) for r in rows}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        for number, case in enumerate(cases, 1):
            for method in config.methods:
                if (config.split, method, case.entry.person, case.entry.path.name, case.mask_name) in done:
                    continue
                row = score(case, method, config, restorer, judge, data)
                writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()})
                file.flush()
            print(f"{number}/{len(cases)}", flush=True)
    wanted = {(config.split, m, c.entry.person, c.entry.path.name, c.mask_name) for c in cases for m in config.methods}
    return [r for r in read_rows(path) if (r["split"], r["method"], r["person"], r["photo"], r["mask"]) in wanted]


def encoder_thresholds(cases: list[Case], judge: Judge, restorer, far: float) -> dict[str, dict[str, object]]:
    """Of both encoders: the threshold at the false-accept rate, one photo against the mean of others, untouched."""
    owners = sorted({(c.entry.person, c.entry.path, c.others) for c in cases}, key=str)
    digests = {"sface": judge.sha256, restorer.identity.name: restorer.identity.sha256}
    found = {}
    for index, (name, digest) in enumerate(digests.items()):
        probes = np.stack([judge.photo(path)[index] for _, path, _ in owners])
        means = np.stack([unit_mean([judge.photo(p)[index] for p in others]) for _, _, others in owners])
        cosine, people = probes @ means.T, np.array([o[0] for o in owners])
        genuine = np.diagonal(cosine)
        found[name] = {"sha256": digest, **threshold_at(genuine, cosine[people[:, None] != people], far)}
    return found


def calibrate(config: CalibrationConfig, data: Path, output: Path, weights: Path | None) -> dict[str, object]:
    """Runs what is missing, fits, writes OUTPUT; returns the calibration."""
    output.mkdir(parents=True, exist_ok=True)
    sface = find_weight(SFACE_FILE, weight_folders(data, weights))
    if sface is None:
        raise InputError(f"{SFACE_FILE} is not in {weight_folders(data, weights)}; pass --metric-weights DIR")
    restorer = idinpaint.Restorer.from_pretrained(config.model, device=config.device)
    judge, cases = Judge(restorer, sface), plan_cases(config, data)
    rows = run_rows(config, cases, restorer, judge, data, output / "rows.csv")
    encoders = encoder_thresholds(cases, judge, restorer, config.far)
    accepted = float(encoders["sface"]["threshold"])
    curves: dict[str, dict[str, object]] = {}
    for method in config.methods:
        own = [r for r in rows if r["method"] == method]
        strategy, _, extra = method.partition("+")
        if not extra.startswith("wrong"):
            side = "with_references" if extra else "without_references"
            curves.setdefault(strategy, {})[side] = acceptance_curve(own, accepted, config.bootstrap)
    values: dict[str, object] = {
        "version": VERSION,
        "made": made(config, rows),
        "encoders": encoders,
        "weights": dict(restorer.bundle.weights),
        "acceptance": curves,
        "curve": bin_rows(rows, accepted, config.bootstrap),
        "reliability": reliability(rows, curves, accepted),
        "wrong_reference": wrong_reference(rows, restorer.identity.name),
        "coverage_interval_mean": float(np.mean([float(r["interval"]) for r in rows])),
        "proposed_controller": propose(curves, SETTLED_AT),
    }
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    (output / "calibration.json").write_text(text, encoding="utf-8")
    write_plots(values, rows, output)
    return values


def made(config: CalibrationConfig, rows: list[dict]) -> dict[str, object]:
    """Where the numbers come from."""
    root = Path(__file__).resolve().parents[1]
    git = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    people = len({r["person"] for r in rows})
    return {
        "date": time.strftime("%Y-%m-%d"), "commit": git.stdout.strip() or "unknown",
        "data": f"celeba_id256, {config.split} split, {people} people; held-out NVIDIA irregular masks",
        "restorations": len(rows), "config": asdict(config),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Parse, run, say what follows. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="YAML of the keys of CalibrationConfig")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--metric-weights", type=Path, help="folder with SFace; default: metric_weights/ beside the data"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--install", action="store_true", help="copy calibration.json into the package")
    args = parser.parse_args(argv)
    try:
        config = load_config(CalibrationConfig, args.config, args.overrides)
        values = calibrate(config, args.data, args.output, args.metric_weights)
    except InputError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    if args.install:
        SHIPPED.write_bytes((args.output / "calibration.json").read_bytes())
    print(
        json.dumps(
            {k: values[k] for k in ("encoders", "reliability", "wrong_reference", "proposed_controller")}, indent=1
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
