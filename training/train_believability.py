"""Train and calibrate the believability network on training people, and write it into a model folder.

    python training/train_believability.py --config configs/believability.yaml [--set data=FOLDER] [--set bundle=FOLDER]

Real features under random masks against bad_fills.py; the bundled painters' fills (painted_fills.py) count as real
where they hit the true feature best, as bad where they hit it worst, and not at all between. The logistic model over
all signs and its limits are fitted on validation people. Writes output_dir/believability.safetensors and .json; with
`bundle` set, into that model folder and its weights.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bad_fills import KINDS as FILLS
from bad_fills import Faces, bad_fill
from checkpoints import save_weights, written
from hidden_masks import torn_holes
from launching import run_guarded
from painted_fills import PAINTERS, Painters, hit
from sign_fit import auc, fit_signs

from idinpaint.config import load_config
from idinpaint.data.photos import list_identity_folders, list_photos, load_landmarks, read_split
from idinpaint.faces.features import coverage, feature_regions
from idinpaint.judging.believability import (
    FILE,
    HAIR_PX,
    JUDGED,
    KINDS,
    MIRRORED,
    SIGNS,
    Believer,
    as_input,
    hidden_features,
    probability,
    window,
)
from idinpaint.models.believability import BelieveNet
from idinpaint.models.weights import sha256_of
from idinpaint.types import FaceAnalysis, InputError


@dataclass
class BelieveConfig:
    """Settings of configs/believability.yaml. bundle: a model folder that gets the result, "" for none.
    data: the raw data sets, "" for IDINPAINT_DATA. leave_out: a kind of fill that is not trained on, to measure how
    the network takes what it never saw the like of. painted: photos that the bundled painters fill too; hits: shares of
    their fills that count as bad and as good; repeats: how often each counts; real_accepted: share of true features
    above their limit; hair_accepted: of true hair under torn corners (`corners` photos): hair is easily smeared, and a
    smear there is easily taken for hair."""

    data: str = ""
    splits: str = "configs/splits"
    output_dir: str = "runs/believability"
    bundle: str = ""
    model: str = "default"
    seed: int = 0
    photos: int = 2600
    held_photos: int = 260
    epochs: int = 7
    batch: int = 64
    learning_rate: float = 0.003
    painted: int = 420
    held_painted: int = 130
    hits: tuple[float, float] = (0.45, 0.3)
    repeats: int = 3
    leave_out: str = ""
    real_accepted: float = 0.985
    hair_accepted: float = 0.95
    corners: int = 120


def windows_in(crop: np.ndarray, hole: np.ndarray, points: np.ndarray, moved: np.ndarray) -> list[tuple]:
    """(kind, uint8 [64, 64, 4]) of each hidden feature and of hidden hair; moved: landmarks as they are read."""
    shares = coverage(feature_regions(points), hole)
    found = [(n, window(crop, hole, n, moved, None)) for n in KINDS[:-1] if shares[n] >= JUDGED]
    top = hole & (np.mgrid[:256, :256][0] < points[17:27, 1].min() - 12)
    return [*found, ("hair", window(crop, hole, "hair", points, top))] if top.sum() >= HAIR_PX else found


def painted_windows(faces: Faces, config: BelieveConfig, painters: Any, rng: np.random.Generator) -> list[tuple]:
    """(kind, window, hit) of the bundled painters' fills of the first photos."""
    rows = []
    for index in range(min(config.painted, len(faces.points))):
        photo, hole, points = faces.hidden(index, rng)
        moved = points + rng.normal(0, 1.5, 2)
        true = windows_in(photo, hole, points, moved)
        for name in PAINTERS:
            if name != config.leave_out:
                made = windows_in(painters(name, photo, hole, moved, index), hole, points, moved)
                rows += [(kind, p, hit(p, t, kind != "hair")) for (kind, p), (_, t) in zip(made, true, strict=True)]
    return rows


