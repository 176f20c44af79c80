"""Identity vectors of untouched photos and of damaged, restored ones, by both encoders: made once, kept on disk.

The trials of eval/wrong_reference.py are then arithmetic on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import SPLITS, read_rgb
from damage import Damage
from methods import given_face_box
from run_store import SAVE_EVERY, Features, read_features, write_features

from idinpaint.compositing import coarse_fill
from idinpaint.data import PhotoEntry, list_identity_folders, load_landmarks, read_split
from idinpaint.faces.identity import IdentityEncoder, arcface_crop
from idinpaint.faces.quality import aligned_face, face_quality
from idinpaint.verification import aligned_crop

STEP, STEPS = 0.05, 12  # coverage bins from 0 to 60 % of the features, one a case in turn


def entries_of(data: Path, split: str) -> list[PhotoEntry]:
    """All photos of the split's people."""
    people = set(read_split(SPLITS / f"celeba_id256_{split}.txt"))
    return [e for e in list_identity_folders(data / "celeba_id256") if e.person in people]


def measure(restorer, judge: IdentityEncoder, data: Path, split: str, masks: int, photos: int, path: Path) -> Features:
    """Vectors by name: `PERSON/PHOTO` of the untouched photos, `PERSON/PHOTO#K` of the K-th damage of each.

    judge: the independent encoder. photos: how many of the split's, every person in turn, 0: all. The same call goes on
    where an interrupted one stopped.
    """
    entries = _in_turn(entries_of(data, split))[: photos or None]
    found, damage, truth = read_features(path), Damage.held_out(data), load_landmarks(data)
    encoders, box, saved = {"judge": judge, "bundled": restorer.identity}, given_face_box(), time.monotonic()
    for number, entry in enumerate(entries):
        photo = read_rgb(entry.path)
        wanted: list[tuple[str, Callable[[], dict[str, np.ndarray]]]] = [
            (entry.key, lambda photo=photo: _untouched(photo, restorer, encoders, box))
        ]
        for turn in range(masks):
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
    (face,) = restorer.analyzer.analyze(photo, None, box)
    aligned = aligned_face(photo, face)
    vectors = {name: encoder.embed([aligned])[0] for name, encoder in encoders.items()}
    return {**vectors, "weight": np.array([face_quality(face, aligned).weight])}


def _damaged(
    photo: np.ndarray, mask: np.ndarray, restorer, encoders: dict[str, IdentityEncoder], box: tuple
) -> dict[str, np.ndarray]:
    """Of the visible part (hidden pixels grey), of the coarse fill, and of the face painted without any reference."""
    holed = np.where(mask[..., None], 0, photo).astype(np.uint8)
    result = restorer(holed, mask, strategy="diffusion", num_samples=1, force=True, face_box=box)
    (face,), ((best,),) = result.faces, result.candidates
    sources = {
        "visible": arcface_crop(face.crop, face.crop_mask, face.landmarks),
        "coarse": aligned_crop(coarse_fill(face.crop, face.crop_mask), face),
        "restored": aligned_crop(best.image, face),
    }
    vectors = {f"{name}_{kind}": e.embed([a])[0] for kind, a in sources.items() for name, e in encoders.items()}
    return {
        **vectors,
        "coverage": np.array([face.face_coverage]),
        "readable": np.array([float(face.id_embed is not None)]),
    }
