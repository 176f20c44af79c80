"""One page of a finished benchmark: curves, frontier, slices, examples, configuration; opens offline.

    python eval/report.py runs/bench [--data DATA] [--output report] [--labels labels.csv]

Writes OUTPUT.html (self-contained) and OUTPUT.md (tables); OUTPUT is RUN/report unless given. With --data the page
shows examples: the methods fill those cases again. Never commit a report with photos of people.
"""

from __future__ import annotations

import argparse
import base64
import csv
import html
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cases import BenchmarkConfig, Item, plan_items
from estimates import estimate
from methods import masked_photo, method_factory
from PIL import Image
from plots import curves_figure, frontier_figure
from run_store import read_rows
from slices import slice_rows
from summary import LOWER_IS_BETTER, METRICS, cell, column, heading

from idinpaint.config import load_config
from idinpaint.imaging.encoders import write_atomic
from idinpaint.types import InputError

LARGEST = 15 * 2**20  # bytes of the page
QUALITY = ("psnr_hole", "lpips_vgg", "ms_ssim")
IDENTITY = ("identity_original", "identity_other", "landmark_error")
SLICED = ("psnr_hole", "lpips_vgg", "identity_original", "identity_other")
EXAMPLES = {"best": 3, "worst": 3, "random": 6}
STYLE = """
body { font: 15px/1.45 Georgia, serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #111; }
table { border-collapse: collapse; font: 12px/1.3 sans-serif; margin: .7em 0; }
th, td { border: 1px solid #999; padding: 2px 6px; text-align: right; }
th:first-child, td:first-child { text-align: left; } td { white-space: nowrap; }
tr.new td { border-top: 2px solid #333; }
img { max-width: 100%; } .figure img { width: auto; max-height: 22em; }
.scroll { overflow-x: auto; } .cases td { text-align: center; vertical-align: top; }
pre { background: #f3f3f3; padding: .6em; white-space: pre-wrap; font-size: 12px; } caption { text-align: left; }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { max-width: none; margin: 0; font-size: 11px; } h2, h3 { break-after: avoid; }
  tr, img { break-inside: avoid; } .scroll { overflow: visible; } table { font-size: 8px; } th, td { padding: 1px 3px; }
  .cases { table-layout: fixed; width: 100%; } .cases td { white-space: normal; } .cases img { width: 100%; } }
"""
Rows = Sequence[Mapping[str, str]]
Table = list[list[str]]  # the first row is the head


def load_rows(run: Path) -> dict[str, list[dict[str, str]]]:
    """Method -> rows, in the file's order. Raises InputError without any."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(run / "rows.csv"):
        groups.setdefault(row["method"], []).append(row)
    if not groups:
        raise InputError(f"{run}/rows.csv: no rows; run eval/benchmark.py with that folder as --output first")
    return groups


def read_labels(path: Path | None) -> dict[str, dict[str, str]]:
    """CSV with a column `photo` (`person/file`) and one of each label -> photo -> label -> value."""
    if path is None:
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot read the labels ({error.strerror})") from error
    if not rows or "photo" not in rows[0]:
        raise InputError(f"{path}: labels want a column `photo` with person/file, and one column a label")
    return {row.pop("photo"): row for row in rows}


def overview(run: Path) -> Table:
    """Means over all bins' rows from summary.csv, a line a bin and method."""
    path = run / "summary.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run eval/benchmark.py with that folder as --output first")
    with path.open(newline="", encoding="utf-8") as file:
        found = {(r["bin"], r["method"], r["metric"]): r for r in csv.DictReader(file)}
    metrics = ["psnr_hole", "ms_ssim", "lpips_alex", "lpips_vgg", "identity_original", "identity_other", "tar"]
    metrics += ["recognised", "fid", "kid", "id_fid", "landmark_error", "seam_error", "diversity", "seconds", "peak_mb"]
    shown = [m for m in metrics if any(key[2] == m and r["mean"] != "nan" for key, r in found.items())]
    table = [["hole", "method", *(heading(m)[0] for m in shown)]]
    for bin_name, method in dict.fromkeys(key[:2] for key in found):
        line = [found.get((bin_name, method, m)) for m in shown]
        cells = [
            f"{float(r['mean']):.{heading(m)[1]}f}" if r and r["mean"] != "nan" else "-" for m, r in zip(shown, line)
        ]
        table.append([bin_name, method, *cells])
    return table


