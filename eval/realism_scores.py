"""Do hidden features look real? Distances between sets of windows, and the tables of a realism run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from cases import same_person
from estimates import UNKNOWN, Estimate, compare, estimate, interval, resample_weights
from set_scores import cubic_kernel, frechet_distance
from tables import column, markdown_table

from idinpaint.types import LUMA

DRAWS = 1000
SPLITS = 200  # random halves of the people, of the real windows' own distance
Rows = pd.DataFrame
Features = Mapping[str, Mapping[str, np.ndarray]]
Lines = list[list[str]]


def gradient_energy(window: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """(mean length, mean squared length) of the luminance's gradient (central differences) over the hole's px.

    window: uint8 [H, W, 3]; hole: bool [H, W]. NaN without a hole.
    """
    if not hole.any():
        return float("nan"), float("nan")
    dy, dx = np.gradient(window.astype(np.float64) @ LUMA)
    squared = (dx**2 + dy**2)[hole]
    return float(np.sqrt(squared).mean()), float(squared.mean())


def paired_kid(real: np.ndarray, fake: np.ndarray, people: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """KID (Binkowski 2018, kernel (x.y / D + 1)^3) of the same windows untouched and restored, features [N, D] twice.

    The U-statistic over pairs of windows (Gretton 2012, eq. 5: k(x, x') + k(y, y') - k(x, y') - k(x', y)), pairs of one
    person left out: a window is never compared with itself, its own restoration or its person's other photos, so two
    equal distributions have expectation 0. Returns a function of weights [R, N] -> [R].
    """
    cross = cubic_kernel(real, fake)
    pairs = cubic_kernel(real, real) + cubic_kernel(fake, fake) - cross - cross.T
    names = np.asarray(people)
    other = (names[:, None] != names[None]).astype(np.float64)

    def measure(weights: np.ndarray) -> np.ndarray:
        top = np.einsum("ri,ri->r", weights @ (pairs * other), weights)
        count = np.einsum("ri,ri->r", weights @ other, weights)
        return top / np.where(count > 0, count, np.nan)

    return measure


def real_kid(real: np.ndarray, people: Sequence[str]) -> Estimate:
    """KID of the real windows of half of the people against those of the other half: mean and 95 % of random halves."""
    kernel, names = cubic_kernel(real, real), np.asarray(people)
    other = (names[:, None] != names[None]).astype(np.float64)
    rng, unique, values = np.random.default_rng(0), np.unique(names), []

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ (kernel * other) @ b / max(a @ other @ b, 1))

    for _ in range(SPLITS if len(unique) > 3 else 0):
        a = np.isin(names, rng.permutation(unique)[: len(unique) // 2]).astype(np.float64)
        values.append(mean(a, a) + mean(1 - a, 1 - a) - 2 * mean(a, 1 - a))
    return interval(np.array(values), float(np.mean(values))) if values else UNKNOWN


# Rows of the tables: the windows of a component, and the kinds of cases that they come from (None: all).
GROUPS = {"eye": ("eye", None), "eye of both": ("eye", ("eyes", "eyes+nose")), "nose": ("nose", None)}
GROUPS |= {"mouth": ("mouth", None), "corner": ("corner", None)}


def rows_of(rows: Rows, arm: str, group: str) -> Rows:
    """An arm's windows of one of GROUPS."""
    component, kinds = GROUPS[group]
    chosen = (rows["arm"] == arm) & (rows["component"] == component)
    return rows[chosen & rows["kind"].isin(kinds)] if kinds else rows[chosen]


def cases_of(rows: Rows, arm: str, kinds: Sequence[str] | None = None) -> Rows:
    """One row a case with a hidden feature."""
    own = rows[(rows["arm"] == arm) & (rows["kind"] != "corner")].drop_duplicates("case", keep="last")
    return own[own["kind"].isin(kinds)] if kinds else own


def people_of(rows: Rows) -> list[str]:
    """Whose each row is; two labels of one person count as one."""
    return rows["person"].replace(same_person()).tolist()


def inception_of(rows: Rows, fake: Features, real: Features) -> list[np.ndarray]:
    """[N, 2048] of these rows' windows, untouched and restored."""
    return [np.stack([table[n]["inception"] for n in rows[key]]) for table, key in ((real, "real"), (fake, "window"))]


def kid_of(rows: Rows, fake: Features, real: Features) -> Callable[[np.ndarray], np.ndarray]:
    """KID x 1000 of these rows' windows as a function of weights."""
    measure = paired_kid(*inception_of(rows, fake, real), people_of(rows))
    return lambda weights: 1000 * measure(weights)


