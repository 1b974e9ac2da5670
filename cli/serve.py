"""`r2t serve`: a page in the browser to ask videos, on this machine alone."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated

import typer

from r2t.cli.downloads import announce_download
from r2t.cli.shared.apps import examples
from r2t.cli.shared.options import (
    Checkpoint,
    Device,
    Offline,
    RunFps,
    RunModel,
    RunPretrained,
    TopMoments,
    parse_size,
)
from r2t.cli.ui import handle_errors, human_bytes, note
from r2t.store.errors import ConfigError

LARGEST_UPLOAD_BYTES = 2 * 10**9
EXAMPLES = examples(
    "pip install 'r2-tuning[serve]'",
    "r2t serve --checkpoint runs/x",
    "r2t serve --checkpoint runs/x --port 8000 --max-upload 5GB --max-minutes 120",
)


def serve(  # noqa: PLR0913 - a parameter for each option
    checkpoint: Checkpoint,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 7860,
    top: TopMoments = 5,
    max_upload: Annotated[
        int,
        typer.Option(
            help="Largest video to accept; by default 2GB.",
            parser=parse_size,
            metavar="SIZE",
            show_default=False,
        ),
    ] = LARGEST_UPLOAD_BYTES,
    max_minutes: Annotated[
        float, typer.Option(help="Longest video to accept; memory grows with it.")
    ] = 30.0,
    keep: Annotated[
        int, typer.Option(min=1, help="Videos to keep encoded; the oldest are forgotten.")
    ] = 4,
    model: RunModel = None,
    pretrained: RunPretrained = None,
    fps: RunFps = None,
    offline: Offline = False,
    device: Device = "auto",
) -> None:
    """Open a page on this machine: drop a video, type sentences, click the moments found.

    A video is encoded once, so that every sentence after is answered at once. Nobody else on the
    network can reach the page, and it loads nothing from there. Uploads lie in a private folder
    that goes when the page is closed with Ctrl-C.
    """
    with handle_errors(), _private_folder():
        if find_spec("gradio") is None:
            raise ConfigError("the page needs Gradio: pip install 'r2-tuning[serve]'")
        from r2t.cli.predict import pick_frame_rate, started_pool
        from r2t.cli.serve_page import Page, launch
        from r2t.cli.video_asker import VideoAsker
        from r2t.extract.clip import FrozenClip
        from r2t.train.devices import pick_device
        from r2t.train.grounder import Grounder
        from r2t.train.presence import load_rule

        if not max_minutes > 0:
            raise ConfigError(f"--max-minutes {max_minutes:g}: must be above 0")
        processor = pick_device(device)
        grounder = Grounder.load(checkpoint, device=processor)
        rule = load_rule(checkpoint)
        rate = pick_frame_rate(grounder, fps)
        with started_pool() as pool:
            clip = FrozenClip.matching(
                grounder,
                model=model,
                pretrained=pretrained,
                device=processor,
                offline=offline,
                announce=announce_download,
                pool=pool,
            )
            asker = VideoAsker(
                grounder,
                clip,
                frame_rate_fps=rate,
                max_videos=keep,
                max_seconds=60 * max_minutes,
            )
            title = (
                f"Up to {human_bytes(max_upload)} and {max_minutes:g} minutes. Everything stays on "
                "this machine."
            )
            blocks = Page(asker, pool, top=top, rule=rule).build(title)
            try:
                address = launch(blocks, port=port, max_upload_bytes=max_upload)
            except OSError as error:
                raise ConfigError(f"--port {port} is taken: give another --port") from error
            note(f"ask videos at {address} (Ctrl-C ends it)", style="bold")
            _wait_for_the_end()
            blocks.close(verbose=False)


@contextmanager
def _private_folder() -> Generator[None]:
    """Give Gradio a folder for uploads that only this user can read, and remove it at the end."""
    folder = tempfile.mkdtemp(prefix="r2t-serve-")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def _wait_for_the_end() -> None:
    """Return on Ctrl-C, and on SIGTERM, which would otherwise leave uploads behind."""
    ended = threading.Event()

    def end(_number: int, _frame: object) -> None:
        ended.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)
    while not ended.wait(1.0):
        pass
