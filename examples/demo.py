"""The demo: damage a portrait that scikit-image ships, restore it with the command line, say where to look. Twice: with
a mask that is given, and an old print whose scratches are found.

    python examples/demo.py [FOLDER]      FOLDER: out/demo unless named

Writes original.png, portrait.png (the damaged photo), mask.png, restored.png, comparison.png and report.json;
of the print print.png, print_restored.png, print_restored_mask_auto.png and print_comparison.png.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from idinpaint.cli import main as idinpaint

# Brush strokes (x, y, radius in px) on the 512 px photo: as a torn print is creased, not as a test pattern.
STROKES = (
    ((330, 22, 7), (300, 48, 5), (283, 63, 8), (270, 82, 6), (262, 98, 4), (257, 112, 5), (252, 128, 5), (257, 143, 3)),
    ((96, 168, 9), (131, 148, 6), (160, 139, 8), (181, 129, 5), (194, 122, 6), (206, 127, 4), (203, 138, 3)),
    ((160, 66, 5), (176, 54, 7), (196, 47, 6), (214, 36, 8), (225, 26, 5)),
    ((22, 60, 4), (48, 98, 8), (57, 139, 5), (85, 171, 9), (90, 214, 5)),
    ((392, 318, 8), (421, 345, 6), (433, 387, 10), (470, 402, 6)),
)
SCRATCHES = (  # (x, y) px on the print
    ((178, 20), (190, 70), (206, 118), (214, 190), (236, 260)),
    ((330, 40), (318, 130), (322, 240), (300, 330)),
    ((20, 300), (120, 318), (190, 352), (260, 360)),
)
DAMAGE = (236, 231, 219)  # the colour of bare paper; nothing under the mask is ever read


def draw_mask(size: tuple[int, int]) -> Image.Image:
    """The damage as a mask, L mode: white where the picture is lost. The same on every run."""
    mask = Image.new("L", size, 0)
    pen = ImageDraw.Draw(mask)
    rng = np.random.default_rng(7)
    for stroke in STROKES:
        for (x0, y0, r0), (x1, y1, r1) in zip(stroke[:-1], stroke[1:], strict=True):
            for t in np.linspace(0.0, 1.0, 24):
                wobble = rng.normal(0.0, 0.7, 3)  # ragged edges
                x, y, r = x0 + t * (x1 - x0) + wobble[0], y0 + t * (y1 - y0) + wobble[1], r0 + t * (r1 - r0) + wobble[2]
                pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return mask


def write_inputs(folder: Path) -> None:
    """Write original.png, mask.png and portrait.png, the photo with the masked part gone."""
    from skimage.data import astronaut

    original = Image.fromarray(astronaut())
    mask = draw_mask(original.size)
    folder.mkdir(parents=True, exist_ok=True)
    original.save(folder / "original.png")
    mask.save(folder / "mask.png")
    Image.composite(Image.new("RGB", original.size, DAMAGE), original, mask).save(folder / "portrait.png")


def draw_print(look: str = "sepia") -> tuple[Image.Image, Image.Image, Image.Image]:
    """The portrait as an old print with grain, without and with scratches, and the scratches as a mask (L mode).

    look: sepia, grey or colour.
    """
    from skimage.data import astronaut

    rng = np.random.default_rng(3)
    photo = astronaut().astype(float)
    grey = photo @ np.array([0.299, 0.587, 0.114])
    grain = rng.normal(0, 5, grey.shape)
    if look == "sepia":
        grey = grey + grain
        photo = np.stack([grey * 0.9 + 24, grey * 0.82 + 14, grey * 0.68 + 4], -1)
    else:
        photo = (np.stack([grey] * 3, -1) if look == "grey" else photo) + grain[..., None]
    intact = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
    layer = Image.new("L", intact.size, 0)
    pen = ImageDraw.Draw(layer)
    for points in SCRATCHES:
        pen.line(points, fill=255, width=3, joint="curve")
    cover = layer.filter(ImageFilter.GaussianBlur(0.6))
    return intact, Image.composite(Image.new("RGB", intact.size, DAMAGE), intact, cover), layer


def write_print(folder: Path) -> None:
    """Write print.png: the portrait in sepia, with grain and scratches."""
    draw_print()[1].save(folder / "print.png")


def changed_outside(folder: Path, names: tuple[str, str, str] = ("portrait", "restored", "mask")) -> int:
    """How many known pixels differ between the damaged portrait and the restored one: promised to be none."""
    portrait, restored, mask = (np.asarray(Image.open(folder / f"{n}.png")) for n in names)
    return int(((portrait != restored).any(axis=-1) & (mask == 0)).sum())


def tell(folder: Path, seconds: float) -> None:
    """Say in a few lines what was decided, what holds, and where to look."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    decision = report["decision"]
    print(f"\nDecision     {decision['strategy']}: {decision['reason']}")
    for face in report["faces"]:
        hidden = sorted(face["coverage"].items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in hidden if share >= 0.01)
        print(f"Hidden       {100 * face['face_coverage']:.0f} % of the facial features ({parts})")
    print(f"Untouched    {changed_outside(folder)} pixels outside the mask changed")
    print(f"Time         {seconds:.1f} s, model loading included")
    print(f"\nLook at      {folder / 'comparison.png'}   the damage marked, the result, the candidates")
    print(f"             {folder / 'restored.png'}     the result; {folder / 'original.png'} is how it was")
    print(f"             {folder / 'report.json'}      every figure and the reason of the decision")


def main() -> int:
    """Run the demo; the exit status is that of `idinpaint restore`."""
    start = time.perf_counter()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
    write_inputs(folder)
    command = ["restore", str(folder / "portrait.png"), "--mask", str(folder / "mask.png")]
    command += ["-o", str(folder / "restored.png"), "--report", str(folder / "report.json")]
    command += ["--comparison", str(folder / "comparison.png")]
    print("idinpaint " + " ".join(command), flush=True)
    status = idinpaint(command)
    if status == 0:
        tell(folder, time.perf_counter() - start)
    return status or restore_print(folder)


def restore_print(folder: Path) -> int:
    """The second part: no mask is given. The exit status of `idinpaint restore`."""
    start = time.perf_counter()
    write_print(folder)
    command = ["restore", str(folder / "print.png"), "--mask", "auto", "-o", str(folder / "print_restored.png")]
    command += ["--comparison", str(folder / "print_comparison.png"), "--num-samples", "2"]
    print("\nidinpaint " + " ".join(command), flush=True)
    status = idinpaint(command)
    if status == 0:
        changed = changed_outside(folder, ("print", "print_restored", "print_restored_mask_auto"))
        print(f"\nUntouched    {changed} pixels outside the mask that was found changed")
        print(f"Time         {time.perf_counter() - start:.1f} s, model loading included")
        print(f"\nLook at      {folder / 'print_comparison.png'}   what was found, and the result")
    return status


if __name__ == "__main__":
    sys.exit(main())
