"""One page of a finished benchmark: curves, frontier, slices, examples, configuration; opens offline.

    python eval/report.py runs/bench [--data DATA] [--output report] [--labels labels.csv]

Writes OUTPUT.html (self-contained) and OUTPUT.md (tables); OUTPUT is RUN/report unless given. With --data the page
shows examples: the methods fill those cases again. Never commit a report with photos of people.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from cases import BenchmarkConfig, plan_items
from command import parser_of, run_main, write_text
from estimates import estimate
from methods import method_factory
from metrics import COMPARED, OVERVIEW, TABLE, heading
from pictures import picture_uri, uri_of
from plots import curves_figure, frontier_figure
from slices import slice_rows
from summary import pairs_of, read_summary
from tables import cell, column, markdown_table, read_frame

from idinpaint.config import load_config
from idinpaint.types import InputError

PAGE = Path(__file__).with_name("report_page.html")
LARGEST = 15 * 2**20  # bytes of the page
QUALITY = ("psnr_hole", "lpips_vgg", "ms_ssim")
IDENTITY = ("identity_original", "identity_other", "landmark_error")
SLICED = ("psnr_hole", "lpips_vgg", "identity_original", "identity_other")
EXAMPLES = {"best": 3, "worst": 3, "random": 6}
NOTE = "Bars are 95 % bootstrap intervals over people. eval/PROTOCOL.md says how every number is made."
Groups = Mapping[str, pd.DataFrame]  # method -> rows
Table = list[list[str]]  # the first row is the head


def load_rows(run: Path) -> dict[str, pd.DataFrame]:
    """Method -> rows, in the file's order. Raises InputError without any."""
    rows = read_frame(run / "rows.csv")
    if rows.empty:
        raise InputError(f"{run}/rows.csv: no rows; run eval/benchmark.py with that folder as --output first")
    return dict(list(rows.groupby("method", sort=False)))


def read_labels(path: Path | None) -> dict[str, dict[str, str]]:
    """CSV with a column `photo` (`person/file`) and one of each label -> photo -> label -> value."""
    if path is None:
        return {}
    try:
        labels = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read the labels ({error})") from error
    if "photo" not in labels or labels.empty:
        raise InputError(f"{path}: labels want a column `photo` with person/file, and one column a label")
    return labels.drop_duplicates("photo", keep="last").set_index("photo").to_dict("index")


def overview(run: Path) -> Table:
    """Means over all bins' rows from summary.csv, a line a bin and method."""
    means = read_summary(run)["mean"].unstack("metric").reindex(pairs_of(read_summary(run)))
    means = means.reindex(columns=list(OVERVIEW)).dropna(axis=1, how="all")
    lines = [
        [*key, *(f"{row[m]:.{heading(m)[1]}f}" if pd.notna(row[m]) else "-" for m in means)]
        for key, row in means.iterrows()
    ]
    return [["hole", "method", *(heading(m)[0] for m in means)], *lines]


def slices_table(groups: Groups, labels: Mapping[str, Mapping[str, str]], draws: int) -> Table:
    """Each slice and method: how many rows, and SLICED with intervals."""
    table = [["slice", "value", "method", "images", *(heading(m)[0] for m in SLICED)]]
    of_method = {method: slice_rows(rows, labels) for method, rows in groups.items()}
    for key in dict.fromkeys(key for found in of_method.values() for key in found):
        for method, rows in ((method, found[key]) for method, found in of_method.items() if key in found):
            cells = [cell(estimate(column(rows, m), rows["person"], draws), heading(m)[1]) for m in SLICED]
            table.append([*key, method, str(len(rows)), *cells])
    return table


def choose(rows: pd.DataFrame, metric: str, seed: int = 0) -> dict[str, pd.DataFrame]:
    """EXAMPLES of one method's rows: best and worst by the metric, and drawn by the seed without looking."""
    order = rows.dropna(subset=metric).sort_values(metric, ascending=TABLE[metric].lower, kind="stable")
    drawn = np.random.default_rng(seed).permutation(len(rows))[: EXAMPLES["random"]]
    return {
        "best": order[: EXAMPLES["best"]],
        "worst": order[::-1][: EXAMPLES["worst"]],
        "random": rows.iloc[sorted(drawn)],
    }


