"""Test cases that hide whole features of a face by their landmarks, and the windows round what is hidden."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from cases import MAX_REFERENCES, Item, plan_photos, read_rgb

from idinpaint.faces.features import feature_regions
from idinpaint.types import CROP_SIZE, InputError

WINDOW = 72  # px, side of a component's window
KINDS = ("eye", "nose", "mouth", "eyes", "nose+mouth", "eye+mouth", "eyes+nose")  # one a photo, in turn
CORNER = "corner"  # a torn corner over hair and background, once every len(KINDS) photos
HIDDEN = {"left_eye": ("left_eye", "left_brow"), "right_eye": ("right_eye", "right_brow")}
HIDDEN |= {"nose": ("nose",), "mouth": ("mouth",)}
POINTS = {"left_eye": slice(36, 42), "right_eye": slice(42, 48), "nose": slice(29, 36), "mouth": slice(48, 60)}
GROWN = (3, 10)  # px by which a mask reaches beyond the feature
OTHERS = 3  # photos of the person that no method sees, as in the benchmark


@dataclass(frozen=True)
class Window:
    """A hidden component. name: eye, nose, mouth or corner; key: which one; corner: (x, y) px of its window's top left;
    middle: bool [256, 256], the feature itself."""

    name: str
    key: str
    corner: tuple[int, int]
    middle: np.ndarray

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """[256, 256, ...] -> a copy of its part in the window."""
        x, y = self.corner
        return np.ascontiguousarray(picture[y : y + WINDOW, x : x + WINDOW])


@dataclass(frozen=True)
class Case(Item):
    """A test case with whole features hidden; its bin is the kind, one of KINDS or CORNER."""

    windows: tuple[Window, ...]


def hidden_features(kind: str, rng: np.random.Generator) -> list[str]:
    """The features that a kind of KINDS hides: `eye` is one of the two."""
    found = []
    for word in kind.split("+"):
        if word == "eye":
            found.append(("left_eye", "right_eye")[int(rng.integers(2))])
        else:
            found += ["left_eye", "right_eye"] if word == "eyes" else [word]
    return found


def feature_mask(names: list[str], regions: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """bool [256, 256]: each feature under its own outline (an eye with its brow), a few px larger; two eyes half of the
    time under one band."""
    groups = [[name] for name in names]
    if {"left_eye", "right_eye"} <= set(names) and rng.random() < 0.5:
        groups = [["left_eye", "right_eye"], *([name] for name in names if "eye" not in name)]
    mask = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
    for group in groups:
        area = np.any([regions[part] for name in group for part in HIDDEN[name]], axis=0)
        if area.any():
            cv2.fillConvexPoly(mask, cv2.convexHull(np.argwhere(area)[:, ::-1].astype(np.int32)), 1)
    side = 2 * int(rng.integers(*GROWN)) + 1
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))).astype(bool)


def torn_corner(rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """(bool [256, 256], (x, y) px): an upper corner torn off along a ragged line, and the middle of its edge."""
    ends = np.array([[rng.uniform(90, 150), 0], [0, rng.uniform(110, 190)]])
    along = np.linspace(0, 1, 14)[:, None]
    line = ends[0] * (1 - along) + ends[1] * along
    line[1:-1] += rng.normal(0, 5, (12, 2))
    mask = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.concatenate([line, [[0, 0]]])).astype(np.int32)], 1)
    x, y = line[7] * 0.85  # the window holds the edge, and more of the hole than of the rest
    if rng.random() < 0.5:
        return np.ascontiguousarray(mask[:, ::-1]).astype(bool), (int(CROP_SIZE - 1 - x), int(y))
    return mask.astype(bool), (int(x), int(y))


def window_at(name: str, key: str, centre: tuple[float, float], middle: np.ndarray) -> Window:
    """The window round a centre (x, y) px, moved into the frame."""
    x, y = (int(np.clip(round(float(c)) - WINDOW // 2, 0, CROP_SIZE - WINDOW)) for c in centre)
    return Window(name, key, (x, y), middle)


def damage(kind: str, points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[Window, ...]]:
    """(mask bool [256, 256], the hidden components). points: [68, 2] px of the untouched photo; no method sees them."""
    if kind == CORNER:
        mask, centre = torn_corner(rng)
        return mask, (window_at(CORNER, f"{CORNER}{centre}", centre, mask),)
    regions = feature_regions(points)
    names = hidden_features(kind, rng)
    mask = feature_mask(names, regions, rng)
    windows = []
    for name in names:
        low, high = points[POINTS[name]].min(0), points[POINTS[name]].max(0)
        windows.append(window_at(name.split("_")[-1], name, tuple((low + high) / 2), regions[name] & mask))
    return mask, tuple(windows)


def plan_cases(
    data: Path, points: Mapping[str, np.ndarray], count: int, seed: int, only_corners: bool = False
) -> Iterator[Case]:
    """Cases of `count` photos of test people, one of each person before a second of any, each with whole features
    hidden, and every seventh with a torn corner too; only_corners: every photo with a torn corner, no features.
    Raises InputError when there are not so many photos."""
    photos = [(entry, rest) for entry, rest in plan_photos(data, seed) if entry.key in points]
    if not 1 <= count <= len(photos):
        raise InputError(f"count {count}: the test split has 1 to {len(photos)} photos")
    for index in range(count):
        entry, rest = photos[index]
        photo, kind = read_rgb(entry.path), KINDS[index % len(KINDS)]
        names = enumerate([kind, CORNER] if kind == KINDS[-1] or only_corners else [kind])
        for number, name in list(names)[int(only_corners) :]:
            mask, windows = damage(name, points[entry.key], np.random.default_rng([seed, index, number]))
            others, seen = rest[:OTHERS], rest[OTHERS : OTHERS + MAX_REFERENCES]
            yield Case(name, index, entry, name, photo, mask, others, seen, seed * 1_000_003 + index, windows)
