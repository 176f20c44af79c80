"""`idinpaint detect`: a photo -> the mask of its damage. What the command line needs before anything is loaded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from idinpaint.types import InputError

AUTO = "auto"  # as --mask: find the damage; a file of that name is ./auto


def mask_argument(text: str) -> Path | str:
    """An argparse type: auto, or a path that is not empty."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("an empty path")
    return AUTO if text == AUTO else Path(text)


def add_detect(parser: argparse.ArgumentParser, file_path: Any, whole_number: Any) -> None:
    """The options of `idinpaint detect` that it does not share; file_path, whole_number: argparse types."""
    parser.add_argument("image", type=file_path, metavar="PHOTO")
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        required=True,
        metavar="MASK.png",
        help="white = damage; PNG, TIFF or BMP",
    )
    parser.add_argument("--grow", type=whole_number(0, 64), default=0, metavar="PX", help="widen what is found (0)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_detect(args: argparse.Namespace) -> int:
    """`idinpaint detect`: writes the mask of the damage, also an empty one; the exit status only says that it did."""
    import numpy as np

    from idinpaint.cli.jobs import always_read, check_distinct, model_files
    from idinpaint.cli.lazy_models import Models
    from idinpaint.imaging.containers import check_fits
    from idinpaint.imaging.encoders import check_output
    from idinpaint.imaging.formats import output_format
    from idinpaint.imaging.mask_grow import grow_mask
    from idinpaint.imaging.photo import load_photo
    from idinpaint.imaging.staging import refuse_loops
    from idinpaint.progress import Progress
    from idinpaint.report.visuals import save_picture

    refuse_loops(args.output)
    check_output(args.output)
    if output_format(args.output).name == "JPEG":
        raise InputError(f"{args.output}: JPEG blurs a mask's rim; name a .png")
    check_distinct([args.image, *always_read(), *model_files(Path(args.model))], [args.output])
    photo = load_photo(args.image)
    check_fits(photo.size, args.output)
    progress = Progress(plain=False)
    models = Models(args, progress)
    progress("finding the damage")
    mask = grow_mask(models.finder().find(photo.rgb), args.grow)
    save_picture(args.output, np.where(mask, np.uint8(255), np.uint8(0)))
    progress.clear()
    share = float(mask.mean())
    if args.json:
        row = {"image": str(args.image), "mask": str(args.output), "damaged": bool(mask.any()), "hole_ratio": share}
        print(json.dumps(row | {"width": photo.size[0], "height": photo.size[1]}, indent=2))
    elif mask.any():
        print(f"{args.output}: damage on {100 * share:.2f} % of the photo, white")
    else:
        print(f"{args.output}: no damage was found, the mask is black")
    return 0
