"""Which candidate is kept: identity first, then how well it fits its surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from idinpaint.types import Candidate, FaceAnalysis

TIE = 0.02  # identity similarities nearer than this say nothing about which candidate is the better likeness
# One grey level from the candidates' mean weighs as much as a tenth of the surroundings' gradient: what one candidate
# alone has is more often a blemish than a find. Of four tries each at 1,108 training people's hidden features, graded 0
# to 2 by eye, the kept ones had (by landmark shift, as before -> so; the mean try): mouths .90 -> 1.10 (.96), noses
# 1.03 -> 1.10 (1.00), both eyes .79 -> .83 (.78), one eye 1.28 -> 1.31 (1.17).
APART_WEIGHT = 0.1
# Earlier samples start from better graded noise (painting/chosen_noise.py): the last weighs that much more than the
# first. Of 32 painted pairs of eyes graded blind 0 to 3 the kept ones had .4 less than the first without it.
ORDER_WEIGHT = 0.2
TWIN_WEIGHT = 0.05  # one unit of CIELAB between a painted eye and its visible twin, as much as a twentieth
# A correlation of 1 instead of 0 with the twin, as much as the whole gradient. Of one hidden eye each of 60 validation
# photos the kept try was .772 from the true one (AlexNet distance of windows), .805 without; the mean try .802.
LIKENESS_WEIGHT = 1.0
DISAGREEMENT_SCALE = 8.0  # grey levels on the map for each grey level of standard deviation between candidates


def seam_ratio(crop: np.ndarray, mask: np.ndarray) -> float:
    """Mean step across the hole's edge over the mean step between known neighbours near it; 1 = nothing shows.

    crop: uint8 [H, W, 3]; mask: bool [H, W], True = hole. 0 when no known pixel touches the hole.
    """
    values, across, known = crop.astype(np.float32), [], []
    near = _near(mask)
    for axis in (0, 1):
        step = np.abs(np.diff(values, axis=axis)).mean(-1)
        first, second = (np.delete(mask, -1, axis), np.delete(mask, 0, axis))
        across.append(step[first != second])
        close = np.delete(near, -1, axis) & np.delete(near, 0, axis)
        known.append(step[~first & ~second & close])
    edge, plain = np.concatenate(across), np.concatenate(known)
    if not edge.size:
        return 0.0
    return float(edge.mean() / (1.0 + (plain.mean() if plain.size else 0.0)))


def _near(mask: np.ndarray, px: int = 6) -> np.ndarray:
    """bool [H, W]: within px of the hole."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * px + 1, 2 * px + 1), np.uint8)).astype(bool)


def rank(candidates: Sequence[Candidate], face: FaceAnalysis) -> list[Candidate]:
    """Best first, each with its seam, its landmark shift where a believer read it, how far it is from the candidates'
    mean, and the reason of its place.

    Identity decides unless similarities lie within TIE of the leader's; among those the better fit wins: the seam
    ratio plus APART_WEIGHT x the distance from the mean and TWIN_WEIGHT x the colour's distance from a visible twin's,
    less LIKENESS_WEIGHT x an eye's likeness to it, and up to ORDER_WEIGHT by its number, lower is better. Without an
    identity the fit alone decides.
    """
    mean = np.mean([c.image for c in candidates], axis=0, dtype=np.float32) if candidates else None
    left = [
        replace(
            c,
            seam=seam_ratio(c.image, face.crop_mask),
            landmark_shift=getattr(c.looked, "shift", None),
            apart=_apart(c.image, mean, face.crop_mask),
        )
        for c in candidates
    ]
    if len(left) <= 1:
        return [replace(c, reason="the only candidate") for c in left]
    ranked: list[Candidate] = []
    first = min(c.seed for c in left)
    while left:
        leader = max(left, key=_identity)
        tied = [c for c in left if _identity(leader) - _identity(c) <= TIE]
        best = min(tied, key=lambda c: _misfit(c) + ORDER_WEIGHT * (c.seed - first) / len(candidates))
        ranked.append(replace(best, reason=_reason(best, leader, len(tied))))
        left = [c for c in left if c is not best]
    # What looks like nobody comes after everything that does, whatever it is like.
    return sorted(ranked, key=_unbelievable)


def believable(candidate: Candidate) -> bool:
    """Whether it looks like a person, as far as anyone looked."""
    return candidate.believable is None or candidate.believable >= 1


def _unbelievable(candidate: Candidate) -> float:
    """0 for a believable candidate, else the more the less it is one."""
    return 0.0 if believable(candidate) else 2.0 - candidate.believable


def _apart(crop: np.ndarray, mean: np.ndarray, mask: np.ndarray) -> float:
    """Mean distance of a crop from the candidates' mean inside the mask, grey levels."""
    return float(np.abs(crop.astype(np.float32) - mean)[mask].mean()) if mask.any() else 0.0


def _identity(candidate: Candidate) -> float:
    return -1.0 if candidate.identity_similarity is None else candidate.identity_similarity


def _misfit(candidate: Candidate) -> float:
    fit = (candidate.seam or 0.0) + APART_WEIGHT * (candidate.apart or 0.0)
    colour, likeness = _beside_twin(candidate)
    return fit + TWIN_WEIGHT * colour - LIKENESS_WEIGHT * likeness


def _beside_twin(candidate: Candidate) -> tuple[float, float]:
    """(twin_colour, twin_likeness) of a painted eye, zeros where there is no visible twin."""
    looked = candidate.looked
    return getattr(looked, "twin_colour", None) or 0.0, getattr(looked, "twin_likeness", None) or 0.0


def _reason(best: Candidate, leader: Candidate, tied: int) -> str:
    fit = f"seam {best.seam:.2f} x its surroundings, {best.apart:.1f} grey levels from the candidates' mean"
    colour, likeness = _beside_twin(best)
    if colour:
        fit += f", the eye {likeness:.2f} like its twin, its colour {colour:.1f} from the twin's"
    if best.painter is not None:
        fit += f"; painted by {best.painter}, since nothing believable was"
    if not believable(best):
        fit += f"; believable only {best.believable:.2f} of what is needed, so it comes after those that are"
    if best.identity_similarity is None:
        return f"no identity to compare with; best fit of those left: {fit}"
    if tied == 1:
        return f"nearest in identity of those left ({best.identity_similarity:.3f}); {fit}"
    if best is leader:
        return f"nearest in identity ({best.identity_similarity:.3f}) and best fit of {tied} within {TIE}: {fit}"
    return f"best fit of {tied} whose identity lies within {TIE} of {leader.identity_similarity:.3f}: {fit}"


def disagreement(candidates: Sequence[Candidate], mask: np.ndarray) -> np.ndarray | None:
    """Standard deviation between the candidates, mean over RGB: float32 [H, W] grey levels, 0 outside the hole.

    None with fewer than two candidates: one alone does not show what it made up.
    """
    if len(candidates) < 2:
        return None
    spread = np.stack([c.image for c in candidates]).astype(np.float32).std(axis=0).mean(-1)
    return np.where(mask, spread, 0.0).astype(np.float32)


def disagreement_picture(spread: np.ndarray) -> np.ndarray:
    """[H, W] grey levels -> uint8 [H, W, 3], DISAGREEMENT_SCALE times as bright."""
    grey = np.clip(np.rint(spread * DISAGREEMENT_SCALE), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
