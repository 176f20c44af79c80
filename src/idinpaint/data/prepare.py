"""`idinpaint prepare SOURCE OUT`: any portrait data set -> Parquet shards of aligned faces, ready for training.

Each shard is made by one worker from a list that is fixed at the start, and appears whole: a run that is killed
goes on with the shards that are missing, and they come out the same. Memory holds the networks, one full-size photo
and one batch of crops a worker, whatever the number of photos; only CelebA's list of people is read whole.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from idinpaint.data.prepare_faces import FaceReader
from idinpaint.data.prepare_shards import DATA_FOLDER, PLAN_FOLDER, finished, write_plan, write_shard
from idinpaint.data.prepare_sources import SPLITS, PhotoSource
from idinpaint.data.prepared import FINISHED, MARKER
from idinpaint.imaging.encoders import check_writable, write_atomic
from idinpaint.imaging.folder_lock import locked
from idinpaint.models.weights import WeightStore
from idinpaint.types import InputError

DROPPED = "dropped.csv"
NETWORKS = ("landmarks.safetensors", "parsing.safetensors", "identity.safetensors")


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    source: str
    out: str
    image_format: str
    device: str
    threads: int


def run_prepare(args: argparse.Namespace) -> int:
    """The command: 0 when at least one photo was kept, InputError for everything that cannot be begun."""
    started = time.monotonic()
    _check_packages()
    source, out = PhotoSource(args.source, args.splits), Path(args.out)
    check_writable(out / MARKER)
    if out.resolve().is_relative_to(source.root.resolve()):
        raise InputError(f"{out}: lies inside {source.root}, whose photos are read; name a folder elsewhere")
    if args.device not in ("auto", "cpu"):
        from idinpaint.models.devices import pick_device

        pick_device(args.device)  # told now, not by a worker
    with locked(out):
        return _prepare(args, source, out, started)


def _prepare(args: argparse.Namespace, source: PhotoSource, out: Path, started: float) -> int:
    shards = _begin(source, out, args.image_format, args.shard_size)
    todo = [shard for shard in shards if finished(out, shard, whole=True) is None]
    if len(todo) < len(shards):
        _say(f"{len(shards) - len(todo)} of {len(shards)} shards are there already; going on")
    workers = min(args.workers or _usable_cpus(), max(len(todo), 1))
    job = Job(str(source.root), str(out), args.image_format, args.device, max(1, _usable_cpus() // workers))
    meter = _Meter(sum(_planned_count(out, shard) for shard in todo))
    _work(job, todo, workers, meter)
    summary = _sum_up(out, shards)
    summary |= {"layout": source.layout, "seconds": round(time.monotonic() - started, 1), "workers": workers}
    summary |= {"photos_this_run": meter.done, "images_per_second": round(meter.rate, 2)}
    summary |= {"peak_memory_mb": round(max(meter.peak_mb, _peak_mb()), 1)}
    _write_json(out / FINISHED, summary)
    print(_summary_line(out, summary))
    if not sum(summary["kept"].values()):
        raise InputError(f"{source.root}: no photo could be used; {out / DROPPED} says why")
    return 0


def _check_packages() -> None:
    try:
        import datasets  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(f"prepare needs {error.name}; pip install 'idinpaint[train]'") from error


def _begin(source: PhotoSource, out: Path, image_format: str, shard_size: int) -> list[str]:
    """Names of all shards: planned now, or by the run that this one continues, whose settings must agree."""
    digest, photos = hashlib.sha256(), 0
    for item in source:
        digest.update(json.dumps(item.as_dict()).encode())
        photos += 1
    manifest = WeightStore().manifest
    settings = {
        "format": 2, "image_format": image_format, "shard_size": shard_size, "photos": photos,
        "list_sha256": digest.hexdigest(), "networks": {name: manifest[name]["sha256"] for name in NETWORKS},
    }  # fmt: skip
    path = out / MARKER
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            shards = before.pop("shards")
            if not all(isinstance(shard, str) for shard in shards):
                raise TypeError("a shard's name that is no text")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: cannot be read ({error}); prepare into a new folder") from error
        for key, value in settings.items():
            if before.get(key) != value:
                what = "the photos, people or splits" if key == "list_sha256" else key
                then = "" if isinstance(value, dict) or key == "list_sha256" else f" ({before.get(key)}, now {value})"
                raise InputError(f"{out}: was begun with other settings: {what}{then}; prepare into a new folder")
        _clear(out)  # of a run that was killed
        return shards
    if out.is_dir() and any(out.glob(f"{DATA_FOLDER}/*")):
        raise InputError(f"{out}: holds other data; name a new or an empty folder")
    shards = write_plan(source, out, shard_size)
    _write_json(path, {**settings, "shards": shards})
    return shards


def _clear(out: Path) -> None:
    """Takes half-written files away."""
    for folder in (out, out / DATA_FOLDER, out / PLAN_FOLDER):
        for rest in folder.glob(".*.tmp"):
            rest.unlink(missing_ok=True)


def _work(job: Job, shards: list[str], workers: int, meter: _Meter) -> None:
    """Make the shards, in this process or in several."""
    if not shards:
        return
    if workers == 1:
        _start_worker(job)
        try:
            for shard in shards:
                _make(shard, meter)
        finally:
            _worker.clear()
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _enter_worker, (job,)) as pool:
        futures = [pool.submit(_make, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                photos, peak = future.result()
                meter.peak_mb = max(meter.peak_mb, peak)
                meter(photos)
        except BrokenProcessPool as error:
            text = "a worker was killed (out of memory?); the same command goes on, with fewer --workers if need be"
            raise InputError(text) from error
        except BaseException:  # a full disk, SIGTERM, Ctrl-C: the shards that are being made are given up
            for process in list(pool._processes.values()):
                process.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            _clear(Path(job.out))


_worker: dict[str, Any] = {}  # of this process: its job and reader


def _start_worker(job: Job) -> None:
    """Load the networks for this process."""
    import torch

    from idinpaint.loading.bundle import load_faces
    from idinpaint.models.devices import pick_device

    torch.set_num_threads(min(torch.get_num_threads(), job.threads))  # OMP_NUM_THREADS may ask for fewer
    store = WeightStore()
    _worker.update(job=job, reader=FaceReader(Path(job.source), store, *load_faces(store, pick_device(job.device))))


def _enter_worker(job: Job) -> None:
    """Start of a worker process; it ends itself when its parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of the terminal's; the parent ends us
    parent = parent_process()
    threading.Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    _start_worker(job)


