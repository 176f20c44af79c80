"""The command line: delegates, and turns every error into one line and an exit status.

0 restored (or: done), 2 bad input or usage, 3 abstained.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from idinpaint.cli.detect import run_detect
from idinpaint.cli.parser import build_parser
from idinpaint.exits import BAD, run_guarded
from idinpaint.web.serve import run_serve


def run_verify(args: argparse.Namespace) -> int:
    """`idinpaint verify`; the verdict is the answer, the exit status only says that there is one."""
    from idinpaint.cli.batch import Models
    from idinpaint.imaging.photo import load_photo
    from idinpaint.progress import Progress

    for path in (args.photo_a, args.photo_b):
        load_photo(path)
    progress = Progress(plain=False)
    restorer = Models(args, progress).restorer(painters=False)
    progress("comparing")
    result = restorer.verify(args.photo_a, args.photo_b)
    progress.clear()
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        fallback = f"{result['verdict']} (similarity {result['similarity']:.2f}, threshold {result['threshold']:.2f})"
        print(result.get("text", fallback))
    return 0


def run_doctor(_: argparse.Namespace) -> int:
    """`idinpaint doctor`; 2 when something required is missing or damaged."""
    from idinpaint.cli.doctor import report

    lines, ok = report()
    print("\n".join(lines))
    return 0 if ok else BAD


def _run(args: argparse.Namespace) -> int:
    if args.command == "verify":
        return run_verify(args)
    if args.command == "doctor":
        return run_doctor(args)
    if args.command == "download":
        from idinpaint.models.weights import run_download

        return run_download(args.names)
    if args.command in ("detect", "serve"):
        return run_detect(args) if args.command == "detect" else run_serve(args)
    if args.command == "prepare":
        from idinpaint.data.prepare import run_prepare

        return run_prepare(args)
    from idinpaint.cli.batch import run_analyze, run_restore

    return run_restore(args) if args.command == "restore" else run_analyze(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.error("a command is needed: restore, analyze, detect, serve, verify, prepare, download or doctor")
    # Before torch is loaded: threads that wait by spinning made painting five times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run_guarded(lambda: _run(args))
