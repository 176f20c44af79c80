"""Put a finished benchmark's main figures and two plots into eval/README.md, between its RESULTS marks.

python eval/readme_results.py runs/bench [--leave-out METHOD...] [--bins all] --note "commit, machine, date"
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from plots import curves_figure, frontier_figure
from run_store import read_rows

from idinpaint.types import InputError

BEGIN, END = "<!-- RESULTS", "<!-- /RESULTS -->"
# metric of summary.csv: heading, decimals, sign of the comparison with Telea
COLUMNS = {
    "psnr_hole": ("PSNR in the hole, dB", 2, "+"),
    "lpips_alex": ("LPIPS-alex", 4, "x"),
    "lpips_vgg": ("LPIPS-vgg", 4, "x"),
    "identity_original": ("identity to the original", 3, "+"),
    "identity_other": ("to other photos", 3, "+"),
    "seconds": ("s/image", 2, ""),
}

PLOTTED = ("lpips_vgg", "identity_original", "identity_other")
DRAWS = 1000
ALT = {
    "coverage": "Quality and identity against the hidden share of the facial features, with 95 % intervals over people",
    "frontier": "Quality and identity against seconds an image",
}

Summary = dict[tuple[str, str, str], dict[str, str]]


def read_summary(path: Path) -> Summary:
    """(bin, method, metric) -> the line of summary.csv. Raises InputError when there is none."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; run eval/benchmark.py with that folder as --output first")
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["bin"], row["method"], row["metric"]): row for row in csv.DictReader(file)}


def cell(row: dict[str, str], decimals: int, sign: str) -> str:
    """`value (comparison with Telea)`."""
    text = f"{float(row['mean']):.{decimals}f}"
    if not sign or not row["against_value"]:
        return text
    value = float(row["against_value"])
    return f"{text} ({value:+.{decimals}f})" if sign == "+" else f"{text} (x {value:.2f})"


def results_table(summary: Summary, leave_out: Sequence[str] = (), bins: Sequence[str] = ()) -> str:
    """Markdown: one line a hole size (of `bins`, all by default) and method; the ceiling of `to other photos` below."""
    lines = ["| hole | method | " + " | ".join(heading for heading, *_ in COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for bin_name, method in dict.fromkeys((b, m) for b, m, _ in summary if m not in leave_out and b in (bins or (b,))):
        cells = [cell(summary[bin_name, method, metric], *rest) for metric, (_, *rest) in COLUMNS.items()]
        hole = f"{bin_name} %" if bin_name[0].isdigit() and "@" not in bin_name else bin_name
        lines.append(f"| {hole} | {method} | " + " | ".join(cells) + " |")
    row = next(r for (b, _, m), r in summary.items() if m == "identity_other_ceiling" and b in (bins or (b,)))
    lines += ["", f"In brackets: beside Telea. The untouched originals score {float(row['mean']):.3f} to other photos "]
    lines[-1] += f"of the same people. {row['images']} cases of {row['people']} people a line."
    return "\n".join(lines)


def insert(readme: str, text: str) -> str:
    """README with `text` between the marks. Raises InputError without them."""
    start, end = readme.find(BEGIN), readme.find(END)
    if start < 0 or end < start:
        raise InputError(f"the README has no {BEGIN} ... {END} marks")
    head = readme[: readme.index("\n", start) + 1]
    return f"{head}{text}\n{readme[end:]}"


def write_plots(run: Path, folder: Path, leave_out: Sequence[str]) -> str:
    """coverage.png and frontier.png of the run's rows; Markdown that shows them. No photo is in them."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(run / "rows.csv"):
        if row["method"] not in leave_out:
            groups.setdefault(row["method"], []).append(row)
    pictures = {"coverage": curves_figure(groups, PLOTTED, DRAWS), "frontier": frontier_figure(groups, PLOTTED, DRAWS)}
    folder.mkdir(exist_ok=True)
    lines = []
    for name, png in pictures.items():
        if png is not None:
            temporary = folder / f"{name}.tmp"
            temporary.write_bytes(png)
            os.replace(temporary, folder / f"{name}.png")
            lines.append(f"![{ALT[name]}](results/{name}.png)")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Rewrite the README through a temporary file. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--readme", type=Path, default=Path(__file__).resolve().parent / "README.md")
    parser.add_argument("--note", default="", help="commit, machine and date of the run")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="METHOD")
    parser.add_argument("--bins", nargs="+", default=[], metavar="BIN", help="lines of these only, such as all")
    args = parser.parse_args(argv)
    try:
        table = results_table(read_summary(args.run / "summary.csv"), args.leave_out, args.bins)
        plots = write_plots(args.run, Path(__file__).resolve().parent / "results", args.leave_out)
        text = insert(
            args.readme.read_text(encoding="utf-8"), table + (f"\n{args.note}" if args.note else "") + f"\n\n{plots}"
        )
    except InputError as error:
        print(f"readme_results: {error}", file=sys.stderr)
        return 2
    temporary = args.readme.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, args.readme)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
