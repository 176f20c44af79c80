"""Is run B better or worse than run A? Paired tests per metric, one verdict, and a gate for releases.

    python eval/compare.py runs/old runs/new [--methods diffusion] [--gate lpips_alex=0.005 ms_ssim=0.005]
    python eval/compare.py runs/bench runs/bench --methods telea:diffusion

Exit status 0; 1 when the gate is failed; 2 for bad input. PROTOCOL.md says what the tests are.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from run_store import read_rows
from summary import LOWER_IS_BETTER, METRICS, heading

from idinpaint.types import InputError

DRAWS = 10_000
LEVEL = 0.05  # family-wise, after Holm
GATE = {"ms_ssim": 0.005, "lpips_alex": 0.005, "identity_original": 0.02}  # how much worse the mean may be
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Outcome:
    """One metric. difference: mean of B - A over people, with its 95 % interval; effect: that over its standard
    deviation between people; p: of the paired bootstrap; p_holm: corrected; p_sign: of the sign test over people."""

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    effect: float
    people: int
    wins: int
    losses: int
    p: float
    p_sign: float
    p_holm: float
    verdict: str


def load_run(folder: Path, method: str) -> Rows:
    """The method's rows. Raises InputError when there are none."""
    rows = read_rows(folder / "rows.csv")
    own = [row for row in rows if row["method"] == method]
    if not own:
        known = ", ".join(dict.fromkeys(row["method"] for row in rows)) or "no rows at all"
        raise InputError(f"{folder}: no rows of {method}; it has {known}")
    return own


