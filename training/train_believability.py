"""Train and calibrate the believability network on training people, and write it into a model folder.

    python training/train_believability.py --config configs/believability.yaml [--set data=FOLDER] [--set bundle=FOLDER]

Real features under random masks against bad_fills.py and the bundled prior's fills; the logistic model over all signs
and its limits are fitted on validation people. Writes output_dir/believability.safetensors and .json; with `bundle`
set, into that model folder and its weights.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from bad_fills import KINDS as FILLS
from bad_fills import bad_fill, feature_hole

from idinpaint.believability import FILE, HAIR_PX, JUDGED, KINDS, SIGNS, Believer, as_input, hidden_features, window
from idinpaint.compositing import harmonize
from idinpaint.config import load_config
from idinpaint.data import list_identity_folders, list_photos, load_landmarks, load_photos, read_split
from idinpaint.faces.alignment import umeyama
from idinpaint.faces.features import coverage, feature_regions
from idinpaint.models.believability import BelieveNet
from idinpaint.types import FaceAnalysis, InputError
from idinpaint.weights import sha256_of


@dataclass
class BelieveConfig:
    """Settings of configs/believability.yaml. bundle: a model folder that gets the result, "" for none.
    data: the raw data sets, "" for IDINPAINT_DATA."""

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
    prior_share: float = 0.12
    real_accepted: float = 0.97


class Faces:
    """Photos of 256 px with landmarks; draws one face with a hole, real or filled badly."""

    def __init__(self, entries: list, marks: dict[str, np.ndarray], count: int, rng: np.random.Generator) -> None:
        entries = [e for e in entries if e.key in marks]
        kept = [entries[i] for i in rng.permutation(len(entries))[:count]]
        self.photos, self.points = load_photos(kept), [marks[e.key] for e in kept]

    def draw(self, index: int, real: bool, rng: np.random.Generator, prior: Any, prior_share: float) -> tuple:
        """(painted crop, its hole, landmarks, kind of fill)."""
        photo, points = degrade(self.photos[index], rng), self.points[index]
        while not (hole := feature_hole(points, rng)).any():
            pass
        if real:
            if rng.random() < 0.15:  # another person's features, well fitted: believable, though not a likeness
                return self.transplant(photo, points, hole, rng), hole, points, "transplant"
            return photo, hole, points, "real"
        if rng.random() < prior_share:
            return prior(photo, hole), hole, points, "prior"
        kind = FILLS[rng.integers(len(FILLS))]
        return bad_fill(kind, photo, hole, rng), hole, points, kind

    def transplant(
        self, photo: np.ndarray, points: np.ndarray, hole: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The hole filled from another photo whose landmarks were laid over these."""
        other = min(rng.integers(len(self.points), size=12), key=lambda i: misfit(self.points[i], points))
        matrix = umeyama(self.points[other], points)
        laid = cv2.warpAffine(self.photos[other], matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)
        return harmonize(np.where(hole[..., None], laid, photo).astype(np.uint8), photo, hole)