def examples(groups: Groups, run: Mapping[str, Any], data: Path, method: str, metric: str) -> dict[str, list]:
    """Title -> rows of the examples of `method`, filled again by every method, with identity and LPIPS."""
    config = load_config(BenchmarkConfig, None, [f"{k}={json.dumps(v)}" for k, v in run["config"].items()])
    loaders = {(load.args[0], load.args[1]): load for load in plan_items(config, data)}
    method_of = method_factory(config, {name: Path(folder) for name, folder in run["predictions"].items()})
    scores = {name: rows.set_index(["bin", "index"]) for name, rows in groups.items()}
    cache: dict[tuple[str, int], list[dict[str, str]]] = {}

    def pictures(key: tuple[str, int]) -> Iterator[dict[str, str]]:
        item = loaders[key]()
        yield {"name": "original", "uri": picture_uri(item.photo, "jpeg")}
        yield {"name": "input", "uri": picture_uri(item.masked, "jpeg")}
        for name in groups:
            one = {"name": name, "uri": picture_uri(method_of(name)(item).image, "jpeg")}
            if key in scores[name].index:
                own = scores[name].loc[key]
                one["scores"] = f"identity {own['identity_original']:.2f}, LPIPS {own['lpips_alex']:.3f}"
            yield one

    found = {}
    for title, rows in choose(groups[method], metric).items():
        how = "drawn by a fixed seed, not chosen" if title == "random" else f"of {method} by {heading(metric)[0]}"
        keys = [key for key in zip(rows["bin"], rows["index"]) if key in loaders]
        cache |= {key: list(pictures(key)) for key in keys if key not in cache}
        found[f"{title.capitalize()} ({how})"] = [cache[key] for key in keys]
    return found


def build(args: argparse.Namespace) -> tuple[str, str]:
    """(HTML, Markdown)."""
    groups, labels = load_rows(args.run), read_labels(args.labels)
    path = args.run / "run.json"
    run = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    method = args.method or list(groups)[-1]
    if method not in groups:
        raise InputError(f"--method {method}: the run has {', '.join(groups)}")
    if args.metric not in COMPARED:
        raise InputError(f"--metric {args.metric}: choose one of {', '.join(COMPARED)}")
    if args.data and not run:
        raise InputError(f"{path}: not there (an older run), so its cases cannot be filled again; leave --data out")
    values = {"name": args.run.name, "note": NOTE, "main": overview(args.run)}
    values["sliced"] = slices_table(groups, labels, args.draws)
    for name, metrics in (("quality", QUALITY), ("identity", IDENTITY)):
        known = [m for m in metrics if np.isfinite(column(groups[method], m)).any()]
        values[name] = uri_of(curves_figure(groups, known, args.draws), "png")
    if frontier := frontier_figure(groups, ("lpips_vgg", "identity_original"), args.draws):
        values["frontier"] = uri_of(frontier, "png")
    if args.data:
        values["examples"] = examples(groups, run, args.data, method, args.metric)
    values["about"] = json.dumps(run or {"run.json": "missing: a run of an older version"}, indent=1)
    page = jinja2.Environment(autoescape=True).from_string(PAGE.read_text(encoding="utf-8")).render(values)
    main, sliced = ("\n".join(markdown_table(values[name][0], values[name][1:])) for name in ("main", "sliced"))
    text = f"# Benchmark {args.run.name}\n\n{NOTE}\n\n{main}\n\n## Slices\n\n{sliced}\n"
    return page + "\n", text + f"\n## Run\n\n```json\n{values['about']}\n```\n"


def run(args: argparse.Namespace) -> None:
    """Write both files."""
    page, text = build(args)
    if len(page) > LARGEST:
        raise InputError(f"the page has {len(page) >> 20} MB, the limit is {LARGEST >> 20}; leave --data out")
    output = args.output or args.run / "report"
    for suffix, content in ((".html", page), (".md", text)):
        write_text(Path(f"{output}{suffix}"), content)
    print(f"{output}.html ({len(page) / 2**20:.1f} MB), {output}.md")


def main(argv: list[str] | None = None) -> int:
    """Parse, write both files. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="the data folder: show examples")
    parser.add_argument("--output", type=Path, help="without suffix; default RUN/report")
    parser.add_argument("--labels", type=Path, help="CSV: photo, then labels to slice by (skin tone, age, ...)")
    parser.add_argument("--method", help="whose best and worst examples are shown; default the run's last")
    parser.add_argument("--metric", default="identity_original", help="by which best and worst are found")
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
