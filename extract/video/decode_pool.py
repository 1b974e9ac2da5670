"""Decode videos in processes that can be killed: a bad file costs itself and nothing else.

A worker that crashes, hangs or outgrows its memory takes its video with it, which becomes a
`VideoError` naming the cause; the next video gets a fresh worker. The workers are plain
subprocesses: they run nothing of the parent's main module, so a pool works from a script without a
`__main__` guard, from a notebook and beside threads. The cost is one copy of the pixels through a
pipe, which is small beside decoding.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from r2t.extract.video.choices import (
    DEFAULT_MAX_HOURS,
    DEFAULT_MEMORY_BYTES,
    DecoderChoice,
    StreamChoice,
    exact_rate,
    require_decoder,
    require_hours,
    require_stream_choice,
)
from r2t.extract.video.cut import clips, require_clip_path
from r2t.extract.video.decode_process import DecodeProcess, DecoderDeathError
from r2t.extract.video.decoders import PYAV
from r2t.extract.video.frames import FrameBatch, handover_label
from r2t.extract.video.probe import VideoLength
from r2t.extract.video.windows import FrameWindows
from r2t.store.errors import ConfigError, VideoError, VideoWarning
from r2t.store.progress import OnProgress, no_progress

_Answer = TypeVar("_Answer", FrameBatch, VideoLength, tuple[float, float])

_MOST_REPORTED = 3  # warnings of one video; the rest are only counted


def _warn(message: str) -> None:
    warnings.warn(message, VideoWarning, stacklevel=2)


class DecodePool:
    """A fixed number of decoding processes, started when needed; safe to use from many threads.

    `timeout_seconds` limits the time in which a worker shows no progress, not a video's whole time.
    `memory_bytes` limits the data of each worker where the system can (Linux). Videos that last
    over `max_hours` are refused, and `stream_choice` is taken of those with several picture
    streams. `on_warning` is called with what is odd about a video's times, once and in one line for
    each video; by default it is a `VideoWarning`. With `windows`, a worker waits until one of them
    may be had, and whoever reads a batch has to give its window back.
    """

    def __init__(  # noqa: PLR0913 - a parameter for each choice
        self,
        num_workers: int = 1,
        *,
        size: int = 224,
        decoder: DecoderChoice = "auto",
        window: int = 64,
        threads_per_worker: int = 1,
        timeout_seconds: float = 60.0,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        stream_choice: StreamChoice = "best",
        max_hours: float = DEFAULT_MAX_HOURS,
        on_warning: Callable[[str], None] = _warn,
        windows: FrameWindows | None = None,
    ) -> None:
        require_decoder(decoder)
        require_stream_choice(stream_choice)
        require_hours(max_hours)
        if min(num_workers, size, window, threads_per_worker, memory_bytes) < 1:
            raise ConfigError(
                f"{num_workers = }, {size = }, {window = }, {threads_per_worker = }, "
                f"{memory_bytes = }: each must be at least 1"
            )
        if not timeout_seconds > 0:
            raise ConfigError(f"{timeout_seconds = }: give seconds above 0")
        self._num_workers = num_workers
        self._decoder = decoder
        self._options = {"size": size, "window": window, "num_threads": threads_per_worker}
        self._probing = {"stream_choice": stream_choice, "max_hours": max_hours}
        self._on_warning = on_warning
        self._reported: set[str] = set()
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._windows = windows
        self._changed = threading.Condition()
        self._idle: list[DecodeProcess] = []
        self._busy: set[DecodeProcess] = set()
        self._closed = False

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start all workers now, beside what this process does until it wants frames."""
        with self._changed:
            for _ in range(self._num_workers - len(self._idle) - len(self._busy)):
                self._idle.append(self._start_one())

    def close(self) -> None:
        """Kill all workers; a thread that waits for frames gets a `RuntimeError`."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
            self._changed.notify_all()
        if self._windows is not None:
            self._windows.close()
        for worker in idle:
            worker.dispose()

    def stream(
        self, path: str | Path, fps: float | Fraction, *, size: int | None = None
    ) -> Generator[FrameBatch]:
        """Yield what `frames.stream_frames` yields, decoded in a worker.

        `size` takes the place of the pool's. Waits while all workers are busy. The worker decodes
        one window ahead, then waits to be read. If decord brings its worker down under "auto", PyAV
        goes on in a fresh one from the first frame not yet yielded, and the batches say so.
        """
        rate = exact_rate(fps)
        decoder, first_frame, label = self._decoder, 0, None
        while True:
            request = {
                "path": str(path),
                "fps": str(rate),
                "decoder": decoder,
                "first_frame": first_frame,
                **self._probing,
                **self._options,
                "size": self._options["size"] if size is None else size,
            }
            try:
                for batch in self._attempt(request, DecodeProcess.decode):
                    yield batch if label is None else replace(batch, decoder=label)
                    first_frame += len(batch)
                return
            except DecoderDeathError as death:
                if decoder != "auto" or not death.decoder.startswith("decord"):
                    raise VideoError(f"{path}: its decoder {death}") from death
                decoder = "pyav"
                label = handover_label(PYAV, first_frame, death.decoder, str(death))

    def measure(self, path: str | Path, fps: float | Fraction) -> VideoLength:
        """Return what `probe.measure` returns, found out in a worker."""
        request = {
            "path": str(path),
            "fps": str(exact_rate(fps)),
            **self._probing,
            "measure": True,
        }
        try:
            [length] = self._attempt(request, DecodeProcess.measure)
        except DecoderDeathError as death:
            raise VideoError(f"{path}: its decoder {death}") from death
        return length

    def cut(
        self,
        path: str | Path,
        spans: Sequence[tuple[float, float]],
        out: Path,
        *,
        metadata: Mapping[str, str] | None = None,
        on_seconds: OnProgress = no_progress,
    ) -> list[Path]:
        """Do what `cut.cut` does in a worker."""
        require_clip_path(out, Path(path))
        request = {
            "path": str(path),
            "spans": [list(span) for span in spans],
            "out": str(out),
            "metadata": dict(metadata or {}),
        }
        try:
            for done, total in self._attempt(request, DecodeProcess.cut):
                on_seconds(done, total)
        except DecoderDeathError as death:
            raise VideoError(f"{path}: its decoder {death}") from death
        return [clip for clip, _ in clips(out, spans)]

    def _attempt(
        self,
        request: dict[str, Any],
        serve: Callable[[DecodeProcess, dict[str, Any]], Iterator[_Answer]],
    ) -> Iterator[_Answer]:
        worker = self._borrow()
        finished = False
        try:
            yield from serve(worker, request)
            finished = True
        except (DecoderDeathError, RuntimeError) as death:
            if self._closed:
                raise RuntimeError("the decode pool was closed") from death
            raise
        finally:
            messages = worker.warnings  # before another thread has it
            # What failed may have left its process ill, and another takes half a second to start.
            self._give_back(worker, usable=finished)
            self._report(request["path"], messages)

    def _report(self, path: str, messages: Sequence[str]) -> None:
        """Report what was not reported before, as it may be when a video is read twice."""
        messages = list(dict.fromkeys(messages))
        first, num_more = messages[:_MOST_REPORTED], len(messages[_MOST_REPORTED:])
        with self._changed:
            new = [message for message in first if message not in self._reported]
            self._reported.update(new)
        if new:
            what = "; ".join(message.removeprefix(f"{path}: ") for message in new)
            self._on_warning(f"{path}: {what}{f'; and {num_more} more' if num_more else ''}")

    def _borrow(self) -> DecodeProcess:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._idle or len(self._busy) < self._num_workers
            )
            if self._closed:
                raise RuntimeError("the decode pool was closed")
            worker = self._idle.pop() if self._idle else None
            if worker is not None and not worker.alive:
                worker.dispose()
                worker = None
            if worker is None:
                worker = self._start_one()
            self._busy.add(worker)
            return worker

    def _start_one(self) -> DecodeProcess:
        return DecodeProcess(self._timeout_seconds, self._memory_bytes, self._windows)

    def _give_back(self, worker: DecodeProcess, *, usable: bool) -> None:
        with self._changed:
            self._busy.discard(worker)
            keep = usable and not self._closed
            if keep:
                self._idle.append(worker)
            self._changed.notify()
        if not keep:
            worker.dispose()
