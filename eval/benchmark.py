"""Score inpainting methods on people and masks that no training saw. PROTOCOL.md says how and why.

    python eval/benchmark.py --config configs/benchmark.yaml --data ../shared/data --output runs/bench [--set key=value]

Writes OUTPUT/rows.csv (one line an image, written as it comes: the same command resumes), summary.csv, table.md.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from cases import MAX_REFERENCES, BenchmarkConfig, Item, plan_items, read_rgb
from metrics import MetricSuite, identity_similarity, load_metrics
from summary import read_rows, write_summary

import idinpaint
from idinpaint.config import load_config
from idinpaint.types import InputError

KEYS = ("method", "bin", "index", "person", "photo", "mask")
SCORES = ("psnr", "psnr_hole", "ssim", "ssim_hole", "lpips_alex", "lpips_alex_hole", "lpips_vgg")
IDENTITY = ("identity_original", "identity_other", "identity_other_ceiling", "detected")
COLUMNS = (*KEYS, "hole_ratio", *SCORES, *IDENTITY, "decision", "seconds")
TELEA_RADIUS = 3  # px

Method = Callable[["Item"], tuple[np.ndarray, str]]  # filled uint8 [256, 256, 3] and the decision's strategy


def telea(item: Item) -> tuple[np.ndarray, str]:
    """cv2 Telea on the whole aligned photo: the anchor, independent of the package's own coarse fill."""
    holed = np.where(item.mask[..., None], 0, item.photo).astype(np.uint8)
    return cv2.inpaint(holed, item.mask.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA), "telea"


def given_face_box() -> tuple[float, float, float, float]:
    """The (x, y, w, h) whose first-guess crop is the aligned photo itself: one constant for all photos."""
    from idinpaint.faces.alignment import crop_from_box

    side = 100.0 / float(np.asarray(crop_from_box((0.0, 0.0, 100.0, 100.0), 0.0))[0, 0])  # crop as large as the photo
    offset = np.asarray(crop_from_box((0.0, 0.0, side, side), 0.0), np.float64)[:, 2]
    return (float(-offset[0]), float(-offset[1]), side, side)


def restorer_method(name: str, config: BenchmarkConfig, restorer) -> Method:
    """A strategy of the Restorer, forced; `diffusion+ref2` gives it two other photos of the person; `gan:NAME` is the
    strategy gan with that generator (a name, or a training run's generator/ folder)."""
    strategy, _, extra = name.partition("+ref")
    strategy = strategy.partition(":")[0]
    if "+ref" in name and not (extra.isdigit() and 1 <= int(extra) <= MAX_REFERENCES):
        raise InputError(f"methods: `{name}`: write +ref1 to +ref{MAX_REFERENCES}")
    box = given_face_box() if config.alignment == "given" else None

    def run(item: Item) -> tuple[np.ndarray, str]:
        result = restorer(
            np.where(item.mask[..., None], 0, item.photo).astype(np.uint8),
            item.mask,
            references=item.references[: int(extra or 0)],
            strategy=strategy,
            num_samples=config.num_samples,
            steps=config.steps,
            seed=item.seed,
            force=strategy != "auto",
            face_box=box,
        )
        return result.image, result.decision.strategy

    return run


def generator_of(method: str) -> str | None:
    """`gan:NAME`, `gan:NAME+ref2` -> NAME; None for the model's own."""
    return method.partition("+ref")[0].partition(":")[2] or None


def fingerprint(method: str, config: BenchmarkConfig) -> dict[str, object]:
    """What a method's rows depend on; rows of another fingerprint are not mixed in."""
    base: dict[str, object] = {"seed": config.seed, "other_photos": config.other_photos}
    if method == "telea":
        return base
    bundled = Path(idinpaint.__file__).parent / "weights_bundled"
    folder = bundled if config.model == "default" else Path(config.model)
    digest = hashlib.sha256()
    generator = Path(generator_of(method) or folder)
    extra = [] if generator.is_relative_to(folder) else sorted(generator.glob("*.safetensors"))
    for path in [*sorted(folder.rglob("*.safetensors")), *extra]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return base | {
        "num_samples": config.num_samples,
        "steps": config.steps,
        "alignment": config.alignment,
        "model": config.model,
        "weights_sha256": digest.hexdigest(),
    }


