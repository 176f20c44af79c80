"""Attack the command line with the real networks: odd photos, masks, references, paths, controllers and options.

    python tests/attack.py --tries 400 --seed 0
    python tests/attack.py --tries 2500 --without-networks     a fill from known pixels stands in

Each try draws a portrait (as it is, or odd: PICTURES), damages some of its files, and runs `idinpaint restore` on one
photo or a folder. Counted are broken promises: another status than 0, 2, 3; a traceback; an error of more than one
line; a file lost, changed or left behind; a known sample that changed; a byte that depends on what lay under the mask.
Prints a summary and the faults.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import sys
import tempfile
import time
import types
from collections import Counter
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from PIL import Image

from idinpaint.cli.command_line import main as run
from idinpaint.judging.controller import load_controller

MODES = {"png": ("1", "L", "LA", "P", "RGB", "RGBA"), "jpg": ("L", "RGB", "CMYK"), "tif": ("L", "RGB", "RGBA", "CMYK")}
MODES |= {"webp": ("RGB", "RGBA"), "bmp": ("L", "RGB"), "gif": ("L", "P")}
STRATEGIES = ("auto", "auto", "auto", "telea", "prior", "gan", "diffusion", "colorize")
CONTROLLERS = (
    "thin: 0.01\n",
    "thin: 2\n",
    "thn: 0.1\n",
    "1: 2\n",
    "[1, 2]\n",
    "a: &a 1\nb: *a\n",
    "\xff",
    "weights: 5\n",
)


def small_face(photo: np.ndarray) -> np.ndarray:
    """A face of some 20 px in a plain picture."""
    out = np.full((180, 240, 3), 120, np.uint8)
    out[60:104, 90:134] = cv2.resize(photo, (44, 44), interpolation=cv2.INTER_AREA)
    return out


def drawing(photo: np.ndarray) -> np.ndarray:
    """A pencil drawing by filter."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    sketch = cv2.divide(grey, 255 - cv2.GaussianBlur(255 - grey, (0, 0), 6), scale=256)
    return np.repeat(sketch[..., None], 3, 2)


# Odd pictures, made of a portrait uint8 [S, S, 3].
PICTURES: dict[str, Any] = {
    "two faces": lambda photo: np.hstack([photo, photo[:, ::-1]]),
    "small face": small_face,
    "no face": lambda photo: cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8), (160, 120)),
    "drawing": drawing,
    "flat colours": lambda photo: cv2.bilateralFilter(photo, 9, 90, 9) // 48 * 48 + 24,
    "upside down": lambda photo: photo[::-1, ::-1],
    "overexposed": lambda photo: np.clip(photo.astype(int) * 2 + 90, 0, 255).astype(np.uint8),
    "sliver": lambda photo: photo[:, photo.shape[1] * 2 // 5 : photo.shape[1] // 2],
}


