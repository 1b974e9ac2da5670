"""`r2t serve`: a page in the browser to ask videos, on this machine alone."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import r2t.cli.answers
import r2t.cli.pages
from r2t.cli.answers import load_for_files, load_presence_rule, started_pool
from r2t.cli.pages import Uploads
from r2t.cli.shared import (
    Device,
    Offline,
    OptionalCheckpoint,
    RunFps,
    RunModel,
    RunPretrained,
    TopMoments,
    Windows,
    as_windows,
    clip_options,
    examples,
    handle_errors,
    human_bytes,
    note,
    parse_size,
)
from r2t.store.errors import ConfigError
from r2t.store.wording import how_to_install

LARGEST_UPLOAD_BYTES = 2 * 10**9
SWEEP_EVERY_SECONDS = 30.0


@examples(
    "pip install '.[serve]'",
    "r2t serve",
    "r2t serve --checkpoint runs/x",
    "r2t serve --checkpoint runs/x --port 8000 --max-upload 5GB --max-minutes 120",
)
def serve(  # noqa: PLR0913 - a parameter for each option
    checkpoint: OptionalCheckpoint = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 7860,
    top: TopMoments = 5,
    max_upload: Annotated[
        int,
        typer.Option(
            help="Largest video to accept, by default 2GB; all of them together may take --keep "
            "times as much.",
            parser=parse_size,
            metavar="SIZE",
            show_default=False,
        ),
    ] = LARGEST_UPLOAD_BYTES,
    max_minutes: Annotated[
        float, typer.Option(help="Longest video to accept; memory grows with it.")
    ] = 30.0,
    keep: Annotated[
        int,
        typer.Option(min=1, help="Videos to keep encoded; those asked longest ago are dropped."),
    ] = 4,
    model: RunModel = None,
    pretrained: RunPretrained = None,
    fps: RunFps = None,
    windows: Windows = "auto",
    offline: Offline = False,
    device: Device = "auto",
) -> None:
    """Open a page on this machine: drop a video, type sentences, click the moments found.

    A video is encoded once; after that each sentence is answered at once. Nobody else on the
    network can reach the page, and the page loads nothing from the network. An upload stays in a
    private folder until its page closes it; Ctrl-C ends the server and removes the folder. Without
    --checkpoint the frozen CLIP answers, which was not trained for moments.
    """
    with handle_errors(), _private_folder() as folder:
        if find_spec("gradio") is None:
            raise ConfigError(f"the page needs Gradio: {how_to_install('serve')}")
        if not max_minutes > 0:
            raise ConfigError(f"--max-minutes {max_minutes:g}: must be above 0")
        with started_pool() as pool:
            loaded = load_for_files(
                checkpoint,
                clip_options(model, pretrained, device, offline=offline),
                fps=fps,
                windows=windows,
                device=device,
                pool=pool,
            )
            rule = load_presence_rule(checkpoint, loaded.answerer, loaded.frame_rate_fps)
            asker = r2t.cli.answers.VideoAsker(
                loaded.answerer,
                loaded.clip,
                frame_rate_fps=loaded.frame_rate_fps,
                max_videos=keep,
                max_seconds=60 * max_minutes,
                windows=as_windows(windows),
            )
            title = (
                f"Up to {human_bytes(max_upload)} and {max_minutes:g} minutes. Everything stays on "
                "this machine."
            )
            if loaded.answerer.caveat is not None:
                title += f" Answered by {loaded.answerer.caveat}."
            total = keep * max_upload
            uploads = Uploads(folder, max_bytes=total)
            blocks = r2t.cli.pages.Page(asker, uploads, pool, top=top, rule=rule).build(title)
            try:
                address = r2t.cli.pages.launch(
                    blocks,
                    uploads,
                    port=port,
                    max_upload_bytes=max_upload,
                    max_total_bytes=total,
                )
            except OSError as error:
                raise ConfigError(f"--port {port} is taken: give another --port") from error
            note(f"ask videos at {address} (Ctrl-C ends it)", style="bold")
            _wait_for_the_end(uploads)
            blocks.close(verbose=False)


@contextmanager
def _private_folder() -> Generator[Path]:
    """Give Gradio a folder for uploads that only this user can read, and remove it at the end.

    From here on SIGTERM ends the program cleanly; it would otherwise leave the folder behind.
    """

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    folder = Path(tempfile.mkdtemp(prefix="r2t-serve-"))
    try:
        with _environment(
            GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED="False", **_no_proxy()
        ):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _no_proxy() -> dict[str, str]:
    """Exempt this machine from proxies: Gradio checks over HTTP that its page is up."""
    spared = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = ",".join(filter(None, [*spared, "127.0.0.1", "localhost"]))
    return {"no_proxy": hosts, "NO_PROXY": hosts}


@contextmanager
def _environment(**changes: str) -> Generator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait_for_the_end(uploads: Uploads) -> None:
    """Wait for Ctrl-C or SIGTERM, removing uploads that are no longer needed meanwhile."""
    ended = threading.Event()

    def end(_number: int, _frame: object) -> None:
        ended.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)
    swept = time.monotonic()
    while not ended.wait(1.0):
        if time.monotonic() - swept > SWEEP_EVERY_SECONDS:
            uploads.sweep()
            swept = time.monotonic()
