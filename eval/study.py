"""A blind study: people choose between two restorations of a photo, and a model of their choices ranks the methods.

    python eval/study.py make --config configs/benchmark.yaml --data DATA --output study --pairs 60
    python eval/study.py make --pictures runs/sheets/pictures/faces --output study   folders of pictures (below)
    python eval/study.py score study votes-*.json

`make` writes OUTPUT/index.html (self-contained, opens offline; votes are kept in the browser and saved as a file) and
OUTPUT/key.json, which says what was left and right: do not give it to the voters. Never commit either.
--pictures DIR: DIR/masked/CASE.png and DIR/METHOD/CASE.png, as `eval/realism.py --sheet` writes them; the untouched
photos in DIR/original are a method like any other.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cases import BenchmarkConfig, plan_items, read_rgb
from command import add_data, add_shared, parser_of, run_main, write_json, write_text
from methods import method_factory, parse_predictions
from pictures import picture_uri
from tables import markdown_table

from idinpaint.config import load_config
from idinpaint.types import InputError

PAGE = Path(__file__).with_name("study_page.html")
DRAWS = 1000
Vote = tuple[str, str, float, str]  # method a, method b, what a got (1, 0.5 or 0), trial
PRIOR = 0.5  # half a win and half a loss of each pair: finite strengths where one method wins always


def plan_pairs(methods: Sequence[str], cases: int, pairs: int, seed: int) -> list[tuple[int, str, str]]:
    """(case, left, right): pairs of methods in turn, cases in random order, sides by a coin."""
    if len(methods) < 2:
        raise InputError("methods: a study wants at least two")
    rng = np.random.default_rng(seed)
    combinations = list(itertools.combinations(methods, 2))
    order = np.concatenate([rng.permutation(cases) for _ in range(-(-pairs // cases))])
    plan = []
    for number in range(pairs):
        pair = combinations[number % len(combinations)]
        left, right = pair if rng.random() < 0.5 else pair[::-1]
        plan.append((int(order[number]), left, right))
    return plan


class Folders:
    """Cases whose pictures are there: FOLDER/masked/CASE.png and FOLDER/METHOD/CASE.png."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a folder without them, or with a method that lacks a case."""
        self.folder, self.cases = folder, sorted(path.name for path in (folder / "masked").glob("*.png"))
        if not self.cases:
            raise InputError(f"{folder}/masked: no PNG files there; `eval/realism.py --sheet` writes such a folder")
        self.methods = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != "masked")
        for path in (folder / method / case for method in self.methods for case in self.cases):
            if not path.is_file():
                raise InputError(f"{path}: no such picture; every method needs every case of {folder}/masked")

    def trial(self, case: int, left: str, right: str) -> tuple[list[np.ndarray], dict[str, str]]:
        """([masked, left, right], what the key says of the case)."""
        name = self.cases[case]
        return [read_rgb(self.folder / kind / name) for kind in ("masked", left, right)], {"case": Path(name).stem}


class Benchmark:
    """The benchmark's cases, restored as they are asked for."""

    def __init__(self, config: BenchmarkConfig, data: Path, predictions: Mapping[str, Path]) -> None:
        self.cases, self.methods = plan_items(config, data), [*config.methods, *predictions]
        self.method_of = method_factory(config, predictions)

    def trial(self, case: int, left: str, right: str) -> tuple[list[np.ndarray], dict[str, str]]:
        """([masked, left, right], what the key says of the case)."""
        item = self.cases[case]()
        pictures = [item.masked, *(self.method_of(name)(item).image for name in (left, right))]
        return pictures, {"case": item.id, "person": item.entry.person}


def make(args: argparse.Namespace) -> None:
    """The page and its key."""
    config = load_config(BenchmarkConfig, args.config, args.overrides)
    if args.pictures is None and args.data is None:
        raise InputError(
            "make: --data or --pictures is missing; name the data sets' folder, or one of finished pictures"
        )
    if args.pictures:
        source: Folders | Benchmark = Folders(args.pictures)
    else:
        source = Benchmark(config, args.data, parse_predictions(args.predictions, config.methods))
    plan = plan_pairs(source.methods, len(source.cases), args.pairs, config.seed)
    trials, key = [], {}
    for number, (case, left, right) in enumerate(plan):
        pictures, said = source.trial(case, left, right)
        uris = [picture_uri(pixels, "png") for pixels in pictures]
        trials.append({"id": str(number), **dict(zip(("input", "left", "right"), uris, strict=True))})
        key[str(number)] = {"left": left, "right": right, **said}
    study = f"{config.seed}-{np.random.default_rng().integers(2**40):x}"
    text = json.dumps({"id": study, "trials": trials}).replace("<", "\\u003c")
    page = PAGE.read_text(encoding="utf-8").replace("/*TRIALS*/", text)
    write_text(args.output / "index.html", page)
    write_json(args.output / "key.json", {"id": study, "trials": key})
    print(f"{args.output}/index.html: {len(trials)} pairs, {len(page) / 2**20:.1f} MB; keep key.json from the voters")


