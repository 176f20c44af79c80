"""What is compared: Telea, the Restorer's strategies, and outside methods that come as a folder of PNG outputs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from cases import MAX_REFERENCES, BenchmarkConfig, Item, read_rgb
from pictures import write_png
from run_store import write_rows

import idinpaint
from idinpaint.imaging.compositing import composite
from idinpaint.strategies import CHOICES
from idinpaint.types import InputError

TELEA_RADIUS = 3  # px


class Fill(NamedTuple):
    """A filled photo, uint8 [256, 256, 3]; the decision's strategy; other candidates' pictures, best first."""

    image: np.ndarray
    decision: str
    samples: tuple[np.ndarray, ...] = ()


Method = Callable[[Item], Fill]


def telea(item: Item) -> Fill:
    """cv2 Telea on the whole aligned photo: the anchor, independent of the package's own coarse fill."""
    mask = item.mask.astype(np.uint8)
    return Fill(cv2.inpaint(item.masked, mask, TELEA_RADIUS, cv2.INPAINT_TELEA), "telea")


def given_face_box() -> tuple[float, float, float, float]:
    """The (x, y, w, h) whose first-guess crop is the aligned photo itself: one constant for all photos."""
    from idinpaint.faces.alignment import crop_from_box

    side = 100.0 / float(np.asarray(crop_from_box((0.0, 0.0, 100.0, 100.0), 0.0))[0, 0])  # crop as large as the photo
    offset = np.asarray(crop_from_box((0.0, 0.0, side, side), 0.0), np.float64)[:, 2]
    return (float(-offset[0]), float(-offset[1]), side, side)


def readable(restorer, paths: Sequence[Path], count: int) -> list[Path]:
    """The first `count` of the aligned photos in which the package finds a face: the others are no references."""
    found: list[Path] = []
    for path in paths:
        if len(found) < count:
            try:
                restorer.references.read_one(str(path), read_rgb(path))  # and kept there: it is not read twice
            except InputError:
                continue
            found.append(path)
    return found


def restorer_method(name: str, config: BenchmarkConfig, restorer) -> Method:
    """A strategy of the Restorer, forced; `diffusion+ref2` gives it two other photos of the person. A generator's name,
    `NAME` or `gan:NAME`, is the strategy gan with it (which the restorer holds)."""
    strategy, _, extra = name.partition("+ref")
    strategy = "gan" if generator_of(name) else strategy
    if "+ref" in name and not (extra.isdigit() and 1 <= int(extra) <= MAX_REFERENCES):
        raise InputError(f"methods: `{name}`: write +ref1 to +ref{MAX_REFERENCES}")
    box = given_face_box() if config.alignment == "given" else None
    if config.guidance is not None:
        restorer.inpainters["diffusion"].guidance_scale = config.guidance

    def run(item: Item) -> Fill:
        result = restorer(
            item.masked,
            item.mask,
            references=readable(restorer, item.references, int(extra or 0)),
            strategy=strategy,
            num_samples=config.num_samples,
            steps=config.steps,
            seed=item.seed,
            force=strategy != "auto",
            face_box=box,
        )
        faces = result.candidates
        samples = tuple(c.image for c in faces[0]) if faces else ()
        return Fill(result.image, result.decision.strategy, samples)

    return run


def prediction_method(folder: Path) -> Method:
    """The pictures FOLDER/CASE.png that somebody made from exported cases; known pixels are put back."""

    def run(item: Item) -> Fill:
        path = folder / f"{item.id}.png"
        if not path.is_file():
            raise InputError(f"{path}: no such prediction; write one 256 px PNG a case, named as --export names them")
        return Fill(composite(read_rgb(path), item.photo, item.mask), "given")

    return run


def export_cases(items: Iterable[Callable[[], Item]], folder: Path) -> int:
    """FOLDER/image, mask and masked/CASE.png (mask: white = hole) and FOLDER/cases.csv. Returns how many."""
    columns, lines = ("case", "bin", "index", "person", "photo", "mask"), []
    for load in items:
        item = load()
        pictures = {"image": item.photo, "mask": item.mask.astype(np.uint8) * 255, "masked": item.masked}
        for kind, pixels in pictures.items():
            write_png(folder / kind / f"{item.id}.png", pixels)
        words = (item.id, item.bin, item.index, item.entry.person, item.entry.path.name, item.mask_name)
        lines.append(dict(zip(columns, words)))
    write_rows(folder / "cases.csv", lines, columns)
    return len(lines)