def component_lines(rows: Rows, features: Mapping[str, Features], real: Features) -> list[str]:
    """Markdown: one line an arm and component."""
    lines = []
    for group in GROUPS:
        for arm in features:
            own = rows_of(rows, arm, group)
            people = people_of(own)
            if len(set(people)) < 2:
                continue
            fid, measure = frechet_distance(*inception_of(own, features[arm], real)), kid_of(own, features[arm], real)
            kid = interval(measure(resample_weights(people, DRAWS)), float(measure(np.ones((1, len(own))))[0]))
            grad = compare(column(own, "gradient"), column(own, "gradient_real"), people, DRAWS, "ratio")
            psnr, lpips = (estimate(column(own, name), people, DRAWS) for name in ("psnr_hole", "lpips"))
            apart = f"{own['apart'].mean():.4f}" if own["apart"].notna().any() else ""
            numbers = (f"{kid:.1f}", f"{fid:.0f}", f"{grad:.2f}", f"{psnr:.2f}", f"{lpips:.3f}", apart)
            lines.append([arm, group, len(own), *numbers])
        own = rows_of(rows, next(iter(features)), group)
        if len(set(people_of(own))) > 3:
            anchor = real_kid(np.stack([real[name]["inception"] for name in own["real"]]), people_of(own))
            kid = Estimate(*(1000 * v for v in anchor))
            lines.append(["real against real", group, len(own), f"{kid:.1f}", "", "1", "", "", ""])
    head = ("method", "hidden", "n", "KID x 1000", "FID", "gradient", "hole PSNR", "LPIPS window")
    return markdown_table([*head, "4 candidates apart"], lines)


def case_lines(rows: Rows, arms: Sequence[str]) -> list[str]:
    """Markdown: what is measured on the whole face."""
    lines = []
    for label, kinds in (("", None), (", both eyes", ("eyes", "eyes+nose"))):
        for arm in arms:
            own = cases_of(rows, arm, kinds)
            if len(own):
                like, error = (estimate(column(own, c), people_of(own), DRAWS) for c in ("identity", "landmark_error"))
                lines.append([arm + label, len(own), f"{like:.3f}", f"{error:.2f}", (own["detected"] == 0).sum()])
    return markdown_table(["method", "cases", "identity to the original", "landmark error %", "face not found"], lines)


def kid_ratio(before: Callable, after: Callable, people: Sequence[str]) -> Estimate:
    """After / before, both over the same people drawn; NaN where before is not above 0."""
    weights = np.concatenate([np.ones((1, len(people))), resample_weights(list(people), DRAWS)])
    a, b = after(weights), before(weights)
    ratio = a / np.where(b > 0, b, np.nan)
    return interval(ratio[1:], float(ratio[0]))


def difference_lines(
    title: str, before: tuple[Rows, str, Features], after: tuple[Rows, str, Features], real: Features
) -> Lines:
    """Of a table under DIFFERENCE_HEAD, paired over the windows and cases that both have. A side: its rows, the arm,
    the arm's features."""

    def both(sides: Sequence[Rows], key: str) -> list[Rows]:
        """The rows that both sides have, in the first one's order."""
        sides = [side.drop_duplicates(key, keep="last").set_index(key, drop=False) for side in sides]
        shared = [name for name in sides[0].index if name in sides[1].index]
        return [side.loc[shared] for side in sides]

    def change(old: Rows, new: Rows, name: str) -> Estimate:
        return compare(column(new, name), column(old, name), people_of(old), DRAWS, "difference")

    lines = []
    for group in GROUPS:
        old, new = both([rows_of(rows, arm, group) for rows, arm, _ in (before, after)], "window")
        people = people_of(old)
        if len(set(people)) < 2:
            continue
        kid = kid_ratio(kid_of(old, before[2], real), kid_of(new, after[2], real), people)
        grad = " -> ".join(f"{r['gradient'].mean() / r['gradient_real'].mean():.2f}" for r in (old, new))
        psnr, lpips = change(old, new, "psnr_hole"), change(old, new, "lpips")
        lines.append([title, group, len(old), f"{kid:.2f}", grad, f"{psnr:+.2f}", f"{lpips:+.3f}", "", ""])
    old, new = both([cases_of(rows, arm) for rows, arm, _ in (before, after)], "case")
    if len(old):
        like, error = change(old, new, "identity"), change(old, new, "landmark_error")
        lines.append([title, "whole face", len(old), "", "", "", "", f"{like:+.3f}", f"{error:+.2f}"])
    return lines


DIFFERENCE_HEAD = ("after - before", "hidden", "n", "KID ratio", "gradient", "hole PSNR", "LPIPS window", "identity")
DIFFERENCE_HEAD += ("landmark error",)
