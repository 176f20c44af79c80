"""The restorations behind a calibration: which photos, which damage, which strategy, and the row each one gives."""

from __future__ import annotations

import copy
import functools
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cases import SPLITS, holed, read_mask, read_rgb, split_people
from damage import BINS, Damage
from identity_vectors import STEP, STEPS, weights_of
from methods import given_face_box
from run_store import Row, RowFile, read_rows

from idinpaint.data.photos import PhotoEntry, load_landmarks, read_split
from idinpaint.faces.alignment import transform_points
from idinpaint.faces.features import whole_coverage
from idinpaint.faces.identity import IdentityEncoder, arcface_crop
from idinpaint.faces.references import ReferenceReader
from idinpaint.judging.calibration import Calibration, load_calibration
from idinpaint.judging.verification import Verifier
from idinpaint.types import FaceAnalysis, InputError

KEYS = ("weights", "split", "damage", "method", "person", "photo", "mask")
COLUMNS = (*KEYS, "kind", "coverage", "whole", "drawn", "interval", "independent", "bundled", "original")
COLUMNS += ("visible", "given", "strategy", "verdict", "seconds")
OTHERS = 3  # real photos of the person that a restoration is compared with; none of them is a reference
REFERENCES = 5


@dataclass(frozen=True)
class CalibrationConfig:
    """split: val or test. images: how many photos, one mask each. damage: `features` fills the coverage bins of 5 %
    from 0 to 60 % evenly, whole features and half faces included; `natural` takes the held-out irregular masks of all
    hole bins in turn. natural_images: photos under such masks that the acceptance is fitted on too. methods:
    strategies, or auto; `+refN` with N references. far: false-accept rate of the threshold. reference_photos,
    reference_masks: how many validation photos, and damages of each, the limit of wrong references is fitted on; no
    photos leave it out."""

    split: str = "val"
    images: int = 600
    natural_images: int = 0
    damage: str = "features"
    methods: tuple[str, ...] = ("telea", "gan", "diffusion", "diffusion+ref2")
    far: float = 0.01
    num_samples: int = 2
    reference_photos: int = 72
    reference_masks: int = 2
    seed: int = 0
    model: str = "default"
    device: str = "auto"
    bootstrap: int = 500

    def __post_init__(self) -> None:
        if self.damage not in ("features", "natural"):
            raise InputError(f"damage={self.damage}: features or natural")
        if self.split not in ("val", "test"):
            raise InputError(f"split={self.split}: val or test; the other people were trained on")


@dataclass(frozen=True)
class Case:
    """One photo with its mask (a file's name, or NUMBER of the drawn ones), and the person's other photos."""

    index: int
    entry: PhotoEntry
    mask_name: str
    others: tuple[Path, ...]
    references: tuple[Path, ...]


def plan_cases(config: CalibrationConfig, data: Path) -> list[Case]:
    """Photos of the split's people in turn; a longer list starts with the shorter one."""
    people, rng = split_people(data, config.split), np.random.default_rng(config.seed)
    people = {k: [v[i] for i in rng.permutation(len(v))] for k, v in sorted(people.items()) if len(v) > OTHERS + 1}
    if not people:
        raise InputError(f"{data}/celeba_id256: none of the people of the {config.split} split is there")
    by_bin = [[m for m in read_split(SPLITS / "nvidia_masks_test.txt") if m.startswith(b + "/")] for b in BINS]
    names, cases = list(people), []
    for index in range(config.images):
        turn, place = divmod(index, len(names))
        photos = people[names[place]]
        rest = [photos[(turn + k) % len(photos)].path for k in range(1, len(photos))]
        # `+ turn`: else a number of people that the number of bins divides would tie each person to one bin.
        own = by_bin[(index + turn) % len(by_bin)]
        mask = own[int(rng.integers(len(own)))] if config.damage == "natural" else f"{(index + turn) % STEPS}/{index}"
        cases.append(Case(
            index, photos[turn % len(photos)], mask, tuple(rest[:OTHERS]), tuple(rest[OTHERS : OTHERS + REFERENCES])
        ))  # fmt: skip
    return cases


class SteadyAnalyzer:
    """The product's analyzer, with the aligned photos' face box, that keeps its last answer: the methods of a case
    share one analysis."""

    def __init__(self, analyzer) -> None:
        self.analyzer, self.box, self._last = analyzer, given_face_box(), (b"", None)
        self.seconds = 0.0  # that the last analysis took

    def __getattr__(self, name: str):
        return getattr(self.analyzer, name)

    def analyze(self, rgb: np.ndarray, mask: np.ndarray | None, face_box: tuple | None = None) -> list[FaceAnalysis]:
        """See FaceAnalyzer.analyze."""
        key = hashlib.sha256(rgb.tobytes() + (b"" if mask is None else mask.tobytes())).digest()
        if self._last[0] != key:
            start = time.perf_counter()
            faces = self.analyzer.analyze(rgb, mask, face_box or self.box)
            if mask is not None:
                self.seconds = time.perf_counter() - start
                self._last = (key, faces)
            return faces
        return self._last[1]