def misfit(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of two faces' landmarks [68, 2] once one is laid over the other."""
    matrix = umeyama(a, b)
    return float(np.linalg.norm(a @ matrix[:, :2].T + matrix[:, 2] - b, axis=1).mean())


def degrade(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What old photos are like: a little blur, grain, grey or JPEG, each at times."""
    out = photo
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.6))
    if rng.random() < 0.2:
        out = np.repeat(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if rng.random() < 0.3:
        out = np.clip(out + rng.normal(0, rng.uniform(2, 12), out.shape[:2])[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        coded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])[1]
        out = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return out


def prior_filler(model: str) -> Any:
    """(photo, hole) -> the bundled prior's fill, and the face networks."""
    from idinpaint.bundle import load_bundle

    bundle = load_bundle(model)

    def fill(photo: np.ndarray, hole: np.ndarray) -> np.ndarray:
        from idinpaint.inpainters.base import FillRequest
        from idinpaint.inpainters.diffusion import PriorInpainter

        known = np.where(hole[..., None], 0, photo).astype(np.uint8)
        face = SimpleNamespace(crop=known, crop_mask=hole, landmarks=np.zeros((68, 2)))
        return harmonize(PriorInpainter(bundle.pipeline).fill(FillRequest(face))[0], known, hole)

    return fill, bundle


def windows_of(faces: Faces, config: BelieveConfig, prior: Any, rng: np.random.Generator) -> tuple:
    """(uint8 [N, 64, 64, 4], kind [N], real [N]) of every photo once real and once not."""
    patches, kinds, real = [], [], []
    for index in range(len(faces.points)):
        for genuine in (True, False):
            crop, hole, points, _ = faces.draw(index, genuine, rng, prior, config.prior_share)
            moved = points + rng.normal(0, 2.0, 2) + rng.normal(0, 1.2, points.shape)
            shares = coverage(feature_regions(points), hole)
            for name in KINDS[:-1]:
                if shares[name] >= JUDGED:
                    patches.append(window(crop, hole, name, moved, None))
                    kinds.append(KINDS.index(name))
                    real.append(genuine)
            top = hole & (np.mgrid[:256, :256][0] < points[17:27, 1].min() - 12)
            if top.sum() >= HAIR_PX:
                patches.append(window(crop, hole, "hair", points, top))
                kinds.append(KINDS.index("hair"))
                real.append(genuine)
    return np.stack(patches), np.asarray(kinds), np.asarray(real, np.float32)


def fit_network(patches: np.ndarray, kinds: np.ndarray, real: np.ndarray, config: BelieveConfig) -> BelieveNet:
    """Trains by Adam on a cosine; windows are mirrored and their brightness moved."""
    net, rng = BelieveNet(len(KINDS)), np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(net.parameters(), config.learning_rate, weight_decay=0.02)
    steps = config.epochs * (len(patches) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, steps)
    swap = np.array([KINDS.index({"left_eye": "right_eye", "right_eye": "left_eye", "left_brow": "right_brow",
                                  "right_brow": "left_brow"}.get(k, k)) for k in KINDS])  # fmt: skip
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


def fit_signs(rows: dict[str, list], real_accepted: float) -> tuple[dict, dict]:
    """(weights, limits) a feature: a logistic model of the signs, and the number below which 1 - real_accepted of the
    real ones lie; too few rows of a feature are filled up with those of all."""
    everything = [row for some in rows.values() for row in some]
    weights, limits = {}, {}
    for name in KINDS:
        some = rows[name] if len(rows[name]) >= 60 else everything
        x = torch.tensor(np.array([s for s, _ in some]), dtype=torch.float64)
        y = torch.tensor([float(r) for _, r in some], dtype=torch.float64)
        mean, scale = x.mean(0), x.std(0).clamp(min=1e-3)
        w = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

        def closure(x=x, y=y, mean=mean, scale=scale, w=w, optimizer=optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            logit = w[0] + ((x - mean) / scale) @ w[1:]
            loss = F.binary_cross_entropy_with_logits(logit, y) + 0.01 * (w[1:] ** 2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        plain = (w[1:] / scale).detach()
        whole = [float(w[0].detach() - (plain * mean).sum()), *map(float, plain)]
        numbers = torch.sigmoid(whole[0] + x @ plain)
        weights[name] = [round(v, 5) for v in whole]
        limits[name] = round(float(torch.quantile(numbers[y > 0], 1 - real_accepted)), 5)
    return weights, limits


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """Probability that a good one is above a bad one."""
    return float((good[:, None] > bad[None]).mean() + 0.5 * (good[:, None] == bad[None]).mean())


def save(net: BelieveNet, model: dict[str, Any], config: BelieveConfig) -> None:
    """fp16 safetensors and its manifest entry, each written beside and renamed."""
    from safetensors.torch import save_file

    folder = Path(config.bundle or config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(state, str(folder / f"{FILE}.tmp"))
    os.replace(folder / f"{FILE}.tmp", folder / FILE)
    path = folder / FILE
    entry = {"sha256": sha256_of(path), "bytes": path.stat().st_size, "config": {**net.config, **model}}
    listed = folder / ("weights.json" if config.bundle else "believability.json")
    manifest = json.loads(listed.read_text()) if config.bundle else {"files": {}}
    manifest["files"] = dict(sorted({**manifest["files"], FILE: entry}.items()))
    temporary = listed.with_suffix(".tmp")
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(temporary, listed)


def main(config: BelieveConfig) -> None:
    """Train on training people, calibrate on validation people, write, print."""
    start, rng = time.monotonic(), np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    data, splits = Path(config.data), Path(config.splits)
    test, val = (read_split(splits / f"celeba_id256_{part}.txt") for part in ("test", "val"))
    marks = load_landmarks(data)
    prior, bundle = prior_filler(config.model)
    entries = list_identity_folders(data / "celeba_id256", test + val)
    entries += list_photos(data / "CelebAMask-HQ" / "CelebA-HQ-img", read_split(splits / "celebamask_test.txt"))
    patches, kinds, real = windows_of(Faces(entries, marks, config.photos, rng), config, prior, rng)
    print(f"{len(patches)} windows, {time.monotonic() - start:.0f} s", flush=True)
    net = fit_network(patches, kinds, real, config)
    print(f"network trained, {time.monotonic() - start:.0f} s", flush=True)
    people = [e for e in list_identity_folders(data / "celeba_id256") if e.person in set(val)]
    held = Faces(people, marks, config.held_photos, rng)
    believer = Believer(net, bundle.landmarker, bundle.parser, {})
    rows: dict[str, list] = {name: [] for name in KINDS}
    fills: dict[str, list[float]] = {}
    for index in range(len(held.points)):
        for genuine in (True, False):
            crop, hole, _, fill = held.draw(index, genuine, rng, prior, config.prior_share)
            face = read_face(crop, hole, bundle)
            if names := hidden_features(face):
                for name, signs in zip(names, believer.signs(crop, face, names), strict=True):
                    rows[name].append((signs, genuine))
                    fills.setdefault(fill, []).append(signs[0])
    weights, limits = fit_signs(rows, config.real_accepted)
    good = np.array(fills["real"])
    for fill, values in sorted(fills.items()):
        print(f"  {fill:10} {len(values):4} windows, network alone against real: AUC {auc(good, np.array(values)):.3f}")
    save(net, {"signs": list(SIGNS), "weights": weights, "limits": limits}, config)
    print(f"limits {limits}; {time.monotonic() - start:.0f} s")


def run() -> None:
    """Reads --config and --set; one clear line and status 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args()
    try:
        config = load_config(BelieveConfig, args.config, args.overrides)
        config.data = config.data or os.environ.get("IDINPAINT_DATA", "")
        if not config.data:
            raise InputError("data: set IDINPAINT_DATA, or --set data=FOLDER, to the folder of the data sets")
        main(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    run()