def read_votes(folder: Path, files: Sequence[Path]) -> list[Vote]:
    """All votes with the methods named by the key. Raises InputError for another study's file or one sent twice."""
    try:
        key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}/key.json: cannot be read ({error}); name the folder that `make` wrote") from error
    votes, voters = [], set()
    for path in files:
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            study, voter, own = given["study"], given["voter"], given["votes"]
            pairs = [(key["trials"][v["trial"]], {"left": 1.0, "tie": 0.5, "right": 0.0}[v["choice"]], v) for v in own]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a file of votes of this study ({error!r})") from error
        if study != key["id"]:
            raise InputError(f"{path}: votes of study {study}, the key is of {key['id']}")
        if voter in voters:
            raise InputError(f"{path}: voter {voter} is there twice; leave one file out")
        voters.add(voter)
        votes += [(trial["left"], trial["right"], score, vote["trial"]) for trial, score, vote in pairs]
    if not votes:
        raise InputError("no votes in these files")
    return votes


def bradley_terry(votes: Sequence[Vote], methods: Sequence[str], steps: int = 500) -> np.ndarray:
    """[M] log strengths, mean 0: P(a beats b) = 1 / (1 + exp(s_b - s_a)); Hunter 2004's MM, a tie is half a win."""
    place = {name: i for i, name in enumerate(methods)}
    wins = PRIOR * (1 - np.eye(len(methods)))
    for a, b, score, _ in votes:
        wins[place[a], place[b]] += score
        wins[place[b], place[a]] += 1 - score
    games, strength = wins + wins.T, np.ones(len(methods))
    for _ in range(steps):
        strength = wins.sum(1) / (games / (strength[:, None] + strength[None])).sum(1)
        strength /= np.exp(np.log(strength).mean())
    return np.log(strength)


def score_votes(votes: Sequence[Vote], draws: int = DRAWS, seed: int = 0) -> list[dict[str, object]]:
    """Methods, best first: log strength with a 95 % bootstrap interval over trials, votes, share of them won."""
    methods = sorted({name for vote in votes for name in vote[:2]})
    value = bradley_terry(votes, methods)
    by_trial: dict[str, list[Vote]] = {}
    for vote in votes:
        by_trial.setdefault(vote[3], []).append(vote)
    trials, rng = list(by_trial.values()), np.random.default_rng(seed)
    samples = []
    for _ in range(draws):
        drawn = [vote for index in rng.integers(0, len(trials), len(trials)) for vote in trials[index]]
        samples.append(bradley_terry(drawn, methods, 60))
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    rows = []
    for index, name in enumerate(methods):
        own = [v[2] if v[0] == name else 1 - v[2] for v in votes if name in v[:2]]
        row: dict[str, object] = {"method": name, "strength": float(value[index]), "low": float(low[index])}
        rows.append(row | {"high": float(high[index]), "votes": len(own), "won": float(np.mean(own))})
    return sorted(rows, key=lambda row: -float(row["strength"]))


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown."""
    lines = []
    for r in rows:
        strength = f"{r['strength']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}]"
        lines.append([r["method"], strength, r["votes"], f"{100 * r['won']:.0f} %"])
    return "\n".join(markdown_table(["method", "strength [95 %]", "votes", "won"], lines))


def run(args: argparse.Namespace) -> None:
    """Make a study, or score its votes."""
    if args.command == "make":
        make(args)
    else:
        print(table(score_votes(read_votes(args.study, args.votes))))


def main(argv: list[str] | None = None) -> int:
    """Parse and run. Returns 0, or 2 for bad input."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    add_data(maker, needed=False)
    add_shared(maker, "--output", "--set", "--predictions")
    maker.add_argument("--config", type=Path, help="YAML of the keys of BenchmarkConfig")
    maker.add_argument("--pictures", type=Path, metavar="DIR", help="finished pictures, in place of restoring any")
    maker.add_argument("--pairs", type=int, default=60)
    scorer = commands.add_parser("score")
    scorer.add_argument("study", type=Path)
    scorer.add_argument("votes", type=Path, nargs="+")
    return run_main(run, parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