def _make(shard: str, progress: Callable[[int], None] | None = None) -> tuple[int, float]:
    """One shard in this process: (photos looked at, peak memory of the process in MB)."""
    job = _worker["job"]
    state = write_shard(_worker["reader"], Path(job.out), shard, job.image_format, progress)
    return state["rows"] + len(state["dropped"]), _peak_mb()


def _sum_up(out: Path, shards: list[str]) -> dict[str, Any]:
    """Counts over all shards; writes dropped.csv, a line for each photo left out or repaired."""
    kept, dropped, repaired, annotated = dict.fromkeys(SPLITS, 0), Counter(), Counter(), 0
    digests = {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("photo", "what", "kind", "detail"))
    for shard in shards:
        state = finished(out, shard)
        kept[shard.rpartition("-")[0]] += state["rows"]
        annotated += state["annotated_skin"]
        digests |= {shard: state["sha256"]} if "sha256" in state else {}
        for what, counts in (("dropped", dropped), ("repaired", repaired)):
            counts.update(kind for _, kind, _ in state[what])
            writer.writerows((path, what, kind, detail) for path, kind, detail in state[what])
    write_atomic(out / DROPPED, lambda file: file.write(text.getvalue().encode(errors="surrogateescape")))
    counts = {"kept": kept, "dropped": dict(dropped), "repaired": dict(repaired), "annotated_skin": annotated}
    return {**counts, "sha256": digests}


def _summary_line(out: Path, summary: dict[str, Any]) -> str:
    kept, dropped = summary["kept"], summary["dropped"]
    total = sum(kept.values()) + sum(dropped.values())
    reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(dropped.items())) or "none"
    repaired = "".join(f", {count} with a {kind} made anew" for kind, count in sorted(summary["repaired"].items()))
    splits = ", ".join(f"{name} {count}" for name, count in kept.items())
    return (
        f"{out}: {total} photos: {sum(kept.values())} kept ({splits}){repaired}; dropped: {reasons}; "
        f"{summary['photos_this_run']} in {summary['seconds']:.0f} s, {summary['images_per_second']:.1f} images/s, "
        f"peak memory {summary['peak_memory_mb']:.0f} MB a process"
    )


class _Meter:
    """Counts photos, and shows the count, images/s and the time left on stderr."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.peak_mb = total, 0, 0.0
        self.start, self.shown = time.monotonic(), 0.0

    @property
    def rate(self) -> float:
        """Photos a second since the start."""
        return self.done / max(time.monotonic() - self.start, 1e-6)

    def __call__(self, photos: int) -> None:
        self.done += photos
        now = time.monotonic()
        if now - self.shown >= (1 if sys.stderr.isatty() else 30) or self.done == self.total:
            self.shown = now
            left = (self.total - self.done) / max(self.rate, 1e-6)
            _say(f"{self.done}/{self.total} photos, {self.rate:.1f} images/s, {left:.0f} s left", again=True)


def _say(text: str, again: bool = False) -> None:
    """A line on stderr; on a terminal `again` overwrites the last one."""
    terminal = again and sys.stderr.isatty()
    print(f"\r\x1b[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)


def _planned_count(out: Path, shard: str) -> int:
    with open(out / PLAN_FOLDER / f"{shard}.jsonl", "rb") as file:
        return sum(1 for _ in file)


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _peak_mb() -> float:
    """Largest resident size of this process so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, lambda file: file.write((json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()))
