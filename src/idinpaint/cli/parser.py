"""The command line's words: its commands, their options and what each may be."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from idinpaint import __version__
from idinpaint.cli.detect import add_detect, mask_argument
from idinpaint.cli.restore_options import add_restore_options
from idinpaint.exits import BAD
from idinpaint.strategies import CHOICES

IDENTITY_HELP = "of identity: bundled, or insightface:PACK (a pack's name, folder or ONNX file)"


class Parser(argparse.ArgumentParser):
    """argparse with its errors on one line."""

    def error(self, message: str) -> None:
        self.exit(BAD, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def whole_number(low: int, high: int, word: str | None = None) -> Callable[[str], int | str]:
    """An argparse type: an integer within [low, high], or the word."""

    def parse(text: str) -> int | str:
        if text == word:
            return text
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            allowed = f"from {low} to {high}" + (f" or {word}" if word else "")
            raise argparse.ArgumentTypeError(f"must be a whole number {allowed}, not {text!r}")
        return value

    return parse


def face_box(text: str) -> tuple[float, float, float, float]:
    """An argparse type: x,y,w,h in photo px, w and h above 0."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(abs(value) <= 1e6 for value in values) or min(values[2:]) <= 0:  # NaN is not
        raise argparse.ArgumentTypeError(f"must be x,y,w,h in photo pixels with w and h above 0, not {text[:60]!r}")
    return values


def per_cent(text: str) -> float:
    """An argparse type: 0 to 100, with or without %, as a share."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be per cent from 0 to 100, not {text!r}")
    return value


def device_name(text: str) -> str:
    """An argparse type: auto, cpu, cuda, cuda:1, mps, xpu; whether it is there is asked once torch is loaded."""
    if not re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda, cuda:1 (any number) or mps, not {text!r}")
    return text


def encoder_name(text: str) -> str:
    """An argparse type: auto, bundled, sface or insightface:PACK."""
    if text not in ("auto", "bundled", "sface") and not text.startswith("insightface"):
        raise argparse.ArgumentTypeError(f"must be bundled, sface or insightface:PACK, not {text!r}")
    return text


def file_path(text: str) -> Path:
    """An argparse type: a path that is not empty."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(prog="idinpaint", description="Restore damaged portraits and keep the person.")
    parser.add_argument("--version", action="version", version=f"idinpaint {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_restore(commands.add_parser("restore", help="fill the masked part of a photo, or of a folder of photos"))
    _add_analyze(commands.add_parser("analyze", help="what the mask hides, and what restore would do; paints nothing"))
    detect = commands.add_parser("detect", help="find scratches, cracks, tears, stains and dust; writes the mask")
    add_detect(detect, file_path, whole_number)
    _add_model(detect)
    serve = commands.add_parser("serve", help="the same as a page in the browser, on this machine (extra web)")
    _add_serve(serve)
    _add_model(serve)
    verify = commands.add_parser("verify", help="do two photos show the same person?")
    verify.add_argument("photo_a", type=file_path, metavar="PHOTO_A")
    verify.add_argument("photo_b", type=file_path, metavar="PHOTO_B")
    verify.add_argument("--json", action="store_true", help="print JSON")
    _add_model(verify)
    verify.add_argument("--identity", type=encoder_name, default="bundled", metavar="ENCODER", help=IDENTITY_HELP)
    download = commands.add_parser("download", help="fetch the optional files, checked by sha256")
    download.add_argument("names", nargs="*", metavar="NAME", help="yunet, sface, 2dfan; all that are missing")
    _add_prepare(commands.add_parser("prepare", help="a data set of portraits -> Parquet shards for training"))
    commands.add_parser("doctor", help="versions, devices, weights and optional backends")
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=file_path, metavar="IMAGE", help="a photo, or a folder of photos")
    parser.add_argument(
        "--mask",
        type=mask_argument,
        required=True,
        help="white = to be filled; a file, a folder paired by file stem, or auto: what detect finds",
    )
    parser.add_argument("--invert-mask", action="store_true", help="the mask is black where it is to be filled")
    parser.add_argument("--grow", type=whole_number(0, 64, "auto"), metavar="PX", help="widen the mask, or auto")
    parser.add_argument(
        "--face-box",
        type=face_box,
        action="append",
        metavar="X,Y,W,H",
        help="a face that is not found; may be repeated",
    )
    parser.add_argument(
        "--landmarks", choices=("bundled", "face-alignment"), default="bundled", help="face-alignment: 2DFAN (extra)"
    )
    _add_model(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="default", metavar="NAME_OR_PATH", help="weights; the bundled ones by default"
    )
    parser.add_argument("--device", type=device_name, default="auto", metavar="D", help="cpu, cuda, cuda:1, mps (auto)")
    parser.add_argument("--dtype", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="of the painting")