class Try:
    """One drawn command in a folder of its own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng, self.folder, self.seed = np.random.default_rng(seed), folder, seed
        self.broken = self.rng.random() < 0.45
        side = int(self.rng.integers(96, 257))
        portrait = Image.fromarray(skimage.data.astronaut()[:256, 96:352]).resize((side, side))
        odd = np.random.default_rng([seed, 1])  # a stream of its own: the rest of a seed's try stays what it was
        picture = list(PICTURES.values())[int(odd.integers(len(PICTURES)))] if odd.random() < 0.3 else np.copy
        self.pixels = np.ascontiguousarray(picture(np.asarray(portrait)))
        self.hole = self._hole(*self.pixels.shape[:2])
        self.suffix = self._pick(list(MODES))
        self.mode = self._pick(MODES[self.suffix])
        self.out = folder / f"o.{self._pick(['png', 'tif', 'webp', 'jpg', 'bmp', 'xyz'] if self.broken else ['png'])}"
        self.command = self._write()

    def _pick(self, items: Any) -> Any:
        return items[int(self.rng.integers(0, len(items)))]

    def _hole(self, height: int, width: int) -> np.ndarray:
        hole, side = np.zeros((height, width), bool), max(12, min(height, width))
        for _ in range(int(self.rng.integers(1, 3))):
            (x, y), (w, h) = self.rng.integers(0, side - 8, 2), self.rng.integers(4, max(6, side // 3), 2)
            hole[y : y + h, x : x + w] = True
        return hole

    def photo(self, pixels: np.ndarray) -> Path:
        """Writes the photo in the drawn mode and container; lossy ones are only read, not compared."""
        path = self.folder / f"a.{self.suffix}"
        image = Image.fromarray(pixels)
        if self.mode in ("LA", "RGBA"):
            image.putalpha(Image.fromarray(pixels[..., 0]))
        image.convert(self.mode).save(path, **({"lossless": True, "exact": True} if self.suffix == "webp" else {}))
        return path

    def _write(self) -> list[str]:
        folder, photo, mask = self.folder, self.photo(self.pixels), self.folder / "m.png"
        Image.fromarray((self.hole * 255).astype(np.uint8)).save(mask)
        words = ["restore", photo, "--mask", mask, "-o", self.out, "--num-samples", 1 + int(self.rng.integers(0, 2))]
        words += ["--steps", 1, "--strategy", self._pick(STRATEGIES), "--seed", int(self.rng.integers(0, 9))]
        words += ["--report", folder / self._pick(["r.json", "new/deep/r.json"])] if self.rng.random() < 0.5 else []
        words += ["--comparison", folder / "c.png"] if self.rng.random() < 0.2 else []
        words += ["--report-html", folder / "r.html"] if self.rng.random() < 0.2 else []
        words += ["--invented", folder / "i.png"] if self.rng.random() < 0.2 else []
        words += ["--force"] if self.rng.random() < 0.2 else []
        words += ["--face-box", "20,10,80,80"] if self.rng.random() < 0.3 else []
        if self.rng.random() < 0.3:
            Image.fromarray(self.pixels[:, ::-1]).save(folder / "ref.png")
            words += ["--reference", folder / "ref.png"]
        if self.broken:
            words = self._spoil(words, photo, mask)
        return [str(word) for word in words]

    def _spoil(self, words: list[Any], photo: Path, mask: Path) -> list[Any]:
        """Damages one file, or asks for something that cannot be."""
        folder, kind = self.folder, int(self.rng.integers(0, 9))
        if kind < 3:
            path = self._pick([photo, mask, *folder.glob("ref.png")])
            data = bytearray(path.read_bytes())
            where = int(self.rng.integers(0, len(data)))
            data[where : where + 4] = self.rng.bytes(4) if kind else b""
            path.write_bytes(data[:where] if kind == 2 else data)
        elif kind == 3:
            (folder / "c.yaml").write_text(self._pick(CONTROLLERS), encoding="latin-1")
            words += ["--controller", folder / "c.yaml"]
        elif kind == 4:  # an output over an input, or two in one
            victim = self._pick([photo, mask, self.out])
            words += [self._pick(["--report", "--report-html"]), victim]
        elif kind == 5:
            (folder / "loop.png").symlink_to("loop.png")
            os.mkfifo(folder / "pipe.png")
            odd = ["loop.png", "pipe.png", "a.png/x.png", "n" * 255 + ".png", "", "m.png"]
            words[words.index("-o") + 1] = folder / self._pick(odd)
        elif kind == 6:
            wrong = [["--face-box", "1e5,0,9,9"], ["--grow", "65"], ["--gan", folder], ["--model", folder / "none"]]
            words += self._pick([*wrong, ["--c2pa-cert", mask], ["--max-coverage", "101"], ["--reference", folder]])
        elif kind == 7:
            size = self._pick([(300, 1), (4000, 20), (7, 7), (1, 1), (3000, 100)])
            Image.new("RGB", size, (9, 99, 200)).save(photo.with_suffix(".png"))
            spot = Image.new("L", size)
            spot.putpixel((size[0] // 2, 0), 255)
            spot.save(mask)
            words[1] = photo.with_suffix(".png")
        else:  # folders
            (folder / "in").mkdir()
            photo.rename(folder / "in" / photo.name)
            (folder / "in" / "gone.png").symlink_to("nothing")
            (folder / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
            words = ["restore", folder / "in", "--mask", mask, "-o", folder / "out", "--strategy", "telea"]
        return words


def heard(command: list[str]) -> tuple[int, str, str]:
    """(status, stdout, stderr) of a command in this process, the descriptor included, where libraries talk."""
    out, before = StringIO(), os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(out):
                status = run(command)
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        return status, out.getvalue(), file.read().decode(errors="replace")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path below the folder, regular files with their bytes."""
    paths = folder.rglob("*")
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


