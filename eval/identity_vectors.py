"""Identity vectors of untouched photos and of damaged, restored ones, by both encoders: made once, kept on disk.

The trials of eval/wrong_reference.py are then arithmetic on them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from cases import SPLITS, read_rgb
from damage import Damage
from methods import given_face_box
from run_store import SAVE_EVERY, Features, read_features, write_features

from idinpaint.data.photos import PhotoEntry, list_identity_folders, load_landmarks, read_split
from idinpaint.faces.identity import IdentityEncoder
from idinpaint.faces.quality import aligned_face, face_quality
from idinpaint.imaging.compositing import coarse_fill
from idinpaint.judging.verification import aligned_crop, visible_part

STEP, STEPS = 0.05, 12  # coverage bins from 0 to 60 % of the features, one a case in turn

# Files of the model (first part of the name) that a strategy's pictures depend on, beside the face networks.
USES = {"telea": (), "gan": ("gan", "pipeline"), "prior": ("pipeline",), "diffusion": ("pipeline",)}
FACE_FILES = ("landmarks.safetensors", "parsing.safetensors", "identity.safetensors")


def weights_of(method: str, files: Mapping[str, str]) -> str:
    """Short digest of the model's files (name -> sha256) that a method's pictures depend on."""
    used = USES.get(method.partition("+")[0], tuple({part for parts in USES.values() for part in parts}))
    own = [f"{n} {d}" for n, d in sorted(files.items()) if n in FACE_FILES or n.split("/")[0] in used]
    return hashlib.sha256("\n".join(own).encode()).hexdigest()[:12]


def entries_of(data: Path, split: str) -> list[PhotoEntry]:
    """All photos of the split's people."""
    people = set(read_split(SPLITS / f"celeba_id256_{split}.txt"))
    return [e for e in list_identity_folders(data / "celeba_id256") if e.person in people]


def measure(
    restorer, judge: IdentityEncoder, data: Path, split: str, folder: Path, masks: int, photos: int, damaged: int = 0
) -> Features:
    """Vectors by name: `PERSON/PHOTO` of the untouched photos, `PERSON/PHOTO#K` of the K-th damage of each.

    judge: the independent encoder. photos: how many of the split's, every person in turn; damaged: the first so many of
    them are damaged, each with `masks` masks; 0: all. Kept in `folder`, under a name that changes with the weights; the
    same call goes on where an interrupted one stopped.
    """
    path = folder / f"vectors-{split}-{weights_of('diffusion', restorer.bundle.weights)}.npz"
    entries = _in_turn(entries_of(data, split))[: photos or None]
    found, damage, truth = read_features(path), Damage.held_out(data), load_landmarks(data)
    encoders, box, saved = {"judge": judge, "bundled": restorer.identity}, given_face_box(), time.monotonic()
    for number, entry in enumerate(entries):
        photo = read_rgb(entry.path)
        wanted: list[tuple[str, Callable[[], dict[str, np.ndarray]]]] = [
            (entry.key, lambda photo=photo: _untouched(photo, restorer, encoders, box))
        ]
        for turn in range(masks if not damaged or number < damaged else 0):
            low = STEP * ((number + turn * (STEPS // max(masks, 1)) + turn) % STEPS)
            rng = np.random.default_rng([7, number, turn])
            wanted.append((
                f"{entry.key}#{turn}",
                lambda p=photo, e=entry, r=rng, b=low: _damaged(p, damage.draw(r, truth[e.key], b, b + STEP)[0],
                                                              restorer, encoders, box),
            ))  # fmt: skip
        for name, make in wanted:
            if name not in found:
                found[name] = make()
        if time.monotonic() - saved > SAVE_EVERY or number == len(entries) - 1:
            write_features(path, found)
            saved = time.monotonic()
            print(f"{split}: {number + 1}/{len(entries)}", flush=True)
    return found


def _in_turn(entries: list[PhotoEntry]) -> list[PhotoEntry]:
    """The first photo of every person, then the second, and so on."""
    rank: dict[str, int] = {}
    order = []
    for entry in entries:
        rank[entry.person] = rank.get(entry.person, -1) + 1
        order.append((rank[entry.person], entry.person, entry))
    return [entry for _, _, entry in sorted(order, key=lambda o: o[:2])]


def _untouched(photo: np.ndarray, restorer, encoders: dict[str, IdentityEncoder], box: tuple) -> dict[str, np.ndarray]:
    face = restorer.analyzer.analyze(photo, None, box)[0]
    aligned = aligned_face(photo, face)
    vectors = {name: encoder.embed([aligned])[0] for name, encoder in encoders.items()}
    return {**vectors, "weight": np.array([face_quality(face, aligned).weight])}


def _damaged(
    photo: np.ndarray, mask: np.ndarray, restorer, encoders: dict[str, IdentityEncoder], box: tuple
) -> dict[str, np.ndarray]:
    """Of the visible part (hidden pixels grey), of the coarse fill, and of the face painted without any reference."""
    holed = np.where(mask[..., None], 0, photo).astype(np.uint8)
    result = restorer(holed, mask, strategy="diffusion", num_samples=1, force=True, face_box=box)
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
