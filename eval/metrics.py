"""Every metric of the benchmark, declared once: a row of TABLE is a column of rows.csv, of the summary and the tables.

A new metric is a row here; its function may lie beside the others, in pixel_scores.py or set_scores.py. `of` scores
one filled picture, `of_set` all pictures of a method together. Nothing here is used in training, with one exception
that PROTOCOL.md states: the training's perceptual loss reads the same AlexNet features as LPIPS-alex.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from estimates import Estimate, estimate
from metric_networks import MetricSuite, identity_similarity, landmark_error
from pixel_scores import ms_ssim, psnr, seam_error, ssim
from set_scores import (
    SET_DRAWS,
    Gallery,
    accepted,
    frechet_distance,
    inception_discriminative,
    kernel_distance,
    recognised,
    set_distance,
)

NAN = float("nan")
Face = tuple[np.ndarray, np.ndarray] | None  # FaceIdentity.read's


@dataclass
class Filled:
    """One filled picture. image, original: uint8 [H, W, 3]; mask: bool [H, W], True = hole; samples: its candidates;
    face, original_face: what was found in both; others: vectors of the person's other photos; cost: of the fill."""

    suite: MetricSuite
    image: np.ndarray
    original: np.ndarray
    mask: np.ndarray
    samples: tuple[np.ndarray, ...]
    face: Face
    original_face: Face
    others: Sequence[np.ndarray]
    cost: Mapping[str, float]

    @cached_property
    def ssim(self) -> tuple[float, float]:
        """Of the whole picture and of the hole, as the three below."""
        return ssim(self.image, self.original, self.mask)

    @cached_property
    def ms_ssim(self) -> tuple[float, float]:
        """As ssim."""
        return ms_ssim(self.image, self.original, self.mask)

    @cached_property
    def alex(self) -> tuple[float, float]:
        """As ssim."""
        return self.suite.lpips_alex.distance(self.image, self.original, self.mask)

    @cached_property
    def vgg(self) -> tuple[float, float]:
        """As ssim; NaN without the network's weights."""
        net = self.suite.lpips_vgg
        return net.distance(self.image, self.original, self.mask) if net else (NAN, NAN)

    def to_others(self, face: Face) -> float:
        """Mean cosine to the person's other photos; NaN without any. A face that was not found counts 0."""
        found = [identity_similarity(face and face[0], other) for other in self.others]
        return float(np.mean(found)) if found else NAN

    def to_original(self) -> float:
        """Cosine to the original; NaN only when no face is found in that."""
        if self.original_face is None:
            return NAN
        return identity_similarity(self.face and self.face[0], self.original_face[0])

    def landmark_error(self) -> float:
        """See metric_networks.py."""
        return landmark_error(self.face and self.face[1], self.original_face and self.original_face[1], self.mask)


@dataclass
class PictureSet:
    """A method's pictures. real, fake: features [N, D] of the same photos, untouched and filled; people: whose they
    are; others: per photo features [K, D] of the person's other photos; draws: of the bootstrap."""

    real: np.ndarray
    fake: np.ndarray
    people: list[str]
    others: Sequence[np.ndarray]
    draws: int

    @cached_property
    def discriminated(self) -> tuple[np.ndarray, np.ndarray]:
        """(U-IDS, P-IDS) of each photo."""
        return inception_discriminative(self.real, self.fake, self.people)

    @cached_property
    def gallery(self) -> Gallery:
        """All untouched photos; one that is in several cases, as original or as other photo, is there once."""
        owners = np.array(self.people + [who for who, own in zip(self.people, self.others) for _ in own])
        vectors, first = np.unique(np.concatenate([self.real, *self.others]), axis=0, return_index=True)
        return Gallery(vectors, owners[first])

    @cached_property
    def threshold(self) -> float:
        """The gallery's."""
        return self.gallery.threshold()

    def mean(self, values: np.ndarray) -> Estimate:
        """With its interval over people."""
        return estimate(values, self.people, self.draws)

    def distance(self, measure: Callable[[np.ndarray], float]) -> Estimate:
        """See set_distance."""
        return set_distance(measure, self.people, min(self.draws, SET_DRAWS))

    def seen_distance(self) -> Estimate | None:
        """The Frechet distance where a face was found in both pictures; None for fewer than three."""
        seen = np.any(self.real, axis=1) & np.any(self.fake, axis=1)
        if seen.sum() <= 2:
            return None
        a, b, whose = self.real[seen], self.fake[seen], [name for name, found in zip(self.people, seen) if found]
        return set_distance(lambda w: frechet_distance(a, b, w), whose, min(self.draws, SET_DRAWS))

    def accepted(self, vectors: np.ndarray) -> Estimate | None:
        """Matches of the person's other photos above the threshold; None where there is only one person."""
        return self.mean(accepted(vectors, self.others, self.threshold)) if np.isfinite(self.threshold) else None

    def recognised(self, vectors: np.ndarray) -> Estimate | None:
        """Rank-1 recognition; None as above."""
        return self.mean(recognised(vectors, self.people, self.others)) if np.isfinite(self.threshold) else None

    def auc(self) -> Estimate | None:
        """Of real pairs of one person against pairs of two; None without any."""
        ranks, whose = self.gallery.genuine_ranks() if np.isfinite(self.threshold) else ((), ())
        return estimate(ranks, whose, min(self.draws, SET_DRAWS)) if len(ranks) else None


@dataclass(frozen=True)
class Metric:
    """title, decimals: how it is shown; lower: smaller is better; group: the table it stands in, none where empty;
    against: how it is compared with Telea, and run with run: difference, ratio, or not at all; overview: on the
    report's first table; of, of_set: its function; features: what of_set reads, inception [2048] or sface [128] (all
    zero: no face found)."""

    title: str
    decimals: int
    group: str = ""
    lower: bool = False
    against: str = ""
    overview: bool = False
    of: Callable[[Filled], float] | None = None
    of_set: Callable[[PictureSet], Estimate | None] | None = None
    features: str = ""


