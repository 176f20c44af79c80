"""Identity vectors of untouched photos and of damaged, restored ones, by both encoders: made once, kept on disk.

The trials of eval/wrong_reference.py are then arithmetic on them.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from cases import holed, read_rgb, split_people
from damage import Damage
from methods import given_face_box
from metric_networks import SFACE_FILE, find_weight, weight_folders
from run_store import SAVE_EVERY, Features, read_features, write_features

from idinpaint.data.photos import PhotoEntry, load_landmarks
from idinpaint.faces.identity import IdentityEncoder, SFaceEncoder
from idinpaint.faces.quality import aligned_face, face_quality
from idinpaint.imaging.telea import coarse_fill
from idinpaint.judging.verification import aligned_crop, visible_part
from idinpaint.models.weights import sha256_of
from idinpaint.types import InputError

STEP, STEPS = 0.05, 12  # coverage bins from 0 to 60 % of the features, one a case in turn

# Files of the model (first part of the name) that a strategy's pictures depend on, beside the face networks.
USES = {"telea": (), "gan": ("gan", "pipeline"), "prior": ("pipeline",), "diffusion": ("pipeline",)}
FACE_FILES = ("landmarks.safetensors", "parsing.safetensors", "identity.safetensors")


def weights_of(method: str, files: Mapping[str, str]) -> str:
    """Short digest of the model's files (name -> sha256) that a method's pictures depend on."""
    used = USES.get(method.partition("+")[0], tuple({part for parts in USES.values() for part in parts}))
    own = [f"{n} {d}" for n, d in sorted(files.items()) if n in FACE_FILES or n.split("/")[0] in used]
    return hashlib.sha256("\n".join(own).encode()).hexdigest()[:12]


def load_judge(data: Path, weights: Path | None) -> SFaceEncoder:
    """SFace, the independent encoder. Raises InputError without it."""
    folders = weight_folders(data, weights)
    sface = find_weight(SFACE_FILE, folders)
    if sface is None:
        raise InputError(f"{SFACE_FILE} is not in {folders}; pass --metric-weights DIR")
    return SFaceEncoder(sface, sha256_of(sface))


def entries_in_turn(data: Path, split: str) -> list[PhotoEntry]:
    """The first photo of every person of the split, then the second, and so on."""
    people = [own for _, own in sorted(split_people(data, split).items())]
    return [entry for turn in itertools.zip_longest(*people) for entry in turn if entry is not None]


def measure(
    restorer, judge: IdentityEncoder, data: Path, split: str, folder: Path, masks: int, photos: int, damaged: int = 0
) -> Features:
    """Vectors by name: `PERSON/PHOTO` of the untouched photos, `PERSON/PHOTO#K` of the K-th damage of each.

    judge: the independent encoder. photos: how many of the split's, every person in turn; damaged: the first so many of
    them are damaged, each with `masks` masks; 0: all. Kept in `folder`, under a name that changes with the weights; the
    same call goes on where an interrupted one stopped.
    """
    path = folder / f"vectors-{split}-{weights_of('diffusion', restorer.bundle.weights)}.npz"
    entries = entries_in_turn(data, split)[: photos or None]
    found, damage, truth = read_features(path), Damage.held_out(data), load_landmarks(data)
    encoders, box, saved = {"judge": judge, "bundled": restorer.identity}, given_face_box(), time.monotonic()
    for number, entry in enumerate(entries):
        photo = read_rgb(entry.path)
        if entry.key not in found:
            found[entry.key] = _untouched(photo, restorer, encoders, box)
        for turn in range(masks if not damaged or number < damaged else 0):
            name = f"{entry.key}#{turn}"
            if name not in found:
                low = STEP * ((number + turn * (STEPS // max(masks, 1)) + turn) % STEPS)
                rng = np.random.default_rng([7, number, turn])
                mask = damage.draw(rng, truth[entry.key], low, low + STEP)[0]
                found[name] = _damaged(photo, mask, restorer, encoders, box)
        if time.monotonic() - saved > SAVE_EVERY or number == len(entries) - 1:
            write_features(path, found)
            saved = time.monotonic()
            print(f"{split}: {number + 1}/{len(entries)}", flush=True)
    return found


def _untouched(photo: np.ndarray, restorer, encoders: dict[str, IdentityEncoder], box: tuple) -> dict[str, np.ndarray]:
    face = restorer.analyzer.analyze(photo, None, box)[0]
    aligned = aligned_face(photo, face)
    vectors = {name: encoder.embed([aligned])[0] for name, encoder in encoders.items()}
    return {**vectors, "weight": np.array([face_quality(face, aligned).weight])}


def _damaged(
    photo: np.ndarray, mask: np.ndarray, restorer, encoders: dict[str, IdentityEncoder], box: tuple
) -> dict[str, np.ndarray]:
    """Of the visible part (hidden pixels grey), of the coarse fill, and of the face painted without any reference."""
    result = restorer(holed(photo, mask), mask, strategy="diffusion", num_samples=1, force=True, face_box=box)
    face, best = result.faces[0], result.candidates[0][0]
    sources = {
        "visible": visible_part(face),
        "coarse": aligned_crop(coarse_fill(face.crop, face.crop_mask), face),
        "restored": aligned_crop(best.image, face),
    }
    vectors = {f"{name}_{kind}": e.embed([a])[0] for kind, a in sources.items() for name, e in encoders.items()}
    return {
        **vectors,
        "coverage": np.array([face.face_coverage]),
        "readable": np.array([float(face.id_embed is not None)]),
    }
