"""Reference photos: how good each is, which of them agree, one identity vector of all, and the damaged face's own."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from idinpaint.faces.identity import IdentityEncoder
from idinpaint.faces.likeness import similarity
from idinpaint.faces.quality import FaceQuality, aligned_face, face_quality
from idinpaint.types import InputError

CACHED = 64  # reference photos whose vectors are kept: a folder of damaged photos often shares them
CLEARLY = 0.10  # of two readings of "the right person", the nearer one must be nearer by this


@dataclass(frozen=True)
class Reference:
    """One photo. embed: [D] unit vector; aligned: [112, 112, 3] uint8 for other encoders; weight in (0, 1].

    likeness: cosine to the mean of the other photos, None for a single one; used: False for an outlier. judged: unit
    vector of the verifying encoder, by which the photos are compared; None: by embed.
    crop [256, 256, 3] uint8, crop_mask [256, 256] bool (True beyond the photo) and landmarks [68, 2] crop px: the face
    as FaceAnalysis has it, which the network may look at.
    """

    name: str
    embed: np.ndarray
    aligned: np.ndarray
    quality: FaceQuality
    faces: int = 1
    likeness: float | None = None
    used: bool = True
    judged: np.ndarray | None = None
    crop: np.ndarray | None = None
    crop_mask: np.ndarray | None = None
    landmarks: np.ndarray | None = None

    @property
    def weight(self) -> float:
        return self.quality.weight

    @property
    def compared(self) -> np.ndarray:
        """[D] what tells whether two photos show one person."""
        return self.embed if self.judged is None else self.judged


@dataclass(frozen=True)
class References:
    """items: every photo given; mean: quality-weighted, normalised mean [D] of those used; notices in words."""

    items: list[Reference] = field(default_factory=list)
    mean: np.ndarray | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def used(self) -> list[Reference]:
        return [item for item in self.items if item.used]

    @property
    def embeds(self) -> list[np.ndarray]:
        return [item.embed for item in self.used]

    def __bool__(self) -> bool:
        return self.mean is not None


class ReferenceReader:
    """Reads photos with an analyzer and keeps what it read, by the photo's pixels."""

    def __init__(self, analyzer: Any) -> None:
        self.analyzer = analyzer
        self._cache: OrderedDict[bytes, Reference] = OrderedDict()

    def read_one(self, name: str, rgb: np.ndarray) -> Reference:
        """[H, W, 3] uint8 RGB; of several faces the largest. InputError for a photo without a readable face."""
        digest = hashlib.sha256(f"{rgb.shape} {id(self.analyzer.identity)}".encode() + rgb.tobytes()).digest()
        if digest not in self._cache:
            faces = [f for f in self.analyzer.analyze(rgb, None) if f.id_embed is not None]
            if not faces:
                raise InputError(f"{name}: no face found; give a photo that shows the person's face")
            aligned = aligned_face(rgb, faces[0])
            quality = face_quality(faces[0], aligned)
            face = faces[0]
            self._cache[digest] = Reference(
                name, face.id_embed, aligned, quality, len(faces),
                crop=face.crop, crop_mask=face.crop_mask, landmarks=face.landmarks,
            )  # fmt: skip
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(digest)
        return replace(self._cache[digest], name=name)

    def read(
        self,
        photos: Sequence[tuple[str, np.ndarray]],
        judge: IdentityEncoder,
        threshold: float,
        visible: np.ndarray | None = None,
    ) -> References:
        """photos: (name, [H, W, 3] uint8 RGB). threshold: cosine of `judge` from which two photos count as one person.

        visible: [D] of `judge`, the damaged face's visible part, which tells whom to believe when the photos show two
        people and neither is in the majority. Raises InputError for a photo without a readable face.
        """
        items = [self.read_one(name, rgb) for name, rgb in photos]
        vectors = judge.embed([item.aligned for item in items]) if items else []
        return combine([replace(i, judged=v) for i, v in zip(items, vectors)], threshold, visible)


def combine(items: Sequence[Reference], threshold: float, visible: np.ndarray | None = None) -> References:
    """Outliers set aside, the rest fused by quality, everything odd said in the notices."""
    notices = []
    for item in items:
        if item.faces > 1:
            notices.append(
                f"{item.name}: {item.faces} faces in the reference photo; the largest is taken, crop the photo if wrong"
            )
        if item.quality.remarks:
            notices.append(f"{item.name}: the face is {', '.join(item.quality.remarks)}; it counts for less")
    kept, undecided = _one_person(items, threshold, visible)
    judged = []
    for index, item in enumerate(items):
        others = [other.compared for i, other in enumerate(items) if i != index and (i in kept or index not in kept)]
        likeness = similarity(item.compared, np.mean(others, axis=0)) if others else None
        judged.append(replace(item, likeness=likeness, used=index in kept))
        if index not in kept:
            notices.append(
                f"{item.name}: unlike the other reference photos (similarity {likeness:.2f}); another person? Left out"
            )
    if undecided:
        names = ", ".join(item.name for item in items)
        notices.append(f"the reference photos seem to show different persons ({names}); leave out the wrong ones")
    return References(judged, fuse([item for item in judged if item.used]), notices)


def fuse(items: Sequence[Reference]) -> np.ndarray | None:
    """Unit vector [D]: the mean of the photos' embeds, weighted by quality; None without any."""
    return _mean(items, "embed") if items else None


def _mean(items: Sequence[Reference], kind: str) -> np.ndarray:
    mean = np.average([getattr(item, kind) for item in items], axis=0, weights=[item.weight for item in items])
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


def _one_person(items: Sequence[Reference], threshold: float, visible: np.ndarray | None) -> tuple[set[int], bool]:
    """(indices of the photos that show the person, whether that stayed undecided).

    Photos linked by a cosine of at least `threshold` form groups; the largest is the person. Of equally large ones
    the one nearer to the visible part of the damaged face; when that does not tell, all are kept.
    """
    groups: list[set[int]] = []
    for index, item in enumerate(items):
        linked = [g for g in groups if any(similarity(item.compared, items[i].compared) >= threshold for i in g)]
        groups = [g for g in groups if not any(g is other for other in linked)] + [{index}.union(*linked)]
    most = max(map(len, groups), default=0)
    largest = [g for g in groups if len(g) == most]
    if len(largest) <= 1:
        return (largest[0] if largest else set()), False
    if visible is not None:
        near = sorted(
            ((similarity(_mean([items[i] for i in g], "compared"), visible), n) for n, g in enumerate(largest)),
            reverse=True,
        )
        if near[0][0] - near[1][0] >= CLEARLY:
            return largest[near[0][1]], False
    return set(range(len(items))), True


def reference_rows(references: References) -> list[dict[str, Any]]:
    """What the report says of each photo."""
    return [
        {
            "name": item.name,
            "used": item.used,
            "weight": item.weight,
            "quality": item.quality,
            "similarity_to_others": item.likeness,
        }
        for item in references.items
    ]