def methods_of(folder_a: Path, folder_b: Path, chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of methods (of A, of B): `NAME` or `NAME:NAME` as chosen, else every method that both runs have."""
    if chosen:
        return [tuple(text.split(":", 1)) if ":" in text else (text, text) for text in chosen]
    names = [dict.fromkeys(row["method"] for row in read_rows(folder / "rows.csv")) for folder in (folder_a, folder_b)]
    both = [(name, name) for name in names[0] if name in names[1]]
    if not both:
        raise InputError(f"{folder_a} and {folder_b} have no method in common; name two with --methods A:B")
    return both


def paired_values(a: Rows, b: Rows, metric: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Means a person of A and of B, [P] each, over the cases that both have; else over the bins that both have.

    The third value says whether the cases are the same (photo and mask), or only the people are.
    """

    def table(rows: Rows, key: tuple[str, ...]) -> dict[tuple[str, ...], list[float]]:
        found: dict[tuple[str, ...], list[float]] = {}
        for row in rows:
            value = float(row.get(metric) or "nan")
            if np.isfinite(value):
                found.setdefault(tuple(row[k] for k in key), []).append(value)
        return found

    same = True
    of_a, of_b = (table(rows, ("person", "bin", "photo", "mask")) for rows in (a, b))
    if len(of_a.keys() & of_b.keys()) < max(1, min(len(of_a), len(of_b)) // 2):
        same, of_a, of_b = False, table(a, ("person", "bin")), table(b, ("person", "bin"))
    people: dict[str, list[tuple[float, float]]] = {}
    for key in sorted(of_a.keys() & of_b.keys()):
        people.setdefault(key[0], []).append((float(np.mean(of_a[key])), float(np.mean(of_b[key]))))
    means = np.array([np.mean(pairs, axis=0) for pairs in people.values()]).reshape(-1, 2)
    return means[:, 0], means[:, 1], same


def bootstrap(differences: np.ndarray, draws: int = DRAWS, seed: int = 0) -> tuple[float, float, float]:
    """(low, high) of the mean of [P] differences at 95 %, and the two-sided p of "no difference"."""
    rng = np.random.default_rng(seed)
    means = differences[rng.integers(0, len(differences), (draws, len(differences)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (draws + 1)))


def sign_test(differences: np.ndarray) -> tuple[int, int, float]:
    """How many of [P] are above and below 0, and the two-sided p of an even coin (ties left out)."""
    from scipy.stats import binomtest

    above, below = int((differences > 0).sum()), int((differences < 0).sum())
    return above, below, float(binomtest(above, above + below).pvalue) if above + below else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the given order."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable")):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = highest
    return corrected


def compare_runs(a: Rows, b: Rows, draws: int = DRAWS) -> tuple[list[Outcome], bool]:
    """An Outcome of each metric that both have, and whether the cases were the same."""
    measured, same = [], True
    for metric in METRICS:
        of_a, of_b, same_cases = paired_values(a, b, metric)
        if len(of_a) >= 2:
            measured.append((metric, of_a, of_b))
            same = same and same_cases
    if not measured:
        raise InputError("the two runs have fewer than two people in common")
    raw = []
    for metric, of_a, of_b in measured:
        difference = of_b - of_a
        low, high, p = bootstrap(difference, draws)
        wins, losses, p_sign = sign_test(-difference if metric in LOWER_IS_BETTER else difference)
        spread = float(difference.std(ddof=1))
        effect = float(difference.mean()) / spread if spread > 0 else 0.0
        raw.append((metric, of_a, of_b, float(difference.mean()), low, high, effect, wins, losses, p, p_sign))
    # Both tests must agree, so the larger p is the one that is corrected.
    corrected = holm([max(r[9], r[10]) for r in raw])
    tests = []
    for (metric, of_a, of_b, mean, low, high, effect, wins, losses, p, p_sign), p_holm in zip(raw, corrected):
        better = (mean < 0) == (metric in LOWER_IS_BETTER)
        verdict = "no difference" if p_holm > LEVEL else "B better" if better else "B worse"
        values = (float(of_a.mean()), float(of_b.mean()), mean, low, high, effect, len(of_a), wins, losses)
        tests.append(Outcome(metric, *values, p, p_sign, p_holm, verdict))
    return tests, same


def overall(tests: Sequence[Outcome]) -> str:
    """One line over all metrics."""
    better = [t.metric for t in tests if t.verdict == "B better"]
    worse = [t.metric for t in tests if t.verdict == "B worse"]
    if not better and not worse:
        return "no difference"
    if not worse:
        return f"B is better in {len(better)} of {len(tests)} metrics, worse in none"
    if not better:
        return f"B is worse in {len(worse)} of {len(tests)} metrics, better in none"
    return f"B is better in {', '.join(better)} and worse in {', '.join(worse)}"


def gate_failures(tests: Sequence[Outcome], limits: Mapping[str, float]) -> list[str]:
    """One line for each metric whose mean in B is worse than in A by more than its limit, or that is missing."""
    lines, found = [], {t.metric: t for t in tests}
    for metric, limit in limits.items():
        if metric not in found:
            lines.append(f"{metric}: not measured in both runs")
            continue
        difference = found[metric].difference
        loss = difference if metric in LOWER_IS_BETTER else -difference
        if loss > limit:
            lines.append(f"{metric}: worse by {loss:.4f}, allowed {limit:g}")
    return lines


def parse_gate(texts: Sequence[str]) -> dict[str, float]:
    """METRIC=LOSS arguments; without any, GATE."""
    limits = {}
    for text in texts:
        metric, _, number = text.partition("=")
        try:
            limits[metric] = float(number)
        except ValueError:
            raise InputError(f"--gate {text}: write it as METRIC=LOSS, such as ms_ssim=0.005") from None
        if metric not in METRICS:
            raise InputError(f"--gate {text}: no metric of that name; known: {', '.join(METRICS)}")
    return limits or dict(GATE)


def table(tests: Sequence[Outcome]) -> str:
    """Markdown."""
    lines = ["| metric | A | B | B - A [95 %] | effect | people for B : A | p (Holm) | verdict |", "|---" * 8 + "|"]
    for t in tests:
        name, decimals = heading(t.metric)
        d = max(decimals, 3)
        lines.append(
            f"| {name} | {t.a:.{d}f} | {t.b:.{d}f} | {t.difference:+.{d}f} [{t.low:+.{d}f}, {t.high:+.{d}f}] | "
            f"{t.effect:+.2f} | {t.wins} : {t.losses} | {t.p_holm:.4f} | {t.verdict} |"
        )
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """All pairs of methods. Returns the exit status."""
    limits = None if args.gate is None else parse_gate(args.gate)
    results, failed = {}, False
    for of_a, of_b in methods_of(args.run_a, args.run_b, args.methods):
        tests, same = compare_runs(load_run(args.run_a, of_a), load_run(args.run_b, of_b), args.draws)
        print(f"## A: {args.run_a.name} {of_a}   B: {args.run_b.name} {of_b}\n\n{table(tests)}\n")
        print(f"Pairs: {'same photos and masks' if same else 'same people and bins, other photos or masks'}.")
        print(f"Verdict: {overall(tests)}.")
        lines = gate_failures(tests, limits) if limits is not None else []
        for line in lines:
            print(f"Gate failed: {line}")
        failed = failed or bool(lines)
        results[f"{of_a}:{of_b}"] = {"verdict": overall(tests), "tests": [asdict(t) for t in tests], "gate": lines}
        print()
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(failed)


def main(argv: list[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME[:NAME]", help="of A, and of B if another")
    parser.add_argument("--gate", nargs="*", metavar="METRIC=LOSS", help=f"exit 1 when B is worse; default {GATE}")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except (InputError, csv.Error) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