def check_setup(output: Path, config: BenchmarkConfig) -> None:
    """Record each method's fingerprint in OUTPUT/setup.json. Raises InputError when it differs from the one there."""
    path = output / "setup.json"
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for method in config.methods:
        now = fingerprint(method, config)
        for key, value in there.get(method, now).items():
            if now.get(key) != value:
                raise InputError(
                    f"{output}: its {method} rows were made with {key}={value}, now {now.get(key)}; "
                    "choose another --output or delete the folder"
                )
        there[method] = now
    path.write_text(json.dumps(there, indent=1) + "\n", encoding="utf-8")


class RowFile:
    """rows.csv: what is done, and appending what comes."""

    def __init__(self, path: Path) -> None:
        """Rewrites the file without a torn last line, then keeps it open for appending."""
        rows = read_rows(path)
        if rows and tuple(rows[0]) != COLUMNS:
            raise InputError(f"{path}: other columns than this version writes; choose another --output")
        self.done = {(row["method"], row["bin"], int(row["index"])) for row in rows}
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(path)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")

    def add(self, row: dict[str, object]) -> None:
        """Append one row and flush it."""
        self._writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Scorer:
    """Turns a filled photo into a row; embeddings of untouched photos are computed once."""

    def __init__(self, suite: MetricSuite) -> None:
        self._suite = suite
        self._embed_path = functools.cache(lambda path: suite.identity.embed(read_rgb(path)))

    def _mean_similarity(self, vector: np.ndarray | None, paths: tuple[Path, ...]) -> float:
        found = [e for e in map(self._embed_path, paths) if e is not None]
        return float(np.mean([identity_similarity(vector, e) for e in found])) if found else float("nan")

    def row(self, item: Item, method: str, image: np.ndarray, decision: str, seconds: float) -> dict[str, object]:
        """All COLUMNS of one picture. Identity is NaN (left out of means) only when the ORIGINAL has no face found."""
        original = self._embed_path(item.entry.path)
        vector = self._suite.identity.embed(image)
        nan = float("nan")
        return {
            "method": method,
            "bin": item.bin,
            "index": item.index,
            "person": item.entry.person,
            "photo": item.entry.path.name,
            "mask": item.mask_name,
            "hole_ratio": float(item.mask.mean()),
            **self._suite.score(image, item.photo, item.mask),
            "identity_original": nan if original is None else identity_similarity(vector, original),
            "identity_other": self._mean_similarity(vector, item.others),
            "identity_other_ceiling": self._mean_similarity(original, item.others),
            "detected": int(vector is not None),
            "decision": decision,
            "seconds": float(seconds),
        }


def run_benchmark(config: BenchmarkConfig, data: Path, output: Path, metric_weights: Path | None) -> Path:
    """Compute the rows that are missing, then the summary. Returns the Markdown table's path."""
    if config.alignment not in ("given", "detect"):
        raise InputError(f"alignment={config.alignment}: choose given or detect")
    loaders = plan_items(config, data)
    scorer = Scorer(load_metrics(data, metric_weights))
    output.mkdir(parents=True, exist_ok=True)
    check_setup(output, config)
    rows = RowFile(output / "rows.csv")

    @functools.cache
    def load_restorer(gan: str | None) -> idinpaint.Restorer:
        return idinpaint.Restorer.from_pretrained(config.model, device=config.device, gan=gan)

    try:
        for name in config.methods:
            method = telea if name == "telea" else restorer_method(name, config, load_restorer(generator_of(name)))
            for number, load in enumerate(loaders):
                if (name, load.args[0], load.args[1]) in rows.done:
                    continue
                item = load()
                start = time.perf_counter()
                image, decision = method(item)
                rows.add(scorer.row(item, name, image, decision, time.perf_counter() - start))
                if number % 10 == 9:
                    print(f"{name}: {number + 1}/{len(loaders)}", flush=True)
    finally:
        rows.close()
    return write_summary(output, config)


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print the table. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="YAML of the keys of BenchmarkConfig")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with celeba_id256/ and nvidia_irregular_masks/"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--metric-weights", type=Path, help="default: metric_weights/ beside the data, else the cache")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    args = parser.parse_args(argv)
    try:
        config = load_config(BenchmarkConfig, args.config, args.overrides)
        table = run_benchmark(config, args.data, args.output, args.metric_weights)
    except InputError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    print(table.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
