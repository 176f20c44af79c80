"""Put a finished benchmark's main figures and two plots into eval/README.md, between its RESULTS marks.

python eval/readme_results.py runs/bench [--leave-out METHOD...] [--bins all] --note "commit, machine, date"
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from command import parser_of, run_main, write_text
from metrics import TABLE
from plots import curves_figure, frontier_figure
from summary import hole_title, pairs_of, read_summary
from tables import markdown_table, read_frame

from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

BEGIN, END = "<!-- RESULTS", "<!-- /RESULTS -->"
SHOWN = ("psnr_hole", "lpips_alex", "lpips_vgg", "identity_original", "identity_other", "seconds")
PLOTTED = ("lpips_vgg", "identity_original", "identity_other")
DRAWS = 1000
ALT = {
    "coverage": "Quality and identity against the hidden share of the facial features, with 95 % intervals over people",
    "frontier": "Quality and identity against seconds an image",
}


def cell(row: pd.Series, metric: str) -> str:
    """`value (comparison with Telea)`."""
    decimals, way = TABLE[metric].decimals, TABLE[metric].against
    text, value = f"{row['mean']:.{decimals}f}", row["against_value"]
    if not way or pd.isna(value):
        return text
    return f"{text} ({value:+.{decimals}f})" if way == "difference" else f"{text} (x {value:.2f})"


def results_table(summary: pd.DataFrame, leave_out: Sequence[str] = (), bins: Sequence[str] = ()) -> str:
    """Markdown: one line a hole size (of `bins`, all by default) and method; the ceiling of `to other photos` below."""
    shown = [pair for pair in pairs_of(summary) if pair[1] not in leave_out and pair[0] in (bins or pair)]
    lines = [[hole_title(pair[0]), pair[1], *(cell(summary.loc[(*pair, m)], m) for m in SHOWN)] for pair in shown]
    table = markdown_table(["hole", "method", *(TABLE[m].title for m in SHOWN)], lines)
    ceilings = summary.xs("identity_other_ceiling", level="metric")
    row = ceilings[ceilings.index.get_level_values("bin").isin(bins or {key[0] for key in ceilings.index})].iloc[0]
    words = f"In brackets: beside Telea. The untouched originals score {row['mean']:.3f} to other photos of the same "
    return "\n".join([*table, "", f"{words}people. {row['images']:.0f} cases of {row['people']:.0f} people a line."])


def insert(readme: str, text: str) -> str:
    """README with `text` between the marks. Raises InputError without them."""
    start, end = readme.find(BEGIN), readme.find(END)
    if start < 0 or end < start:
        raise InputError(f"the README has no {BEGIN} ... {END} marks")
    head = readme[: readme.index("\n", start) + 1]
    return f"{head}{text}\n{readme[end:]}"


def write_plots(run: Path, folder: Path, leave_out: Sequence[str]) -> str:
    """coverage.png and frontier.png of the run's rows; Markdown that shows them. No photo is in them."""
    rows = read_frame(run / "rows.csv")
    groups = {name: own for name, own in rows.groupby("method", sort=False) if name not in leave_out}
    pictures = {"coverage": curves_figure(groups, PLOTTED, DRAWS), "frontier": frontier_figure(groups, PLOTTED, DRAWS)}
    there = {name: png for name, png in pictures.items() if png is not None}
    for name, png in there.items():
        write_atomic(folder / f"{name}.png", lambda file, png=png: file.write(png))
    return "\n".join(f"![{ALT[name]}](results/{name}.png)" for name in there)


def run(args: argparse.Namespace) -> None:
    """Rewrite the README."""
    table = results_table(read_summary(args.run), args.leave_out, args.bins)
    plots = write_plots(args.run, Path(__file__).resolve().parent / "results", args.leave_out)
    text = table + (f"\n{args.note}" if args.note else "") + f"\n\n{plots}"
    write_text(args.readme, insert(args.readme.read_text(encoding="utf-8"), text))


def main(argv: list[str] | None = None) -> int:
    """Rewrite the README through a temporary file. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--readme", type=Path, default=Path(__file__).resolve().parent / "README.md")
    parser.add_argument("--note", default="", help="commit, machine and date of the run")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="METHOD")
    parser.add_argument("--bins", nargs="+", default=[], metavar="BIN", help="lines of these only, such as all")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
