"""Is run B better or worse than run A? Paired tests per metric, one verdict, and a gate for releases.

    python eval/compare.py runs/old runs/new [--methods diffusion] [--gate lpips_alex=0.005 ms_ssim=0.005]
    python eval/compare.py runs/bench runs/bench --methods telea:diffusion

Exit status 0; 1 when the gate is failed; 2 for bad input. PROTOCOL.md says what the tests are.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from command import parser_of, run_main, write_json
from estimates import Estimate
from metrics import COMPARED, TABLE, heading
from tables import column, markdown_table, read_frame

from idinpaint.types import InputError

DRAWS = 10_000
LEVEL = 0.05  # family-wise, after Holm
GATE = {"ms_ssim": 0.005, "lpips_alex": 0.005, "identity_original": 0.02}  # how much worse the mean may be


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


def load_run(folder: Path, method: str) -> pd.DataFrame:
    """The method's rows. Raises InputError when there are none."""
    rows = read_frame(folder / "rows.csv")
    if method not in methods_in(rows):
        raise InputError(f"{folder}: no rows of {method}; it has {', '.join(methods_in(rows)) or 'no rows at all'}")
    return rows[rows["method"] == method]


def methods_in(rows: pd.DataFrame) -> list[str]:
    """In the rows' order."""
    return list(rows["method"].unique()) if len(rows) else []


def methods_of(folder_a: Path, folder_b: Path, chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of methods (of A, of B): `NAME` or `NAME:NAME` as chosen, else every method that both runs have."""
    if chosen:
        return [tuple(text.split(":", 1)) if ":" in text else (text, text) for text in chosen]
    names = [methods_in(read_frame(folder / "rows.csv")) for folder in (folder_a, folder_b)]
    both = [(name, name) for name in names[0] if name in names[1]]
    if not both:
        raise InputError(f"{folder_a} and {folder_b} have no method in common; name two with --methods A:B")
    return both


def paired_values(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Means a person of A and of B, [P] each, over the cases that both have; else over the bins that both have.

    The third value says whether the cases are the same (photo and mask), or only the people are.
    """
    sides = [rows.assign(value=column(rows, metric))[np.isfinite(column(rows, metric))] for rows in (a, b)]
    for keys in (["person", "bin", "photo", "mask"], ["person", "bin"]):
        means = [side.groupby(keys)["value"].mean() for side in sides]
        both = pd.concat(means, axis=1, join="inner", keys=["a", "b"])
        if len(both) >= max(1, min(map(len, means)) // 2):
            break  # else the people alone are the same
    people = both.groupby("person").mean()
    return people["a"].to_numpy(), people["b"].to_numpy(), "photo" in keys


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


def compare_runs(a: pd.DataFrame, b: pd.DataFrame, draws: int = DRAWS) -> tuple[list[Outcome], bool]:
    """An Outcome of each metric that both have, and whether the cases were the same."""
    tests, same = [], True
    for metric in COMPARED:
        of_a, of_b, same_cases = paired_values(a, b, metric)
        if len(of_a) < 2:
            continue
        difference, same = of_b - of_a, same and same_cases
        low, high, p = bootstrap(difference, draws)
        wins, losses, p_sign = sign_test(-difference if TABLE[metric].lower else difference)
        mean, deviation = float(difference.mean()), float(difference.std(ddof=1))
        effect = mean / deviation if deviation > 0 else 0.0
        numbers = (float(of_a.mean()), float(of_b.mean()), mean, low, high, effect, len(of_a), wins, losses)
        tests.append(Outcome(metric, *numbers, p, p_sign, 1.0, ""))
    if not tests:
        raise InputError("the two runs have fewer than two people in common")
    corrected = holm([max(t.p, t.p_sign) for t in tests])  # both tests must agree: the larger p is corrected
    for index, (test, p_holm) in enumerate(zip(tests, corrected)):
        better = "B better" if (test.difference < 0) == TABLE[test.metric].lower else "B worse"
        tests[index] = replace(test, p_holm=p_holm, verdict="no difference" if p_holm > LEVEL else better)
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
        loss = difference if TABLE[metric].lower else -difference
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
        if metric not in COMPARED:
            raise InputError(f"--gate {text}: no metric of that name; known: {', '.join(COMPARED)}")
    return limits or dict(GATE)


def table(tests: Sequence[Outcome]) -> str:
    """Markdown."""
    lines = []
    for t in tests:
        name, decimals = heading(t.metric)
        d = max(decimals, 3)
        difference = f"{Estimate(t.difference, t.low, t.high):+.{d}f}"
        numbers = (f"{t.a:.{d}f}", f"{t.b:.{d}f}", difference, f"{t.effect:+.2f}")
        lines.append([name, *numbers, f"{t.wins} : {t.losses}", f"{t.p_holm:.4f}", t.verdict])
    head = ["metric", "A", "B", "B - A [95 %]", "effect", "people for B : A", "p (Holm)", "verdict"]
    return "\n".join(markdown_table(head, lines))


def run(args: argparse.Namespace) -> int:
    """All pairs of methods. Returns the exit status."""
    limits = None if args.gate is None else parse_gate(args.gate)
    results = {}
    for of_a, of_b in methods_of(args.run_a, args.run_b, args.methods):
        tests, same = compare_runs(load_run(args.run_a, of_a), load_run(args.run_b, of_b), args.draws)
        lines = gate_failures(tests, limits) if limits is not None else []
        print(f"## A: {args.run_a.name} {of_a}   B: {args.run_b.name} {of_b}\n\n{table(tests)}\n")
        print(f"Pairs: {'same photos and masks' if same else 'same people and bins, other photos or masks'}.")
        print(f"Verdict: {overall(tests)}.", *(f"Gate failed: {line}" for line in lines), "", sep="\n")
        results[f"{of_a}:{of_b}"] = {"verdict": overall(tests), "tests": [asdict(t) for t in tests], "gate": lines}
    if args.json:
        write_json(args.json, results)
    return int(any(result["gate"] for result in results.values()))


def main(argv: list[str] | None = None) -> int:
    """Parse and run."""
    parser = parser_of(__doc__)
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    parser.add_argument("--methods", nargs="+", default=[], metavar="NAME[:NAME]", help="of A, and of B if another")
    parser.add_argument("--gate", nargs="*", metavar="METRIC=LOSS", help=f"exit 1 when B is worse; default {GATE}")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--json", type=Path)
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