def faults(case: Try) -> tuple[int, list[str]]:
    """(status, broken promises) of one try."""
    before = contents(case.folder)
    status, _, error = heard(case.command)
    after, found = contents(case.folder), []
    lines, several = error.splitlines(), "in" in case.command[1].rsplit("/", 1)[-1]
    if status not in (0, 2, 3):
        found.append(f"status {status}")
    if "Traceback" in error or any(not line.startswith("idinpaint") for line in lines):
        found.append("talk on stderr")
    errors = sum("error:" in line for line in lines)
    if errors > (2 if several else 1) or (status == 2) != (errors > 0):
        found.append(f"{errors} errors said")
    if any(name.endswith(".tmp") for name in after):
        found.append("a temporary file stays")
    if status == 2 and not several and after != before:
        found.append("files changed though it failed")
    written = {Path(word).name for word in case.command[3:] if word.startswith(str(case.folder))} | {
        "out",
        "new",
        "deep",
    }
    if any(after.get(name) != data for name, data in before.items() if Path(name).name not in written - {"m.png"}):
        found.append("an input was changed or lost")
    if status != 2 and not case.broken and case.suffix not in ("jpg", "gif"):
        found += promises(case, status)
    return status, found


def promises(case: Try, status: int) -> list[str]:
    """Known samples of the photo and its output agree; other pixels under the mask give the same bytes."""
    with Image.open(case.folder / f"a.{case.suffix}") as photo, Image.open(case.out) as out:
        mode = "RGBA" if case.mode in ("LA", "RGBA") else "RGB"
        cmyk = case.mode == "CMYK"
        first, second = np.asarray(photo.convert(mode)), np.asarray(out.convert(mode))
    found = [] if cmyk or np.array_equal(first[~case.hole], second[~case.hole]) else ["known samples changed"]
    if case.mode in ("P", "1"):  # their palette, or dither, depends on every pixel
        return found
    kept = case.out.read_bytes()
    pixels = case.pixels.copy()
    pixels[case.hole] = case.rng.integers(0, 256, (int(case.hole.sum()), 3))
    case.photo(pixels)
    if heard(case.command)[0] != status or case.out.read_bytes() != kept:
        found.append("leak: the bytes depend on what the mask hides")
    return found


def stand_in() -> None:
    """No network: what is tested is the way of files in and out."""
    from test_fuzz import Filler

    class Quick(Filler):
        def use_controller(self, path: Path) -> None:
            """Reads it."""
            load_controller(path)

    sys.modules["idinpaint.restorer"] = types.SimpleNamespace(Restorer=Quick)


def load_once() -> None:
    """Commands share the networks; each gets a Restorer of its own, whose controller it may change."""
    from idinpaint.restorer import Restorer

    loaded = cache(Restorer.from_pretrained)
    Restorer.from_pretrained = lambda *words, **settings: copy.copy(loaded(*words, **settings))


def main() -> int:
    """1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after that")
    parser.add_argument("--without-networks", action="store_true")
    arguments = parser.parse_args()
    stand_in() if arguments.without_networks else load_once()
    started, statuses, broken = time.monotonic(), Counter(), []
    for seed in range(arguments.seed, arguments.seed + arguments.tries):
        if time.monotonic() - started > 60 * arguments.minutes:
            break
        with tempfile.TemporaryDirectory(prefix="attack") as folder:
            case, began = Try(seed, Path(folder)), time.monotonic()
            status, found = faults(case)
        statuses[status] += 1
        if found:
            broken.append({"seed": seed, "faults": found, "command": " ".join(case.command)})
            print(json.dumps(broken[-1]), flush=True)
        if time.monotonic() - began > 60:
            print(json.dumps({"seed": seed, "seconds": round(time.monotonic() - began)}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = round(time.monotonic() - started)
    print(json.dumps({"statuses": statuses, "broken": len(broken), "seconds": seconds, "peak_mb": round(peak)}))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
