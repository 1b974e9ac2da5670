"""Decode videos in processes that can be killed: a bad file costs itself and nothing else.

A worker that crashes, hangs or outgrows its memory takes its video with it, which becomes a
`VideoError` naming the cause; the next video gets a fresh worker. The workers are plain
subprocesses: they run nothing of the parent's main module, so a pool works from a script without a
`__main__` guard, from a notebook and beside threads. The cost is one copy of the pixels through a
pipe, which is small beside decoding.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from r2t.extract.decoders import PYAV
from r2t.extract.frames import Decoder, FrameBatch, handover_label, require_decoder
from r2t.extract.probe import exact_rate
from r2t.store.errors import ConfigError, VideoError

# -P: modules in the working directory do not take the place of installed ones.
WORKER_COMMAND = (sys.executable, "-P", "-m", "r2t.extract.decode_worker")

# Importing NumPy and FFmpeg takes half a second, and far longer on a busy or cold machine.
_START_SECONDS = 120.0


class DecodePool:
    """A fixed number of decoding processes, started when needed; safe to use from many threads.

    `timeout_seconds` limits the time in which a worker shows no progress, not a video's whole time.
    `memory_bytes` limits the data of each worker where the system can (Linux).
    """

    def __init__(
        self,
        num_workers: int = 1,
        *,
        size: int = 224,
        decoder: Decoder = "auto",
        window: int = 64,
        threads_per_worker: int = 1,
        timeout_seconds: float = 60.0,
        memory_bytes: int = 4 << 30,
    ) -> None:
        require_decoder(decoder)
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
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
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

    def close(self) -> None:
        """Kill all workers; a thread that waits for frames gets a `RuntimeError`."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
            self._changed.notify_all()
        for worker in idle:
            worker.dispose()

    def stream(self, path: str | Path, fps: float | Fraction) -> Generator[FrameBatch]:
        """Yield what `frames.stream_frames` yields, decoded in a worker.

        Waits while all workers are busy. The worker decodes one window ahead, then waits to be
        read. If decord brings its worker down under "auto", PyAV goes on in a fresh one from the
        first frame not yet yielded, and the batches say so.
        """
        rate = exact_rate(fps)
        decoder, first_frame, label = self._decoder, 0, None
        while True:
            request = {
                "path": str(path),
                "fps": str(rate),
                "decoder": decoder,
                "first_frame": first_frame,
                **self._options,
            }
            try:
                for batch in self._attempt(request):
                    yield batch if label is None else replace(batch, decoder=label)
                    first_frame += len(batch)
                return
            except _WorkerDeathError as death:
                if decoder != "auto" or not death.decoder.startswith("decord"):
                    raise VideoError(f"{path}: its decoder {death}") from death
                decoder = "pyav"
                label = handover_label(PYAV, first_frame, death.decoder, str(death))

    def _attempt(self, request: dict[str, Any]) -> Iterator[FrameBatch]:
        worker = self._borrow()
        finished = False
        try:
            yield from worker.decode(request)
            finished = True
        except VideoError:
            finished = True
            raise
        except (_WorkerDeathError, RuntimeError) as death:
            if self._closed:
                raise RuntimeError("the decode pool was closed") from death
            raise
        finally:
            self._give_back(worker, usable=finished)

    def _borrow(self) -> _Worker:
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
                worker = _Worker(self._timeout_seconds, self._memory_bytes)
            self._busy.add(worker)
            return worker

    def _give_back(self, worker: _Worker, *, usable: bool) -> None:
        with self._changed:
            self._busy.discard(worker)
            keep = usable and not self._closed
            if keep:
                self._idle.append(worker)
            self._changed.notify()
        if not keep:
            worker.dispose()


class _WorkerDeathError(Exception):
    """A worker ended before its answer did; completes the sentence "its decoder …"."""

    def __init__(self, reason: str, decoder: str) -> None:
        super().__init__(reason)
        self.decoder = decoder


class _Worker:
    """One decoding process and the conversation with it."""

    def __init__(self, timeout_seconds: float, memory_bytes: int) -> None:
        self._timeout_seconds = timeout_seconds
        self._timed_out = False
        self._ready = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed in dispose
        self._process = subprocess.Popen(
            [*WORKER_COMMAND, str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )
        assert isinstance(self._process.stdin, io.BufferedWriter)
        assert isinstance(self._process.stdout, io.BufferedReader)
        self._requests, self._answers = self._process.stdin, self._process.stdout

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def dispose(self) -> None:
        """End the process and free what belongs to it."""
        self._process.kill()
        self._process.wait()
        self._complaints.close()
        self._answers.close()
        with suppress(BrokenPipeError):  # a request that the process did not live to read
            self._requests.close()

    def decode(self, request: dict[str, Any]) -> Iterator[FrameBatch]:
        """Yield the batches of one video; after `VideoError` the worker is ready for the next."""
        self._await_start()
        self._complaints.seek(0)
        self._complaints.truncate()  # of earlier videos; the process writes where we seek
        decoder = "unknown"
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
            while True:
                message = json.loads(self._read_line(self._timeout_seconds))
                decoder = message.get("decoder", decoder)
                if "error" in message:
                    raise VideoError(message["error"])
                if "done" in message:
                    return
                if "batch" in message:
                    pixels = self._read_pixels(tuple(message["shape"]))
                    yield FrameBatch(
                        pixels=pixels,
                        timestamps_seconds=np.array(message["timestamps_seconds"]),
                        **message["batch"],
                    )
        except (BrokenPipeError, EOFError) as error:
            raise _WorkerDeathError(self._cause_of_death(), decoder) from error

    def _await_start(self) -> None:
        try:
            if not self._ready:
                self._read_line(_START_SECONDS)
        except EOFError as error:
            # No VideoError: nothing is known of the video yet.
            raise RuntimeError(f"a decoding worker does not start: {self._last_words()}") from error
        self._ready = True

    def _read_line(self, seconds: float) -> bytes:
        with _Deadline(seconds, self._give_up):
            line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _read_pixels(self, shape: tuple[int, ...]) -> np.ndarray:
        pixels = np.empty(shape, np.uint8)
        with _Deadline(self._timeout_seconds, self._give_up):
            num_read = self._answers.readinto(pixels.data)
        if num_read != pixels.size:
            raise EOFError
        return pixels

    def _give_up(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _cause_of_death(self) -> str:
        status = self._process.wait()
        if self._timed_out:
            return f"showed no progress for {self._timeout_seconds:g} s"
        if status < 0:
            cause = f"crashed ({signal.Signals(-status).name})"
        else:
            cause = f"ended with status {status}"
        last_words = self._last_words()
        return f"{cause}: {last_words}" if last_words else cause

    def _last_words(self) -> str:
        """Return the last line of a dead process's standard error, or nothing."""
        self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-300:] if lines else ""


class _Deadline:
    """Call a function unless the block is left in time."""

    def __init__(self, seconds: float, on_expiry: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, on_expiry)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
