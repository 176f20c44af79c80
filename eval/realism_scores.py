"""Do hidden features look real? Distances between sets of windows, and the tables of a realism run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cases import same_person
from estimates import Estimate, compare, estimate, resample_weights
from set_metrics import frechet_distance

from idinpaint.types import LUMA

DRAWS = 1000
SPLITS = 200  # random halves of the people, of the real windows' own distance
Row = Mapping[str, str]
Rows = Sequence[Row]
Features = Mapping[str, Mapping[str, np.ndarray]]


def gradient_energy(window: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """(mean length, mean squared length) of the luminance's gradient (central differences) over the hole's px.

    window: uint8 [H, W, 3]; hole: bool [H, W]. NaN without a hole.
    """
    if not hole.any():
        return float("nan"), float("nan")
    dy, dx = np.gradient(window.astype(np.float64) @ LUMA)
    squared = (dx**2 + dy**2)[hole]
    return float(np.sqrt(squared).mean()), float(squared.mean())


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.asarray(x, np.float64) @ np.asarray(y, np.float64).T / x.shape[1] + 1) ** 3


def paired_kid(real: np.ndarray, fake: np.ndarray, people: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """KID (Binkowski 2018, kernel (x.y / D + 1)^3) of the same windows untouched and restored, features [N, D] twice.

    The U-statistic over pairs of windows (Gretton 2012, eq. 5: k(x, x') + k(y, y') - k(x, y') - k(x', y)), pairs of one
    person left out: a window is never compared with itself, its own restoration or its person's other photos, so two
    equal distributions have expectation 0. Returns a function of weights [R, N] -> [R].
    """
    cross = _cubic(real, fake)
    pairs = _cubic(real, real) + _cubic(fake, fake) - cross - cross.T
    names = np.asarray(people)
    other = (names[:, None] != names[None]).astype(np.float64)

    def measure(weights: np.ndarray) -> np.ndarray:
        top = np.einsum("ri,ri->r", weights @ (pairs * other), weights)
        count = np.einsum("ri,ri->r", weights @ other, weights)
        return top / np.where(count > 0, count, np.nan)

    return measure


def real_kid(real: np.ndarray, people: Sequence[str]) -> Estimate:
    """KID of the real windows of half of the people against those of the other half: mean and 95 % of random halves."""
    kernel, names = _cubic(real, real), np.asarray(people)
    other = (names[:, None] != names[None]).astype(np.float64)
    rng, unique, values = np.random.default_rng(0), np.unique(names), []

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ (kernel * other) @ b / max(a @ other @ b, 1))

    for _ in range(SPLITS if len(unique) > 3 else 0):
        a = np.isin(names, rng.permutation(unique)[: len(unique) // 2]).astype(np.float64)
        values.append(mean(a, a) + mean(1 - a, 1 - a) - 2 * mean(a, 1 - a))
    if not values:
        return Estimate(*[float("nan")] * 3)
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(np.mean(values)), float(low), float(high))


def interval(measure: Callable[[np.ndarray], np.ndarray], people: Sequence[str], draws: int = DRAWS) -> Estimate:
    """measure over all windows, its 95 % interval over people drawn with replacement."""
    samples = measure(resample_weights(list(people), draws))
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Estimate(float(measure(np.ones((1, len(people))))[0]), float(low), float(high))


# Rows of the tables: the windows of a component, and the kinds of cases that they come from (None: all).
GROUPS = {"eye": ("eye", None), "eye of both": ("eye", ("eyes", "eyes+nose")), "nose": ("nose", None)}
GROUPS |= {"mouth": ("mouth", None), "corner": ("corner", None)}


def rows_of(rows: Rows, arm: str, group: str) -> list[Row]:
    """An arm's windows of one of GROUPS."""
    component, kinds = GROUPS[group]
    return [r for r in rows if r["arm"] == arm and r["component"] == component and (not kinds or r["kind"] in kinds)]


def cases_of(rows: Rows, arm: str, kinds: Sequence[str] | None = None) -> list[Row]:
    """One row a case with a hidden feature."""
    own = {r["case"]: r for r in rows if r["arm"] == arm and r["kind"] != "corner"}
    return [r for r in own.values() if not kinds or r["kind"] in kinds]


def column(rows: Rows, name: str) -> np.ndarray:
    """[N] float64."""
    return np.array([float(r[name]) for r in rows])


def people_of(rows: Rows) -> list[str]:
    """Whose each row is; two labels of one person count as one."""
    same = same_person()
    return [same.get(r["person"], r["person"]) for r in rows]


def inception_of(rows: Rows, fake: Features, real: Features) -> tuple[np.ndarray, np.ndarray]:
    """[N, 2048] of these rows' windows, untouched and restored."""
    return tuple(
        np.stack([table[r[key]]["inception"] for r in rows]) for table, key in ((real, "real"), (fake, "window"))
    )


def kid_of(rows: Rows, fake: Features, real: Features) -> Callable[[np.ndarray], np.ndarray]:
    """KID x 1000 of these rows' windows as a function of weights."""
    measure = paired_kid(*inception_of(rows, fake, real), people_of(rows))
    return lambda weights: 1000 * measure(weights)