def slices_table(groups: Mapping[str, Rows], labels: Mapping[str, Mapping[str, str]], draws: int) -> Table:
    """Each slice and method: how many rows, and SLICED with intervals."""
    table = [["slice", "value", "method", "images", *(heading(m)[0] for m in SLICED)]]
    of_method = {method: slice_rows(rows, labels) for method, rows in groups.items()}
    keys = dict.fromkeys(key for found in of_method.values() for key in found)
    for key in keys:
        for method, found in of_method.items():
            rows = found.get(key, [])
            if rows:
                people = [row["person"] for row in rows]
                cells = [cell(estimate(column(rows, m), people, draws), heading(m)[1]) for m in SLICED]
                table.append([*key, method, str(len(rows)), *cells])
    return table


def choose(rows: Rows, metric: str, seed: int = 0) -> dict[str, list[Mapping[str, str]]]:
    """EXAMPLES of one method's rows: best and worst by the metric, and drawn by the seed without looking."""
    known = [row for row in rows if np.isfinite(column([row], metric)[0])]
    order = sorted(known, key=lambda row: column([row], metric)[0], reverse=metric not in LOWER_IS_BETTER)
    drawn = np.random.default_rng(seed).permutation(len(rows))[: EXAMPLES["random"]]
    return {
        "best": order[: EXAMPLES["best"]],
        "worst": order[::-1][: EXAMPLES["worst"]],
        "random": [rows[i] for i in sorted(drawn)],
    }


def data_uri(pixels: np.ndarray) -> str:
    """uint8 [H, W, 3] as a JPEG of quality 90 (for eyes only: the metrics saw the array)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def examples_html(groups: Mapping[str, Rows], run: Mapping[str, object], data: Path, method: str, metric: str) -> str:
    """The examples of `method`, filled again by every method, with identity and LPIPS below."""
    config = load_config(BenchmarkConfig, None, [f"{k}={json.dumps(v)}" for k, v in run["config"].items()])
    loaders = {(load.args[0], load.args[1]): load for load in plan_items(config, data)}
    predictions = {name: Path(folder) for name, folder in run["predictions"].items()}
    method_of, cache = method_factory(config, predictions), {}
    scores = {(m, row["bin"], row["index"]): row for m, rows in groups.items() for row in rows}

    def pictures(item: Item) -> list[tuple[str, np.ndarray]]:
        made = [("original", item.photo), ("input", masked_photo(item))]
        return made + [(name, method_of(name)(item).image) for name in groups]

    parts = []
    for title, rows in choose(groups[method], metric).items():
        how = "drawn by a fixed seed, not chosen" if title == "random" else f"of {method} by {heading(metric)[0]}"
        parts.append(f"<h3>{title.capitalize()} ({html.escape(how)})</h3><div class=scroll><table class=cases>")
        for row in rows:
            key = (row["bin"], int(row["index"]))
            if key not in loaders:
                continue
            if key not in cache:
                cache[key] = pictures(loaders[key]())
            cells = []
            for name, pixels in cache[key]:
                own = scores.get((name, row["bin"], row["index"]))
                text = html.escape(name)
                if own:
                    text += f"<br>identity {float(own['identity_original']):.2f}, LPIPS {float(own['lpips_alex']):.3f}"
                cells.append(f'<td><img src="{data_uri(pixels)}" width=150 alt="{html.escape(name)}"><br>{text}</td>')
            parts.append(f"<tr>{''.join(cells)}</tr>")
        parts.append("</table></div>")
    return "\n".join(parts)


def html_table(table: Table, depth: int = 1) -> str:
    """A scrolling HTML table, a thick rule where the first `depth` columns change."""
    rows = []
    for number, line in enumerate(table):
        tag = "th" if number == 0 else "td"
        new = number > 1 and line[:depth] != table[number - 1][:depth]
        rows.append(
            f"<tr{' class=new' if new else ''}>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in line) + "</tr>"
        )
    return f"<div class=scroll><table>{''.join(rows)}</table></div>"


def markdown_table(table: Table) -> str:
    """The same in Markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])