class Workplace:
    """What a restoration needs: a copy of the restorer with SFace as its verifier, drawn masks, the photos' vectors."""

    def __init__(self, restorer, judge: IdentityEncoder, data: Path, calibration: Calibration | None = None) -> None:
        self.restorer, self.encoder, self.data = copy.copy(restorer), judge, data
        self.restorer.analyzer = SteadyAnalyzer(restorer.analyzer)
        self.restorer.references = ReferenceReader(self.restorer.analyzer)
        self.restorer.verifier = Verifier(restorer.identity, judge, calibration or load_calibration())
        self.damage, self.truth = Damage.held_out(data), load_landmarks(data)
        self.photo = functools.cache(self._photo)

    def _photo(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """(SFace vector, bundled vector) of an untouched photo."""
        rgb = read_rgb(path)
        face = self.restorer.analyzer.analyzer.analyze(rgb, None, self.restorer.analyzer.box)[0]
        return self.encoder.embed([self.aligned(rgb, face)])[0], face.id_embed

    def aligned(self, rgb: np.ndarray, face: FaceAnalysis) -> np.ndarray:
        """[112, 112, 3] of a face, aligned as the product aligns it."""
        return arcface_crop(rgb, None, transform_points(face.crop_to_photo, face.landmarks))

    def mask(self, case: Case, config: CalibrationConfig) -> tuple[np.ndarray, str, float]:
        """(mask, its kind, its coverage by the untouched photo's landmarks)."""
        if config.damage == "natural":
            return read_mask(self.data / "nvidia_irregular_masks" / case.mask_name), "irregular", float("nan")
        low = STEP * int(case.mask_name.split("/")[0])
        rng = np.random.default_rng([config.seed, case.index])
        return self.damage.draw(rng, self.truth[case.entry.key], low, low + STEP)


def unit_mean(vectors: list[np.ndarray]) -> np.ndarray:
    """Normalised mean of unit vectors."""
    mean = np.mean(vectors, axis=0)
    return mean / np.linalg.norm(mean)


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """What makes a row this restoration and no other."""
    return tuple(row[name] for name in KEYS)


def score(case: Case, method: str, config: CalibrationConfig, place: Workplace) -> dict[str, object]:
    """One restoration: similarities of what was delivered to the person's other photos, and what the report says."""
    photo, (mask, kind, drawn) = read_rgb(case.entry.path), place.mask(case, config)
    strategy, _, extra = method.partition("+ref")
    references, restorer, auto = case.references[: int(extra or 0)], place.restorer, strategy == "auto"
    start = time.perf_counter()
    result = restorer(
        holed(photo, mask), mask, references=references, strategy=strategy,
        num_samples=config.num_samples, seed=config.seed, force=not auto, face_box=restorer.analyzer.box,
    )  # fmt: skip
    stages = result.report["seconds"]  # of a shared analysis its real time; reading the references is left out
    seconds = time.perf_counter() - start - stages["finding faces"] - stages["reading references"]
    seconds += restorer.analyzer.seconds
    face, said = result.faces[0], result.report["faces"][0]  # the largest: others are people behind
    aligned, verification = place.aligned(result.image, face), said["verification"]
    truth = [place.photo(path) for path in case.others]
    sface, bundled = (unit_mean([vectors[k] for vectors in truth]) for k in (0, 1))
    low, high = face.coverage_interval
    given = verification["similarity"] if references else None
    return {
        "weights": weights_of(method, restorer.bundle.weights), "split": config.split, "damage": config.damage,
        "method": method, "person": case.entry.person, "photo": case.entry.path.name, "mask": case.mask_name,
        "kind": kind, "coverage": face.face_coverage, "whole": whole_coverage(face.coverage), "drawn": drawn,
        "interval": high - low,
        "independent": float(place.encoder.embed([aligned])[0] @ sface),
        "bundled": float(restorer.identity.embed([aligned])[0] @ bundled),
        "original": float(place.photo(case.entry.path)[0] @ sface),
        "visible": _number(verification["visible_similarity"]), "given": _number(given),
        "strategy": result.decision.strategy, "verdict": verification["verdict"], "seconds": seconds,
    }  # fmt: skip


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def stored_rows(output: Path) -> list[Row]:
    """Whole rows of OUTPUT/rows*.csv: of all parts, of this version's columns."""
    return [row for path in sorted(output.glob("rows*.csv")) for row in read_rows(path) if tuple(row) == COLUMNS]


def run_rows(
    config: CalibrationConfig, cases: list[Case], place: Workplace, output: Path, part: tuple[int, int] = (1, 1)
) -> list[Row]:
    """Rows of all cases, those that are there taken from the files. part: (I, N): only every N-th case is worked on,
    and the rows go into a file of their own, so that N processes can share the work."""
    name = "rows.csv" if part == (1, 1) else f"rows-{part[0]}-of-{part[1]}.csv"
    files = place.restorer.bundle.weights
    wanted = {
        (weights_of(m, files), config.split, config.damage, m, c.entry.person, c.entry.path.name, c.mask_name): (c, m)
        for c in cases[part[0] - 1 :: part[1]]
        for m in config.methods
    }
    rows = {key_of(row): row for row in stored_rows(output)}
    left = [(key, *what) for key, what in wanted.items() if key not in rows]
    own = RowFile(output / name, COLUMNS)
    for number, (key, case, method) in enumerate(left, 1):
        rows[key] = own.add(score(case, method, config, place))
        if number % 20 == 0 or number == len(left):
            print(f"{config.split} {config.damage}: {number}/{len(left)}", flush=True)
    return [rows[key] for key in wanted]