def _picture(title: str, decimals: int, group: str, of: Callable[[Filled], float], **more) -> Metric:
    return Metric(title, decimals, group, of=of, **{"against": "difference", **more})


def _set(title: str, decimals: int, group: str, features: str, of_set: Callable, **more) -> Metric:
    return Metric(title, decimals, group, of_set=of_set, features=features, **more)


LESS = {"lower": True, "against": "ratio"}
PICTURE, HOLE, PERSON, SET = "Picture", "Hole", "Person", "Set and cost"
TABLE = {
    "psnr": _picture("PSNR (dB)", 2, PICTURE, lambda f: psnr(f.image, f.original)),
    "ssim": _picture("SSIM", 4, PICTURE, lambda f: f.ssim[0]),
    "ms_ssim": _picture("MS-SSIM", 4, PICTURE, lambda f: f.ms_ssim[0], overview=True),
    "lpips_alex": _picture("LPIPS-alex", 4, PICTURE, lambda f: f.alex[0], overview=True, **LESS),
    "lpips_vgg": _picture("LPIPS-vgg", 4, PICTURE, lambda f: f.vgg[0], overview=True, **LESS),
    "psnr_hole": _picture("PSNR hole (dB)", 2, HOLE, lambda f: psnr(f.image, f.original, f.mask), overview=True),
    "ssim_hole": _picture("SSIM hole", 3, HOLE, lambda f: f.ssim[1]),
    "ms_ssim_hole": _picture("MS-SSIM hole", 3, HOLE, lambda f: f.ms_ssim[1]),
    "lpips_alex_hole": _picture("LPIPS-alex hole", 3, HOLE, lambda f: f.alex[1], **LESS),
    "lpips_vgg_hole": _picture("LPIPS-vgg hole", 3, HOLE, lambda f: f.vgg[1], **LESS),
    "identity_original": _picture("identity to original", 3, PERSON, Filled.to_original, overview=True),
    "identity_other": _picture("identity to other photos", 3, PERSON, lambda f: f.to_others(f.face), overview=True),
    "identity_other_ceiling": _picture(
        "of the original", 3, "", lambda f: f.to_others(f.original_face), against=""
    ),
    "detected": _picture("detected", 3, "", lambda f: int(f.face is not None), against=""),
    "tar": _set("TAR at FAR 0.1 %", 3, PERSON, "sface", lambda s: s.accepted(s.fake), overview=True),
    "tar_ceiling": _set("TAR of the original", 3, "", "sface", lambda s: s.accepted(s.real)),
    "recognised": _set("recognised", 3, PERSON, "sface", lambda s: s.recognised(s.fake), overview=True),
    "recognised_ceiling": _set("originals recognised", 3, "", "sface", lambda s: s.recognised(s.real)),
    "identity_auc": _set("AUC of real pairs", 4, "", "sface", PictureSet.auc),
    "landmark_error": _picture(
        "landmark error in the hole (%)", 2, PERSON, Filled.landmark_error, lower=True, overview=True
    ),
    "seam_error": _picture(
        "seam error (grey levels)", 2, PERSON, lambda f: seam_error(f.image, f.original, f.mask), lower=True,
        overview=True,
    ),
    "fid": _set(
        "FID", 2, SET, "inception", lambda s: s.distance(lambda w: frechet_distance(s.real, s.fake, w)), lower=True,
        overview=True,
    ),
    "kid": _set(
        "KID", 4, SET, "inception", lambda s: s.distance(kernel_distance(s.real, s.fake)), lower=True, overview=True
    ),
    "id_fid": _set("ID-FID", 3, SET, "sface", PictureSet.seen_distance, lower=True, overview=True),
    "u_ids": _set("U-IDS", 3, SET, "inception", lambda s: s.mean(s.discriminated[0])),
    "p_ids": _set("P-IDS", 3, SET, "inception", lambda s: s.mean(s.discriminated[1])),
    "diversity": _picture("diversity", 3, SET, lambda f: f.suite.diversity(f.samples), against="", overview=True),
    "seconds": _picture("s/image", 2, SET, lambda f: f.cost["seconds"], lower=True, against="", overview=True),
    "peak_mb": _picture("peak memory (MB)", 0, SET, lambda f: f.cost["peak_mb"], lower=True, against="", overview=True),
}  # fmt: skip
SCORED = tuple(name for name, row in TABLE.items() if row.of)  # columns of rows.csv
COMPARED = tuple(name for name, row in TABLE.items() if row.against)  # a run with another one
OVERVIEW = tuple(name for name, row in TABLE.items() if row.overview)
GROUPS = {group: tuple(n for n, row in TABLE.items() if row.group == group) for group in (PICTURE, HOLE, PERSON, SET)}


def score(filled: Filled) -> dict[str, float]:
    """All scores of one picture by column of rows.csv."""
    return {name: TABLE[name].of(filled) for name in SCORED}


def score_set(pictures: PictureSet, features: str) -> dict[str, Estimate]:
    """The metrics that read these features (inception or sface) over a method's pictures."""
    rows = {name: row for name, row in TABLE.items() if row.features == features}
    made = {name: row.of_set(pictures) for name, row in rows.items()}
    return {name: value for name, value in made.items() if value is not None}


def heading(metric: str) -> tuple[str, int]:
    """(heading, decimals)."""
    return TABLE[metric].title, TABLE[metric].decimals


def better_word(metric: str) -> str:
    """Which way is better."""
    return "lower" if TABLE[metric].lower else "higher"