def hit_limits(rows: list[tuple], hits: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Kind -> (bad up to this hit, good from this on)."""
    values = {kind: [row[2] for row in rows if row[0] == kind] or [0.0] for kind in KINDS}
    return {kind: (float(np.quantile(v, hits[0])), float(np.quantile(v, 1 - hits[1]))) for kind, v in values.items()}


def graded(rows: list[tuple], limits: dict[str, tuple[float, float]]) -> list[tuple]:
    """(kind, what, good) of the rows (kind, what, hit) that are clearly one or the other."""
    return [(k, w, h >= limits[k][1]) for k, w, h in rows if h >= limits[k][1] or h <= limits[k][0]]


def windows_of(faces: Faces, config: BelieveConfig, rng: np.random.Generator) -> list[tuple]:
    """(kind, window, real) of every photo once real and once not."""
    rows = []
    for index in range(len(faces.points)):
        for genuine in (True, False):
            crop, hole, points, _ = faces.draw(index, genuine, rng, config.leave_out)
            moved = points + rng.normal(0, 2.0, 2) + rng.normal(0, 1.2, points.shape)
            rows += [(kind, patch, genuine) for kind, patch in windows_in(crop, hole, points, moved)]
    return rows


def fit_network(rows: list[tuple], config: BelieveConfig) -> BelieveNet:
    """Trains by Adam on a cosine; windows are mirrored and their brightness moved. rows: (kind, window, real)."""
    patches, kinds = np.stack([row[1] for row in rows]), np.array([KINDS.index(row[0]) for row in rows])
    real = np.array([row[2] for row in rows], np.float32)
    net, rng = BelieveNet(len(KINDS)), np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=0.02)
    steps = config.epochs * (len(patches) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, steps)
    swap = np.array([KINDS.index(MIRRORED.get(k, k)) for k in KINDS])
    for _ in range(config.epochs):
        order = rng.permutation(len(patches))
        for start in range(0, len(order) - config.batch + 1, config.batch):
            rows = order[start : start + config.batch]
            x, kind = as_input(patches[rows]), kinds[rows]
            if rng.random() < 0.5:
                x, kind = x.flip(-1), swap[kind]
            x[:, :3] = x[:, :3] * rng.uniform(0.7, 1.3) + rng.uniform(-0.2, 0.2)
            target = torch.from_numpy(real[rows]) * 0.96 + 0.02
            loss = F.binary_cross_entropy_with_logits(net(x, torch.from_numpy(kind)), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def read_face(crop: np.ndarray, hole: np.ndarray, bundle: Any) -> FaceAnalysis:
    """The face as the product reads it: landmarks and parts from the known pixels."""
    known = np.where(hole[..., None], 0, crop).astype(np.uint8)
    points, confidence = bundle.landmarker.predict(known, hole)
    regions = feature_regions(np.asarray(points), bundle.parser.predict(known, hole), ~hole)
    return FaceAnalysis((0, 0, 1, 1), np.eye(2, 3), known, hole, np.asarray(points), np.asarray(confidence), regions,
                        coverage(regions, hole), 0.0, None)  # fmt: skip


def hair_limit(faces: Faces, believer: Believer, bundle: Any, config: BelieveConfig) -> float:
    """The number of true hair under torn corners, 1 - hair_accepted of which lies below."""
    numbers = []
    for photo, hole in zip(faces.photos, torn_holes(config.corners, torch.device("cpu")), strict=False):
        face = read_face(photo, hole[0].numpy() > 0, bundle)
        if "hair" in hidden_features(face):
            numbers.append(probability(believer.model["weights"]["hair"], believer.signs(photo, face, ["hair"])[0][0]))
    return round(float(np.quantile(numbers, 1 - config.hair_accepted)), 5)


def save(net: BelieveNet, model: dict[str, Any], config: BelieveConfig) -> None:
    """fp16 safetensors and its manifest entry, each written beside and renamed."""
    folder = Path(config.bundle or config.output_dir)
    path = folder / FILE
    save_weights(net, path, torch.float16)
    entry = {"sha256": sha256_of(path), "bytes": path.stat().st_size, "config": {**net.config, **model}}
    listed = folder / ("weights.json" if config.bundle else "believability.json")
    manifest = json.loads(listed.read_text()) if config.bundle else {"files": {}}
    manifest["files"] = dict(sorted({**manifest["files"], FILE: entry}.items()))
    with written(listed) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")


def main(config: BelieveConfig) -> None:
    """Train on training people, calibrate on validation people, write, print."""
    start, rng = time.monotonic(), np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    data, splits = Path(config.data), Path(config.splits)
    test, val = (read_split(splits / f"celeba_id256_{part}.txt") for part in ("test", "val"))
    marks = load_landmarks(data)
    painters = Painters(config.model)
    entries = list_identity_folders(data / "celeba_id256", test + val)
    entries += list_photos(data / "CelebAMask-HQ" / "CelebA-HQ-img", read_split(splits / "celebamask_test.txt"))
    faces = Faces(entries, marks, config.photos, rng)
    painted = painted_windows(faces, config, painters, rng)
    limits = hit_limits(painted, config.hits)
    rows = windows_of(faces, config, rng) + config.repeats * graded(painted, limits)
    print(f"{len(rows)} windows, {len(painted)} painted, {time.monotonic() - start:.0f} s", flush=True)
    net = fit_network(rows, config)
    print(f"network trained, {time.monotonic() - start:.0f} s", flush=True)
    people = [e for e in list_identity_folders(data / "celeba_id256") if e.person in set(val)]
    signs = signs_of(Faces(people, marks, config.held_photos, rng), net, limits, config, painters, rng)
    weights, limits = fit_signs(signs, config.real_accepted)
    believer = Believer(net, painters.bundle.landmarker, painters.bundle.parser, {"weights": weights})
    limits["hair"] = 2 * [hair_limit(Faces(people, marks, config.corners, rng), believer, painters.bundle, config)]
    save(net, {"signs": list(SIGNS), "weights": weights, "limits": limits}, config)
    print(f"limits {limits}; {time.monotonic() - start:.0f} s")


def signs_of(
    faces: Faces, net: BelieveNet, limits: dict, config: BelieveConfig, painters: Any, rng: np.random.Generator
) -> dict[str, list]:
    """Kind -> (signs, real) as the product reads them: true pixels, bad fills, and painted ones that are clear."""
    believer = Believer(net, painters.bundle.landmarker, painters.bundle.parser, {})
    rows: dict[str, list] = {name: [] for name in KINDS}
    alone: dict[str, list[float]] = {}
    for index in range(len(faces.points)):
        photo, hole, points = faces.hidden(index, rng)
        face = read_face(photo, hole, painters.bundle)
        names = hidden_features(face)
        if not names:
            continue
        bad = FILLS[rng.integers(len(FILLS))]
        made = {"real": photo, bad: bad_fill(bad, photo, hole, rng)}
        if index < config.held_painted:
            made |= {name: painters(name, photo, hole, face.landmarks, index) for name in PAINTERS}
        hair = face.regions.get("hair")
        for fill, crop in made.items():
            for name, signs in zip(names, believer.signs(crop, face, names)[0], strict=True):
                p, t = (window(c, hole, name, face.landmarks, hair) for c in (crop, photo))
                told = [(name, signs, fill == "real")]
                if fill in PAINTERS:
                    told = graded([(name, signs, hit(p, t, name != "hair"))], limits)
                for _, _, good in told:
                    rows[name].append((signs, good, face.coverage.get(name, 0.0)))
                    fill_as = f"{fill} {'good' if good else 'bad'}" if fill in PAINTERS else fill
                    alone.setdefault(fill_as, []).append(signs[0])
    true = np.array(alone["real"])
    for fill, values in sorted(alone.items()):
        area = auc(true, np.array(values))
        print(f"  {fill:14} {len(values):4} windows, network alone against real: AUC {area:.3f}")
    return rows


def run() -> None:
    """Reads --config and --set. Raises InputError for bad ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args()
    config = load_config(BelieveConfig, args.config, args.overrides)
    config.data = config.data or os.environ.get("IDINPAINT_DATA", "")
    if not config.data:
        raise InputError("data: set IDINPAINT_DATA, or --set data=FOLDER, to the folder of the data sets")
    main(config)


if __name__ == "__main__":
    run_guarded(run)
