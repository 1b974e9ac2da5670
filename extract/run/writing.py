"""A thread that writes features while the next ones are being made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float16

from r2t.extract.run.stages import StageClock
from r2t.store.errors import R2TError, StoreError, VideoError
from r2t.store.schema import VideoSource
from r2t.store.video_writer import VideoWriter
from r2t.store.writer import StoreWriter

_MAX_WAITING = 4  # windows of features in memory, besides the one being written


class WritingThread:
    """Writes videos window by window; each is committed by `finish` or leaves nothing.

    `clock` hears of the work as the stage "write".

    What is wrong with one video ends up in `failed`; what is wrong with the disk ends the run:
    the next call, or leaving the `with` block, raises it as a `StoreError`.
    """

    def __init__(self, writer: StoreWriter, clock: StageClock) -> None:
        self.done: list[str] = []
        self.failed: dict[str, str] = {}
        self._writer = writer
        self._clock = clock
        self._open: dict[str, tuple[ExitStack, VideoWriter]] = {}
        self._steps: queue.Queue[tuple[str, Callable[[], None]] | None] = queue.Queue(_MAX_WAITING)
        self._fatal: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="r2t-writer", daemon=True)

    def __enter__(self) -> WritingThread:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._steps.put(None)
        self._thread.join()
        if kind is None:
            self._raise_fatal()

    def begin(self, video_id: str, **facts: Any) -> None:
        """Announce a video; `facts` are what `StoreWriter.video` asks for."""

        def step() -> None:
            stack = ExitStack()
            self._open[video_id] = stack, stack.enter_context(self._writer.video(video_id, **facts))

        self._put(video_id, step)

    def append(
        self, video_id: str, tokens: Float16[np.ndarray, "layers frames tokens width"]
    ) -> None:
        """Hand over the next frames of a video that has begun."""

        def step() -> None:
            self._open[video_id][1].append(tokens)
            self._clock.add("write", tokens.shape[1], 0.0)

        self._put(video_id, step)

    def finish(self, video_id: str, source: VideoSource) -> None:
        """Commit a video; only now is it known which decoder served."""

        def step() -> None:
            stack, video = self._open[video_id]
            video.source = source
            stack.close()
            del self._open[video_id]
            self.done.append(video_id)

        self._put(video_id, step)

    def fail(self, video_id: str, reason: str) -> None:
        """Give up a video, whether it has begun or not."""

        def step() -> None:
            raise VideoError(reason)

        self._put(video_id, step)

    def _put(self, video_id: str, step: Callable[[], None]) -> None:
        self._raise_fatal()
        self._steps.put((video_id, step))

    def _raise_fatal(self) -> None:
        if isinstance(self._fatal, R2TError):
            raise self._fatal
        if isinstance(self._fatal, OSError):
            raise StoreError(
                f"cannot write the store: {self._fatal.strerror or self._fatal}. What was "
                "committed is safe; free space or fix permissions and run the same command again"
            ) from self._fatal
        if self._fatal is not None:
            raise self._fatal

    def _work(self) -> None:
        while (item := self._steps.get()) is not None:
            video_id, step = item
            if self._fatal is not None or video_id in self.failed:
                continue
            try:
                with self._clock.timed("write"):
                    step()
            except BaseException as error:  # carried over to the thread that calls
                self._abandon(video_id, error)
                if concerns_one_video(error):
                    self.failed[video_id] = str(error)
                else:
                    self._fatal = error
        for video_id in list(self._open):
            self._abandon(video_id, VideoError("the run stopped before this video was complete"))

    def _abandon(self, video_id: str, error: BaseException) -> None:
        if video_id in self._open:
            stack, _ = self._open.pop(video_id)
            try:
                stack.__exit__(type(error), error, None)
            except BaseException as trouble:  # clearing up failed; the first error says more
                error.add_note(f"clearing up after it failed too: {trouble}")


def concerns_one_video(error: BaseException) -> bool:
    """Whether other videos may still succeed: not if the operating system refused to write."""
    if not isinstance(error, R2TError):
        return False
    cause = error.__cause__
    return not isinstance(cause, OSError) or isinstance(cause, R2TError)