def figure_html(png: bytes, text: str) -> str:
    """An embedded picture with its description."""
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    return f'<p class=figure><img src="{uri}" alt="{html.escape(text)}"></p>'


def build(args: argparse.Namespace) -> tuple[str, str]:
    """(HTML, Markdown)."""
    groups, labels = load_rows(args.run), read_labels(args.labels)
    path = args.run / "run.json"
    run = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    method = args.method or list(groups)[-1]
    if method not in groups:
        raise InputError(f"--method {method}: the run has {', '.join(groups)}")
    if args.metric not in METRICS:
        raise InputError(f"--metric {args.metric}: choose one of {', '.join(METRICS)}")
    main, sliced = overview(args.run), slices_table(groups, labels, args.draws)
    sections = ["<h2>Results</h2>", html_table(main)]
    known = [m for m in QUALITY if np.isfinite(column(groups[method], m)).any()]
    sections += [
        "<h2>Quality against what is hidden</h2>",
        figure_html(curves_figure(groups, known, args.draws), "curves"),
    ]
    known = [m for m in IDENTITY if np.isfinite(column(groups[method], m)).any()]
    sections += ["<h2>Identity against what is hidden</h2>"]
    sections += [figure_html(curves_figure(groups, known, args.draws), "curves")]
    sections += ["<p>Dotted grey: what the untouched originals score to the person's other photos.</p>"]
    frontier = frontier_figure(groups, ("lpips_vgg", "identity_original"), args.draws)
    if frontier:
        sections += ["<h2>Speed and quality</h2>", figure_html(frontier, "speed and quality")]
    if args.data and not run:
        raise InputError(f"{path}: not there (an older run), so its cases cannot be filled again; leave --data out")
    if args.data:
        sections += ["<h2>Examples</h2>", examples_html(groups, run, args.data, method, args.metric)]
    sections += ["<h2>Slices</h2>", "<p>Mean [95 % interval over people]; a photo with two hidden features counts "]
    sections += ["in both.</p>", html_table(sliced, 2)]
    about = json.dumps(run or {"run.json": "missing: a run of an older version"}, indent=1)
    sections += ["<h2>Configuration, commit, hardware</h2>", f"<pre>{html.escape(about)}</pre>"]
    note = "Bars are 95 % bootstrap intervals over people. eval/PROTOCOL.md says how every number is made."
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>Benchmark {html.escape(args.run.name)}</title>"
    page += f"<style>{STYLE}</style><h1>Benchmark {html.escape(args.run.name)}</h1><p>{note}</p>" + "\n".join(sections)
    text = f"# Benchmark {args.run.name}\n\n{note}\n\n{markdown_table(main)}\n\n## Slices\n\n{markdown_table(sliced)}\n"
    return page + "</html>\n", text + f"\n## Run\n\n```json\n{about}\n```\n"


def main(argv: list[str] | None = None) -> int:
    """Parse, write both files. Returns 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="the data folder: show examples")
    parser.add_argument("--output", type=Path, help="without suffix; default RUN/report")
    parser.add_argument(
        "--labels", type=Path, help="CSV: photo, then labels to slice by (skin tone, apparent age, ...)"
    )
    parser.add_argument("--method", help="whose best and worst examples are shown; default the run's last")
    parser.add_argument("--metric", default="identity_original", help="by which best and worst are found")
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    args = parser.parse_args(argv)
    try:
        page, text = build(args)
        if len(page) > LARGEST:
            raise InputError(f"the page has {len(page) >> 20} MB, the limit is {LARGEST >> 20}; leave --data out")
        output = args.output or args.run / "report"
        for suffix, content in ((".html", page), (".md", text)):
            write_atomic(Path(f"{output}{suffix}"), lambda file, c=content: file.write(c.encode()))
    except InputError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(f"{output}.html ({len(page) / 2**20:.1f} MB), {output}.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
