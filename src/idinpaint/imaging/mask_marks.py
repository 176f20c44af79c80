"""Masks that are marks in colour: strokes on a plain ground, or on a copy of the photo."""

from __future__ import annotations

import cv2
import numpy as np

FLAT_COLOURS = 6  # strokes have a few colours
FLAT_SHARE = 0.9  # of the pixels that those few colours make up; a photo's take up less
STRONG = 64  # levels between a colour's channels: not a grey
PLAIN = 16  # levels from black or white
CHANGED = 40  # levels: more than saving as JPEG changes
SAME = 8.0  # levels, median difference up to which a picture is a copy of the photo


def flat_share(colours: np.ndarray) -> float:
    """Share of the pixels uint8 [n, 3] that the FLAT_COLOURS most frequent colours (in steps of 32) make up."""
    codes = colours.astype(np.int32) >> 5
    counts = np.bincount(codes[:, 0] * 64 + codes[:, 1] * 8 + codes[:, 2], minlength=512)
    return float(np.sort(counts)[-FLAT_COLOURS:].sum() / max(1, len(colours)))


def coloured_strokes(rgb: np.ndarray) -> np.ndarray | None:
    """How much of a stroke each pixel is, uint8 [h, w], of coloured strokes on black or on white; else None."""
    low, high = rgb.min(-1).astype(int), rgb.max(-1).astype(int)
    chroma = high - low
    ground = max(float(np.mean(high <= PLAIN)), float(np.mean(low >= 255 - PLAIN)))
    strong = chroma >= STRONG
    if not strong.any() or ground + float(np.mean(chroma > PLAIN)) < 0.98 or ground < 0.2:
        return None
    if flat_share(rgb[strong]) < FLAT_SHARE:
        return None
    return np.rint(np.minimum(chroma * (255.0 / np.median(chroma[strong])), 255)).astype(np.uint8)


def marks_by_difference(marked: np.ndarray, photo: np.ndarray) -> np.ndarray | None:
    """The marks on a copy of the photo, bool [H, W]; None when it is no copy with marks of a few colours.

    marked, photo: uint8 [H, W, 3]. Pixels of the photo that have the marks' colour already belong to the marks that
    they touch.
    """
    difference = np.abs(marked.astype(np.int16) - photo).max(-1)
    changed = difference > CHANGED
    if changed.mean() > 0.6 or np.median(difference[~changed]) > SAME or photo.std() < 1:
        return None
    if not changed.any():
        return changed
    if flat_share(marked[changed]) < FLAT_SHARE:
        return None
    colour = np.median(marked[changed].astype(np.int16), axis=0)
    near = changed | (np.abs(marked - colour).max(-1) <= CHANGED // 2)
    # the rim of an anti-aliased stroke changes less than its middle
    near |= cv2.dilate(changed.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & (difference > SAME)
    count, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)
    touched = np.zeros(count, bool)
    touched[labels[changed]] = True
    return touched[labels]
