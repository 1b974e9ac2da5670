"""The page of `r2t serve`: drop a video, type sentences, click moments; `server` serves it."""

# pyright: reportUnknownMemberType=false
# Gradio adds the events of its components while the program runs.

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from r2t.cli.answers import VideoAsker
from r2t.cli.pages.answer import Answer, answers_html
from r2t.cli.pages.uploads import Uploads
from r2t.cli.shared import minutes
from r2t.extract.video import DecodePool
from r2t.store.errors import R2TError
from r2t.train.grounding import PresenceRule

logger = logging.getLogger(__name__)

MAX_ANSWERS = 50  # of one video, on one page
ASK_FOR_CLIP = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-r2t-clip]");
  if (!button) return;
  const [answer, moment] = button.dataset.r2tClip.split(" ").map(Number);
  trigger("download", { answer, moment });
});
"""
SAVE_CLIP = """(file) => {
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name;
  link.click();
}"""
READY = "**{name}** is ready: {frames} frames of {seconds:.0f} s, read in {took:.1f} s."
DIVIDED = " It is long, so it is asked in {count} overlapping windows and their answers are merged."


@dataclass
class Session:
    """What one open page asked: its video and the answers so far."""

    video: Path | None = None
    answers: list[Answer] = field(default_factory=list[Answer])
    clip: Path | None = None


class Page:
    """The page's parts and what happens when they are used."""

    def __init__(
        self,
        asker: VideoAsker,
        uploads: Uploads,
        pool: DecodePool,
        *,
        top: int,
        rule: PresenceRule | None = None,
    ) -> None:
        self._asker = asker
        self._pool = pool
        self._rule = rule
        self._uploads = uploads
        self._top = top

    def build(self, title: str) -> gr.Blocks:
        """Lay the page out and wire it."""
        with gr.Blocks(title="r2t", analytics_enabled=False) as blocks:
            session = gr.State(Session())
            gr.Markdown(f"## Ask a video\n{title}")
            with gr.Row(elem_id="r2t-ask"):
                with gr.Column(scale=3, elem_id="r2t-player"):
                    video = gr.Video(
                        label="Video", sources=["upload"], elem_id="r2t-video", height=360
                    )
                with gr.Column(scale=2):
                    query = gr.Textbox(
                        label="Sentence",
                        placeholder="a dog catches a frisbee",
                        elem_id="r2t-query",
                        max_length=500,
                    )
                    button = gr.Button("Find it", variant="primary", elem_id="r2t-find")
                    status = gr.Markdown("Drop a video to begin.", elem_id="r2t-status")
            found = gr.HTML(elem_id="r2t-answers", js_on_load=ASK_FOR_CLIP, apply_default_css=False)
            clip = gr.File(visible="hidden")
            quiet: dict[str, Any] = {"api_visibility": "private"}
            video.upload(
                self._open,
                [video, session],
                [status, session, found],
                show_progress_on=status,
                **quiet,
            )
            video.clear(self._close, [session], [status, session, found], **quiet)
            for event in (query.submit, button.click):
                event(
                    self._ask,
                    [query, session],
                    [query, session, found],
                    show_progress_on=found,
                    **quiet,
                )
            cut = found.download(
                self._cut, [session], [clip, session], show_progress_on=found, **quiet
            )
            cut.success(None, [clip], None, js=SAVE_CLIP, **quiet)
            blocks.unload(self._leave)
        return blocks

    def _open(
        self,
        video: str | None,
        session: Session,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[str, Session, str]:
        if video is None:
            return self._close(session, request)
        path = Path(video)
        self._drop_clip(session)
        if path != session.video:
            self._drop(session, request)
        self._uploads.show(_page(request), path)
        began = time.perf_counter()
        with _errors_shown(path):
            prepared = self._asker.prepare(
                path, lambda done, total: progress((done, total), desc="reading", unit="frames")
            )
        text = READY.format(
            name=_plain(path.name),
            frames=prepared.num_frames,
            seconds=prepared.duration_seconds,
            took=time.perf_counter() - began,
        )
        if prepared.num_windows > 1:
            text += DIVIDED.format(count=prepared.num_windows)
        return text, Session(path), ""

    def _ask(self, query: str, session: Session, request: gr.Request) -> tuple[str, Session, str]:
        if session.video is None:
            raise gr.Error("There is no video yet: drop one first.", print_exception=False)
        self._uploads.show(_page(request), session.video)
        began = time.perf_counter()
        with _errors_shown(session.video):
            grounding, remarks = self._asker.ask(session.video, query)
        for remark in remarks:
            gr.Warning(escape(remark))
        answer = Answer(query.strip(), grounding, time.perf_counter() - began, self._rule)
        session.answers = [*session.answers, answer][-MAX_ANSWERS:]
        return "", session, answers_html(session.video.stem, session.answers, self._top)

    def _cut(
        self,
        session: Session,
        event: gr.EventData,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[str, Session]:
        """Cut out the moment whose clip was asked for, into a file that the next one replaces."""
        place, rank = (getattr(event, name, None) for name in ("answer", "moment"))
        if session.video is None or not isinstance(place, int) or not isinstance(rank, int):
            raise gr.Error("There is no such moment.", print_exception=False)
        moments = session.answers[place].grounding.found(self._top)
        start, end, _ = moments[rank].tolist()
        self._drop_clip(session)
        folder = Path(tempfile.mkdtemp(prefix="clip-", dir=os.environ["GRADIO_TEMP_DIR"]))
        session.clip = folder / f"{session.video.stem} {minutes(start).replace(':', '.')}.mp4"
        with _errors_shown(session.video):
            self._pool.cut(
                session.video,
                [(start, end)],
                session.clip,
                on_seconds=lambda done, total: progress(
                    (round(done, 1), round(total, 1)), desc="cutting", unit="seconds"
                ),
            )
        return str(session.clip), session

    def _close(self, session: Session, request: gr.Request) -> tuple[str, Session, str]:
        self._drop(session, request)
        return "Drop a video to begin.", Session(), ""

    def _drop(self, session: Session, request: gr.Request) -> None:
        """Forget a video that no page shows any longer, and remove the file."""
        self._drop_clip(session)
        gone = self._uploads.release(_page(request))
        if gone is not None:
            self._asker.forget(gone)

    def _leave(self, request: gr.Request) -> None:
        self._uploads.leave(_page(request))

    def _drop_clip(self, session: Session) -> None:
        if session.clip is not None:
            shutil.rmtree(session.clip.parent, ignore_errors=True)
            session.clip = None


def _page(request: gr.Request) -> str:
    """Return the id of an open page."""
    return str(request.session_hash)


@contextmanager
def _errors_shown(path: Path) -> Generator[None]:
    """Show errors on the page, without the name of the temporary folder."""
    try:
        yield
    except R2TError as error:
        text = str(error).replace(str(path), path.name)
        raise gr.Error(escape(text), duration=None, print_exception=False) from error
    except Exception as error:
        logger.exception("a request failed")
        raise gr.Error(
            f"r2t failed ({type(error).__name__}); the terminal that it runs in says more",
            print_exception=False,
        ) from error


def _plain(text: str) -> str:
    """Keep Markdown out of a file's name."""
    return "".join(f"\\{each}" if each in "\\`*_{}[]()#+-.!<>|&~" else each for each in text)