def words(e: Estimate, digits: int, sign: str = "") -> str:
    """`value [low, high]`."""
    return f"{e.value:{sign}.{digits}f} [{e.low:{sign}.{digits}f}, {e.high:{sign}.{digits}f}]"


def component_lines(rows: Rows, features: Mapping[str, Features], real: Features) -> list[str]:
    """Markdown: one line an arm and component."""
    lines = ["| method | hidden | n | KID x 1000 | FID | gradient | hole PSNR | LPIPS window | 4 candidates apart |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for group in GROUPS:
        for arm in features:
            own = rows_of(rows, arm, group)
            if len(set(people_of(own))) < 2:
                continue
            people = people_of(own)
            fid = frechet_distance(*inception_of(own, features[arm], real))
            kid = interval(kid_of(own, features[arm], real), people)
            grad = compare(column(own, "gradient"), column(own, "gradient_real"), people, DRAWS, "ratio")
            psnr, lpips = (estimate(column(own, name), people, DRAWS) for name in ("psnr_hole", "lpips"))
            apart = column(own, "apart")
            apart_words = f"{np.nanmean(apart):.4f}" if np.isfinite(apart).any() else ""
            lines.append(
                f"| {arm} | {group} | {len(own)} | {words(kid, 1)} | {fid:.0f} | "
                f"{words(grad, 2)} | {words(psnr, 2)} | {words(lpips, 3)} | {apart_words} |"
            )
        own = rows_of(rows, next(iter(features)), group)
        if len(set(people_of(own))) > 3:
            anchor = real_kid(np.stack([real[r["real"]]["inception"] for r in own]), people_of(own))
            e = Estimate(*(1000 * v for v in (anchor.value, anchor.low, anchor.high)))
            lines.append(f"| real against real | {group} | {len(own)} | {words(e, 1)} | | 1 | | | |")
    return lines


def case_lines(rows: Rows, arms: Sequence[str]) -> list[str]:
    """Markdown: what is measured on the whole face."""
    lines = [
        "| method | cases | identity to the original | landmark error % | face not found |",
        "|---|---|---|---|---|",
    ]
    for label, kinds in (("", None), (", both eyes", ("eyes", "eyes+nose"))):
        for arm in arms:
            own = cases_of(rows, arm, kinds)
            if own:
                found = [estimate(column(own, c), people_of(own), DRAWS) for c in ("identity", "landmark_error")]
                missed = sum(r["detected"] == "0" for r in own)
                lines.append(
                    f"| {arm}{label} | {len(own)} | {words(found[0], 3)} | {words(found[1], 2)} | {missed} |"
                )  # fmt: skip
    return lines


def kid_ratio(before: Callable, after: Callable, people: Sequence[str]) -> Estimate:
    """After / before, both over the same people drawn; NaN where before is not above 0."""
    weights = np.concatenate([np.ones((1, len(people))), resample_weights(list(people), DRAWS)])
    a, b = after(weights), before(weights)
    ratio = a / np.where(b > 0, b, np.nan)
    known = ratio[1:][np.isfinite(ratio[1:])]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    return Estimate(float(ratio[0]), float(low), float(high))


def difference_lines(
    title: str, before: tuple[Rows, str, Features], after: tuple[Rows, str, Features], real: Features
) -> list[str]:
    """Markdown, paired over the windows and cases that both have. A side: its rows, the arm, the arm's features."""
    lines = []
    for group in GROUPS:
        sides = [{r["window"]: r for r in rows_of(rows, arm, group)} for rows, arm, _ in (before, after)]
        both = [w for w in sides[0] if w in sides[1]]
        old, new = ([side[w] for w in both] for side in sides)
        if len(set(people_of(old))) < 2:
            continue
        people = people_of(old)
        kid = kid_ratio(kid_of(old, before[2], real), kid_of(new, after[2], real), people)
        changed = [compare(column(new, c), column(old, c), people, DRAWS, "difference") for c in ("psnr_hole", "lpips")]
        grad = [column(r, "gradient").mean() / column(r, "gradient_real").mean() for r in (old, new)]
        lines.append(
            f"| {title} | {group} | {len(both)} | {words(kid, 2)} | {grad[0]:.2f} -> {grad[1]:.2f} | "
            f"{words(changed[0], 2, '+')} | {words(changed[1], 3, '+')} | | |"
        )
    cases = [{r["case"]: r for r in cases_of(rows, arm)} for rows, arm, _ in (before, after)]
    both = [c for c in cases[0] if c in cases[1]]
    if both:
        old, new = ([side[c] for c in both] for side in cases)
        changed = [compare(column(new, c), column(old, c), people_of(old), DRAWS, "difference")
                   for c in ("identity", "landmark_error")]  # fmt: skip
        lines.append(
            f"| {title} | whole face | {len(both)} | | | | | "
            f"{words(changed[0], 3, '+')} | {words(changed[1], 2, '+')} |"
        )
    return lines


DIFFERENCE_HEAD = [
    "| after - before | hidden | n | KID ratio | gradient | hole PSNR | LPIPS window | identity | landmark error |",
    "|---|---|---|---|---|---|---|---|---|",
]
