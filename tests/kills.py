"""Kill restore, a folder of photos, prepare and training at random moments, by SIGKILL and SIGTERM in turn.

    python tests/kills.py --kills 50

After each kill: outputs are whole or as they were; after SIGTERM also no temporary file and one line. In the end
prepare and training are run to their ends and compared with undisturbed runs. Prints a summary and the faults.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import skimage.data
import yaml
from PIL import Image
from safetensors.torch import load_file
from test_engine import COMMON

REPO = Path(__file__).parents[1]
OLD = b"the old output"
TRAINING = {**COMMON, "checkpointing_steps": 3, "batch_norm": True, "threads": 1, "max_train_steps": 600}


class Kills:
    """The commands and what they must keep to. folder: for everything that is written."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng, self.faults, self.counts = folder, rng, [], Counter()
        photo = Image.fromarray(skimage.data.astronaut()[:256, 96:352])
        mask = np.zeros((256, 256), np.uint8)
        mask[60:70, 100:160] = 255
        Image.fromarray(mask).save(folder / "m.png")
        photo.save(folder / "a.png")
        for top, name in (("in", "one"), ("people", "ann"), ("people", "bob")):
            (folder / top / name).mkdir(parents=True)
            for number in range(4):
                target = folder / "in" if top == "in" else folder / top / name
                photo.rotate(number).save(target / f"{number}.png")
        (folder / "in" / "one").rmdir()
        cli = [sys.executable, "-m", "idinpaint.cli"]
        fast = ["--mask", folder / "m.png", "--num-samples", "1", "--steps", "1"]
        single = [*cli, "restore", folder / "a.png", *fast, "-o", folder / "single" / "o.png"]
        self.commands = {
            "restore": [*single, "--report", folder / "single" / "r.json", "--comparison", folder / "single" / "c.png"],
            "folder": [*cli, "restore", folder / "in", *fast, "-o", folder / "many", "--report", folder / "reports"],
            "prepare": self.prepare("shards"),
            "training": self.training("run"),
        }
        self.longest = {"restore": 12.0, "folder": 25.0, "prepare": 20.0, "training": 15.0}

    def prepare(self, name: str) -> list[object]:
        """Into a folder of that name."""
        words = ["prepare", self.folder / "people", self.folder / name, "--workers", "1", "--shard-size", "2"]
        return [sys.executable, "-m", "idinpaint.cli", *words]

    def training(self, name: str) -> list[object]:
        """The tests' small recipe into a folder of that name."""
        config = self.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump({**TRAINING, "output_dir": str(self.folder / name)}))
        return [sys.executable, REPO / "tests" / "tiny_recipe.py", "--config", config]

    def start(self, command: list[object]) -> subprocess.Popen:
        """Without a terminal, and without a word on stdout."""
        env = {**os.environ, "PYTHONPATH": str(REPO / "src"), "ACCELERATE_USE_CPU": "true"}
        words = [str(word) for word in command]
        return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def kill(self, number: int, what: str) -> None:
        """One command, one signal at a random moment, and the checks."""
        for name in ("single/o.png", "single/r.json", "single/c.png"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(OLD)
        run, sent = self.start(self.commands[what]), (signal.SIGKILL, signal.SIGTERM)[number % 2]
        time.sleep(float(self.rng.uniform(0.1, 1.0)) * self.longest[what])
        ended = run.poll() is not None
        run.send_signal(sent)
        _, error = run.communicate(timeout=120)
        found = self.check(what, sent, error, ended)
        self.faults += [f"kill {number}, {what}, {sent.name}: {fault}" for fault in found]
        self.counts[f"{what} {sent.name}{' (had ended)' if ended else ''}"] += 1

    def check(self, what: str, sent: signal.Signals, error: str, ended: bool) -> list[str]:
        """Broken promises."""
        found = ["traceback"] if "Traceback" in error else []
        temporary = [p for p in self.folder.rglob("*") if p.name.endswith(".tmp")]
        if sent == signal.SIGTERM and temporary:
            mine = {"restore": "single", "folder": "many", "prepare": "shards", "training": "run"}[what]
            found += [f"{p} stays" for p in temporary if p.relative_to(self.folder).parts[0] == mine]
        for path in temporary if what in ("restore", "folder") else []:  # of SIGKILL; later checks are of later kills
            subprocess.run(["rm", "-r", "--", str(path)], check=False)
        one = [(self.folder / "single" / name).read_bytes() == OLD for name in ("o.png", "r.json", "c.png")]
        if len(set(one)) > 1 and sent == signal.SIGTERM:
            found.append("some outputs of a photo are new and some old")
        for path in [*self.folder.glob("single/*.png"), *self.folder.glob("many/*.png")]:
            if path.read_bytes() != OLD:
                Image.open(path).load()
        for path in [*self.folder.glob("single/*.json"), *self.folder.glob("reports/*.json")]:
            if path.read_bytes() != OLD:
                json.loads(path.read_text())
        if sent == signal.SIGTERM and what == "folder" and (self.folder / "many").is_dir() and not ended:
            rows = (self.folder / "many" / "summary.csv").read_text().count("\n") if error.count("terminated") else 1
            if rows < 1:
                found.append("no summary")
        return found

    def compare(self) -> None:
        """The killed runs, run to their ends, against undisturbed ones."""
        for what, other in (("prepare", self.prepare("shards2")), ("training", self.training("run2"))):
            for command in (self.commands[what], other):
                run = self.start(command)
                _, error = run.communicate()
                self.faults += [f"{what} does not end: {error[-300:]}"] if run.returncode else []
        for path in sorted((self.folder / "shards2").glob("data/*")):
            if path.read_bytes() != (self.folder / "shards" / "data" / path.name).read_bytes():
                self.faults.append(f"{path.name} differs from an undisturbed run's")
        first, second = (load_file(self.folder / name / "tiny.safetensors") for name in ("run", "run2"))
        if not all((first[key] == second[key]).all() for key in first):
            self.faults.append("weights differ from an undisturbed run's")
        if rest := [str(path) for path in self.folder.glob("*/**/*.tmp")]:
            self.faults.append(f"left in the end: {rest}")


def main() -> int:
    """1 when something was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kills") as folder:
        kills = Kills(Path(folder), np.random.default_rng(arguments.seed))
        for number in range(arguments.kills):
            kills.kill(number, list(kills.commands)[number // 2 % 4])
        kills.compare()
    seconds = round(time.monotonic() - started)
    print(json.dumps({"kills": kills.counts, "faults": kills.faults, "seconds": seconds}, indent=1))
    return int(bool(kills.faults))


if __name__ == "__main__":
    sys.exit(main())