def _add_restore(parser: argparse.ArgumentParser) -> None:
    _add_inputs(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=file_path,
        required=True,
        metavar="OUT",
        help="its extension sets the format; or a folder",
    )
    parser.add_argument(
        "--reference",
        type=file_path,
        action="append",
        default=[],
        metavar="PHOTO",
        help="same person, or a folder; may be repeated",
    )
    parser.add_argument(
        "--no-reference-pixels", action="store_true", help="references guide and verify; nothing is taken from them"
    )
    parser.add_argument("--strategy", choices=CHOICES, default="auto", help="auto decides by what is hidden")
    parser.add_argument("--gan", metavar="NAME_OR_PATH", help="generator of the strategy gan; pdgan-face by default")
    parser.add_argument(
        "--num-samples", type=whole_number(1, 64), default=4, metavar="N", help="candidates, the best is kept (4)"
    )
    parser.add_argument("--steps", type=whole_number(1, 1000), metavar="N", help="denoising steps")
    parser.add_argument(
        "--seed", type=whole_number(0, 2**32 - 1), default=0, metavar="N", help="same seed, same result (0)"
    )
    parser.add_argument("--report", type=file_path, metavar="R.json", help="what was decided and why; or a folder")
    parser.add_argument("--report-html", type=file_path, metavar="R.html", help="the report as a page; or a folder")
    parser.add_argument("--invented", type=file_path, metavar="MAP.png", help="where candidates disagree; or a folder")
    parser.add_argument("--comparison", type=file_path, metavar="C.png", help="input beside result; or a folder")
    parser.add_argument(
        "--force", action="store_true", help="paint even where restore would abstain; the report says so"
    )
    parser.add_argument(
        "--max-coverage", type=per_cent, metavar="PERCENT", help="of the features: paint up to here, abstain above"
    )
    parser.add_argument(
        "--c2pa-cert", type=file_path, metavar="CERT.pem", help="sign the result with Content Credentials (extra c2pa)"
    )
    parser.add_argument("--c2pa-key", type=file_path, metavar="KEY.pem", help="private key of --c2pa-cert")
    parser.add_argument("--identity", type=encoder_name, default="bundled", metavar="ENCODER", help=IDENTITY_HELP)
    parser.add_argument(
        "--judge", type=encoder_name, default="auto", metavar="ENCODER", help="that verifies: sface, insightface:PACK"
    )
    _add_controller(parser)
    add_restore_options(parser, whole_number)


def _add_controller(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--controller", type=file_path, metavar="FILE.yaml", help="another ladder of strategies")


def _add_analyze(parser: argparse.ArgumentParser) -> None:
    _add_inputs(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_controller(parser)
    parser.add_argument("--overlay", type=file_path, metavar="O.png", help="landmarks and hole drawn; or a folder")


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=file_path,
        metavar="SOURCE",
        help="CelebAMask-HQ, CelebA, or a folder (with a sub-folder a person)",
    )
    parser.add_argument("out", type=file_path, metavar="OUT", help="a new folder, or one to go on with")
    parser.add_argument("--splits", type=file_path, metavar="DIR", help="lists of held-out people and photos")
    parser.add_argument(
        "--workers", type=whole_number(0, 256), default=0, metavar="N", help="processes (0: one a core)"
    )
    parser.add_argument(
        "--shard-size", type=whole_number(1, 100_000), default=500, metavar="N", help="photos a file (500)"
    )
    parser.add_argument(
        "--image-format", choices=("png", "webp", "jpeg"), default="png", help="jpeg loses a little (png)"
    )
    parser.add_argument("--device", type=device_name, default="auto", metavar="D", help="cpu, cuda, cuda:1, mps (auto)")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0: from other machines too")
    parser.add_argument("--port", type=whole_number(1, 65535), default=7860, metavar="N", help="(7860)")
    parser.add_argument(
        "--max-upload", type=whole_number(1, 2000), default=100, metavar="MB", help="larger files are refused (100)"
    )