def parse_predictions(texts: Iterable[str], methods: Iterable[str]) -> dict[str, Path]:
    """`NAME=DIR` arguments -> name -> folder. Raises InputError for a missing folder or a name that is taken."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        if not separator or not name:
            raise InputError(f"--predictions {text}: write it as NAME=DIR")
        if name in found or name in methods:
            raise InputError(f"--predictions {text}: the name {name} is taken by another method")
        if not Path(folder).is_dir():
            raise InputError(f"--predictions {text}: no such folder")
        found[name] = Path(folder)
    return found


def parse_gans(config: BenchmarkConfig) -> dict[str, Path]:
    """The config's `NAME=FOLDER` generators, a later one of the same name in place of an earlier.

    Raises InputError for a name that means something else, or a folder that is none of a generator.
    """
    found: dict[str, Path] = {}
    for text in config.gans:
        name, separator, folder = str(text).partition("=")
        if not separator or not name or "+ref" in name or ":" in name:
            raise InputError(f"gans: `{text}`: write it as NAME=FOLDER")
        if name in CHOICES:
            raise InputError(f"gans: `{text}`: {name} is a strategy of its own; choose another name")
        found[name] = Path(folder)
    used = {generator_of(method) for method in config.methods}
    for name, folder in found.items():
        if name in used and not (folder / "config.json").is_file():
            raise InputError(f"gans: `{name}={folder}`: no generator there; name a training run's generator/ folder")
    return found


def generator_of(method: str) -> str | None:
    """`gan:NAME`, `NAME`, `NAME+ref2` -> NAME; None for the strategies, of which `gan` takes the model's own."""
    head, _, name = method.partition("+ref")[0].partition(":")
    return name or (None if head in CHOICES else head)


def generator_folder(method: str, config: BenchmarkConfig) -> Path | None:
    """Where the method's generator lies: named in the config, in the model's gan/, or a path; None without one."""
    from idinpaint.loading.bundle import find_gan, resolve_model

    name = generator_of(method)
    own = parse_gans(config).get(name or "")
    if name is None or own is not None:
        return own
    model = resolve_model(config.model)[0].folder
    if ":" not in method and not (model / "gan" / name / "config.json").is_file():
        known = ", ".join((*CHOICES, *parse_gans(config), *sorted(p.name for p in (model / "gan").glob("*"))))
        raise InputError(f"methods: `{name}` is none of {known}; name a generator's folder with --gan {name}=FOLDER")
    return find_gan(model, name)


def fingerprint(method: str, config: BenchmarkConfig, predictions: Mapping[str, Path]) -> dict[str, object]:
    """What a method's rows depend on; rows of another fingerprint are not mixed in."""
    base: dict[str, object] = {"seed": config.seed, "other_photos": config.other_photos}
    if config.distinct_photos:
        base["photos_of_bins"] = list(config.bins)
    if config.photos is not None:
        base["photos"] = config.photos
    if method == "telea":
        return base
    if method in predictions:
        return base | {"pictures_sha256": _digest(sorted(predictions[method].glob("*.png")))}
    bundled = Path(idinpaint.__file__).parent / "weights_bundled"
    folder = bundled if config.model == "default" else Path(config.model)
    generator = generator_folder(method, config) or folder
    extra = [] if generator.is_relative_to(folder) else sorted(generator.glob("*.safetensors"))
    if config.guidance is not None:
        base["guidance"] = config.guidance
    return base | {
        "num_samples": config.num_samples,
        "steps": config.steps,
        "alignment": config.alignment,
        "model": config.model,
        "weights_sha256": _digest([*sorted(folder.rglob("*.safetensors")), *extra]),
    }


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def method_factory(config: BenchmarkConfig, predictions: Mapping[str, Path]) -> Callable[[str], Method]:
    """name -> Method; one model and each generator is loaded when a method first needs it."""
    from idinpaint.painting.gan import load_gan

    @functools.cache
    def load_model() -> idinpaint.Restorer:
        return idinpaint.Restorer.from_pretrained(config.model, device=config.device)

    @functools.cache
    def load_restorer(folder: Path | None) -> idinpaint.Restorer:
        model = load_model()
        if folder is None:
            return model
        gan = load_gan(folder, model.bundle.pipeline, model.device)
        return idinpaint.Restorer(model.bundle, model.analyzer, {**model.inpainters, "gan": gan}, model.device)

    def make(name: str) -> Method:
        if name == "telea":
            return telea
        if name in predictions:
            return prediction_method(predictions[name])
        return restorer_method(name, config, load_restorer(generator_folder(name, config)))

    return make
