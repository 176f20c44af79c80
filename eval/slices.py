"""What a test case is like: hidden features, pose, light; as columns of the rows, and as slices of a table.

Everything is read from the ORIGINAL photo; no method sees it.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd

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
        return dict.fromkeys(CASE_COLUMNS, float("nan")) | {"hidden": "unknown"}
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


def slice_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """A column a slice: the row's value, a list of values, or NaN where it is unknown."""
    base, shift = (rows["bin"].str.partition("@")[part] for part in (0, 2))
    hole = (10 * rows["hole_ratio"]).astype(int) * 10
    edges = [100 * edge for edge in COVERAGE_EDGES]
    names = [f"{low:.0f}-{high:.0f} %" for low, high in zip(edges, edges[1:])]
    share, yaw, light = rows["coverage"].clip(upper=np.nextafter(1, 0)), rows["yaw"].abs(), rows["light"]
    even = np.where(rows["side_light"] >= SIDE_LIT, "from the side", "even")
    return pd.DataFrame({
        "hole": hole.astype(str) + "-" + (hole + 10).astype(str) + " %",
        "feature coverage": pd.cut(share, list(COVERAGE_EDGES), right=False, labels=names).astype(object),
        "hidden feature": rows["hidden"].where(rows["hidden"] != "unknown").str.split("+"),
        "mask": base.where(~base.str[0].str.isdigit(), "irregular"),
        "pose": pd.Series(np.where(yaw >= TURNED_FROM, "turned", "frontal"), rows.index).where(yaw.notna()),
        "lighting": pd.Series(np.where(light < DARK, "dark", even), rows.index).where(light.notna()),
        "shift": shift.replace("", "none"),
    })  # fmt: skip


def slice_rows(
    rows: pd.DataFrame, labels: Mapping[str, Mapping[str, str]] | None = None
) -> dict[tuple[str, str], pd.DataFrame]:
    """(slice, value) -> rows. A photo with two hidden features is in both values.

    labels: `person/photo` -> column -> value, of photos that somebody labelled (skin tone, apparent age, ...).
    """
    rows = rows.reset_index(drop=True)
    columns = slice_columns(rows.reindex(columns=[*dict.fromkeys((*rows.columns, *CASE_COLUMNS))]))
    labelled = pd.DataFrame.from_dict(dict(labels or {}), orient="index").replace("", np.nan)
    photos = rows["person"] + "/" + rows["photo"]
    columns = columns.join(labelled.reindex(photos).set_axis(rows.index))
    found = {}
    for name in columns:
        values = columns[name].explode().dropna()
        for value in sorted(values.unique(), key=_natural):
            found[name, value] = rows.loc[values.index[values == value]]
    return found


def _natural(value: str) -> tuple[float, str]:
    head = value.split("-")[0]
    return (float(head), value) if head.isdigit() else (float("inf"), value)
