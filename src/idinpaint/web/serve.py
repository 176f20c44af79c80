"""`idinpaint serve`: the page on this machine. Nothing leaves it; uploads are taken away when it ends."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from idinpaint.types import InputError

QUEUE = 32  # visitors that may wait; the next is told that it is full
VISITS = 64  # sessions kept in memory


def run_serve(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    root = Path(tempfile.mkdtemp(prefix="idinpaint-web-"))
    try:
        page = start(args, root)
        print(f"idinpaint: http://{args.host}:{args.port}  (Ctrl-C ends it)", flush=True)
        page.block_thread()
        return 0
    finally:
        shutil.rmtree(root, ignore_errors=True)


def start(args: argparse.Namespace, root: Path) -> Any:
    """The running page. root: an empty folder for all uploads and results. InputError when it cannot run."""
    check_port(args.host, args.port)
    os.environ["GRADIO_TEMP_DIR"] = str(root / "files")  # read when components are made
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gradio as gr
    except ImportError as error:
        raise InputError(f"the page needs the extra web: pip install 'idinpaint[web]' ({error})") from error
    from idinpaint.web.desk import Desk
    from idinpaint.web.page import build_page

    visits = root / "visits"
    visits.mkdir(parents=True)
    page = build_page(Desk(visits, args))
    page.queue(max_size=QUEUE, default_concurrency_limit=1)
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # no fonts from elsewhere
    page.launch(
        server_name=args.host, server_port=args.port, share=False, quiet=True, prevent_thread_lock=True,
        max_file_size=f"{args.max_upload}mb", state_session_capacity=VISITS,
        ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False, run_history=False, inbrowser=False,
        footer_links=["api"], theme=theme, show_error=False,
    )  # fmt: skip
    return page


def check_port(host: str, port: int) -> None:
    """InputError when nothing can listen there."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port}: cannot listen there ({reason}); name another --host or --port") from None
