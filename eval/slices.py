"""What a test case is like: hidden features, pose, light; as columns of the rows, and as slices of a table.

Everything is read from the ORIGINAL photo; no method sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from idinpaint.faces.features import coverage, face_coverage, feature_regions

CASE_COLUMNS = ("coverage", "hidden", "yaw", "light", "side_light")
HIDDEN_FROM = 0.5  # share of a feature under the mask from which it counts as hidden
TURNED_FROM = 0.25  # |yaw|, about 15 degrees
DARK, SIDE_LIT = 90.0, 0.15
COVERAGE_EDGES = (0.0, 0.05, 0.15, 0.25, 0.35, 0.5, 1.0)


def yaw_of(points: np.ndarray) -> float:
    """Where the nose tip lies between the outer eye corners, -1 to 1; 0 = frontal. points [68, 2] px."""
    left, right, nose = points[36], points[45], points[30]
    axis = right - left
    return float(2 * ((nose - left) @ axis) / max(float(axis @ axis), 1e-6) - 1)


def describe(photo: np.ndarray, mask: np.ndarray, points: np.ndarray | None) -> dict[str, object]:
    """CASE_COLUMNS of a case: photo uint8 [256, 256, 3], mask bool [256, 256], points [68, 2] px of the whole photo.

    coverage in [0, 1]; hidden: names joined by +, or none; yaw: yaw_of; light: mean luma of the face, 0 to 255;
    side_light: |left - right| / (left + right) of its halves. NaN, and "unknown", without points.
    """
    if points is None:
        nan = float("nan")
        return {"coverage": nan, "hidden": "unknown", "yaw": nan, "light": nan, "side_light": nan}
    regions = feature_regions(points)
    shares = coverage(regions, mask)
    hidden = [name for name, share in shares.items() if share >= HIDDEN_FROM]
    luma = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float64)
    skin, columns = regions["skin"], np.arange(mask.shape[1])[None]
    middle = points[27:36, 0].mean()
    halves = [skin & (columns < middle), skin & (columns >= middle)]
    left, right = (luma[half].mean() if half.any() else 0.0 for half in halves)
    return {
        "coverage": face_coverage(shares),
        "hidden": "+".join(hidden) or "none",
        "yaw": yaw_of(points),
        "light": float(luma[skin].mean()) if skin.any() else float("nan"),
        "side_light": float(abs(left - right) / max(left + right, 1.0)),
    }


def _number(row: Mapping[str, str], name: str) -> float:
    return float(row.get(name) or "nan")


def _coverage(row: Mapping[str, str]) -> list[str]:
    value = _number(row, "coverage")
    for low, high in zip(COVERAGE_EDGES, COVERAGE_EDGES[1:]):
        if low <= value < high or value == high == COVERAGE_EDGES[-1]:
            return [f"{100 * low:.0f}-{100 * high:.0f} %"]
    return []


def _hidden(row: Mapping[str, str]) -> list[str]:
    names = row.get("hidden", "unknown")
    return [] if names == "unknown" else names.split("+")


def _pose(row: Mapping[str, str]) -> list[str]:
    yaw = _number(row, "yaw")
    return [] if np.isnan(yaw) else ["turned" if abs(yaw) >= TURNED_FROM else "frontal"]


def _lighting(row: Mapping[str, str]) -> list[str]:
    light, side = _number(row, "light"), _number(row, "side_light")
    if np.isnan(light):
        return []
    return ["dark" if light < DARK else "from the side" if side >= SIDE_LIT else "even"]


def _mask_kind(row: Mapping[str, str]) -> list[str]:
    base = row["bin"].partition("@")[0]
    return ["irregular" if base[0].isdigit() else base]


def _hole(row: Mapping[str, str]) -> list[str]:
    low = int(10 * _number(row, "hole_ratio")) * 10
    return [f"{low}-{low + 10} %"]


def _shift(row: Mapping[str, str]) -> list[str]:
    return [row["bin"].partition("@")[2] or "none"]


SLICES: dict[str, Callable[[Mapping[str, str]], list[str]]] = {
    "hole": _hole,
    "feature coverage": _coverage,
    "hidden feature": _hidden,
    "mask": _mask_kind,
    "pose": _pose,
    "lighting": _lighting,
    "shift": _shift,
}


def slice_rows(
    rows: Sequence[Mapping[str, str]], labels: Mapping[str, Mapping[str, str]] | None = None
) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """(slice, value) -> rows. A photo with two hidden features is in both values.

    labels: `person/photo` -> column -> value, of photos that somebody labelled (skin tone, apparent age, ...).
    """
    readers = dict(SLICES)
    for column in dict.fromkeys(name for of_photo in (labels or {}).values() for name in of_photo):
        readers[column] = lambda row, c=column: [
            v for v in [(labels or {}).get(f"{row['person']}/{row['photo']}", {}).get(c)] if v
        ]
    found: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for name, read in readers.items():
        for row in rows:
            for value in read(row):
                found.setdefault((name, value), []).append(row)
    order = list(readers)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), _natural(item[0][1]))))


def _natural(value: str) -> tuple[float, str]:
    head = value.split("-")[0]
    return (float(head), value) if head.isdigit() else (float("inf"), value)
