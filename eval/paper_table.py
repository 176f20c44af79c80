"""The seed paper's comparison in this protocol, its published figures beside, and its ablation at equal budget.

    python eval/paper_table.py runs/bench-all [--output eval/results/gan-family.md]

Reads the run's summary.csv (its bins together) and rows.csv; prints the tables and writes them (RUN/paper_table.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from compare import Outcome, compare_runs, load_run
from readme_results import Summary, read_summary
from summary import ALL_BINS, heading

from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

# method of the run: (name in the paper, PSNR in dB, SSIM), as published for the PD-GAN face variant.
PUBLISHED = {
    "pconv": ("PConv", 21.35, 0.9307),
    "pdgan": ("PD-GAN", 22.44, 0.9448),
    "pdgan+heatmap": ("PD-GAN + heatmap loss", 22.77, 0.9390),
    "pdgan+mask": ("PD-GAN + mask loss", 23.43, 0.9562),
    "pdgan-face": ("face variant: both", 24.02, 0.9593),
}
SHOWN = ("psnr", "psnr_hole", "ssim", "lpips_alex", "lpips_vgg", "identity_original", "identity_other", "seconds")
ABLATED = ("psnr", "ssim", "lpips_alex", "lpips_vgg", "identity_original")
BASE = "pdgan"  # what the ablation's differences are against

WHY_NOT = """\
**The published figures stand beside, not against, ours.**
- *Masks decide the number.* PSNR of the whole picture rises with the share that is known and put back. Ours: holes of
  {bins} %, known pixels put back. The paper used 100 masks; how large, and whether it puts known pixels back, is not
  known here. Its 21 to 24 dB are nearer to our PSNR of the hole, its SSIM of .93 to .96 to our whole picture's.
- *People.* Ours are {people} people whom no training saw. Whether the paper split its 7,000 photos by person is not
  known here; a random split of CelebA-HQ puts most test people into the training.
- *Budget.* Published: 120 epochs of 7,000 photos (840,000 picture passes) at full widths on a GPU. Ours: the recipes in
  configs/, minutes of one CPU core, far narrower, over a shared prior.
- *Definitions.* SSIM depends on window, colour and rounding, which differ between papers; ours are in eval/PROTOCOL.md.

What can be compared is the order within one column."""


def bin_of(summary: Summary) -> str:
    """The bins together; a run of one bin has only that."""
    bins = list(dict.fromkeys(key[0] for key in summary))
    return ALL_BINS if ALL_BINS in bins else bins[0]


def value_cell(row: Mapping[str, str] | None, metric: str) -> str:
    """`mean [low, high]` of a line of summary.csv."""
    if row is None or row["mean"] == "nan":
        return "-"
    decimals = max(heading(metric)[1], 2)
    mean, low, high = (f"{float(row[key]):.{decimals}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def comparison(summary: Summary) -> str:
    """Markdown: every method of the run, the published PSNR and SSIM beside the systems that the paper has."""
    name = bin_of(summary)
    heads = ["method", *(heading(m)[0] for m in SHOWN), "published PSNR", "published SSIM"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method in dict.fromkeys(key[1] for key in summary if key[0] == name):
        cells = [value_cell(summary.get((name, method, m)), m) for m in SHOWN]
        title, *figures = PUBLISHED.get(method, (None, None, None))
        cells += [f"{figures[0]:.2f}", f"{figures[1]:.4f}"] if title else ["-", "-"]
        lines.append(f"| {method}{f' ({title})' if title else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference_cell(test: Outcome | None) -> str:
    """`B - A [low, high], verdict` of a paired test against BASE."""
    if test is None:
        return "-"
    d = max(heading(test.metric)[1], 3)
    verdict = {"B better": "better", "B worse": "worse"}.get(test.verdict, test.verdict)
    return f"{test.difference:+.{d}f} [{test.low:+.{d}f}, {test.high:+.{d}f}] {verdict}"


def ablation(summary: Summary, differences: Mapping[str, Mapping[str, Outcome]]) -> str:
    """Markdown: the paper's table 2: values, paired differences from BASE over people, and both orders by PSNR."""
    name, there = bin_of(summary), [m for m in PUBLISHED if m in differences or m == BASE]
    heads = ["system", *(heading(m)[0] for m in ABLATED)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for method in there:
        cells = [value_cell(summary.get((name, method, m)), m) for m in ABLATED]
        lines.append(f"| {PUBLISHED[method][0]} | " + " | ".join(cells) + " |")
    lines += ["", "| minus PD-GAN, same photos and masks | " + " | ".join(heads[1:]) + " |", lines[1]]
    for method in there:
        if method != BASE:
            cells = [difference_cell(differences[method].get(m)) for m in ABLATED]
            lines.append(f"| {PUBLISHED[method][0]} | " + " | ".join(cells) + " |")
    ours = sorted(there, key=lambda m: float(summary[name, m, "psnr"]["mean"]))
    theirs = sorted(there, key=lambda m: PUBLISHED[m][1])
    lines += ["", f"PSNR from worst to best here: {_names(ours)}. Published: {_names(theirs)}. "]
    called = sum(found["psnr"].verdict != "no difference" for found in differences.values())
    lines[-1] += f"{'The same order' if ours == theirs else 'Another order'}; {called} of the {len(differences)} "
    lines[-1] += "differences from PD-GAN in PSNR are differences at 5 % after Holm's correction (eval/PROTOCOL.md)."
    return "\n".join(lines)


def _names(methods: Sequence[str]) -> str:
    return ", ".join(PUBLISHED[m][0] for m in methods)


def build(run: Path) -> str:
    """Both tables. Raises InputError for a run without a summary, or without any of the paper's systems."""
    summary = read_summary(run / "summary.csv")
    name = bin_of(summary)
    methods = {key[1] for key in summary if key[0] == name}
    if not methods & PUBLISHED.keys():
        raise InputError(f"{run}: has none of {', '.join(PUBLISHED)}; run it with configs/benchmark-all.yaml")
    first = next(row for key, row in summary.items() if key[0] == name)
    bins = ", ".join(dict.fromkeys(key[0] for key in summary if key[0] != ALL_BINS))
    parts = [f"# The GAN family beside the published figures: {first['images']} cases, {first['people']} people"]
    parts += [comparison(summary), WHY_NOT.format(bins=bins, people=first["people"])]
    if BASE in methods and len(methods & PUBLISHED.keys()) > 2:
        base, found = load_run(run, BASE), {}
        for method in PUBLISHED:
            if method != BASE and method in methods:
                found[method] = {test.metric: test for test in compare_runs(base, load_run(run, method))[0]}
        parts += ["## The ablation at equal budget", ablation(summary, found)]
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Parse, print, write the tables. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, help="default RUN/paper_table.md")
    args = parser.parse_args(argv)
    try:
        text = build(args.run)
        write_atomic(args.output or args.run / "paper_table.md", lambda file: file.write(text.encode()))
    except InputError as error:
        print(f"paper_table: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
