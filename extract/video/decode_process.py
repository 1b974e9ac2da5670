"""One decoding process, as its parent sees it: requests, answers, deadlines, and how it died."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from r2t.extract.video.frames import FrameBatch
from r2t.extract.video.probe import VideoLength
from r2t.extract.video.windows import FrameWindows
from r2t.store.errors import VideoError

# -P: modules in the working directory do not take the place of installed ones.
WORKER_COMMAND = (sys.executable, "-P", "-m", "r2t.extract.video.decode_worker")

# Importing NumPy and FFmpeg takes half a second, and far longer on a busy or cold machine.
_START_SECONDS = 120.0


class DecoderDeathError(Exception):
    """A process ended before its answer did; completes the sentence "its decoder …"."""

    def __init__(self, reason: str, decoder: str) -> None:
        super().__init__(reason)
        self.decoder = decoder


class DecodeProcess:
    """One decoding process and the conversation with it."""

    def __init__(
        self, timeout_seconds: float, memory_bytes: int, windows: FrameWindows | None = None
    ) -> None:
        """Start it; where `windows` are given, pixels come in their memory."""
        self._windows = windows
        self._timeout_seconds = timeout_seconds
        self._timed_out = False
        self._ready = False
        self.warnings: list[str] = []  # of the latest video
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
        """Yield the batches of one video; it can take the next where this ends without error."""
        for message in self._converse(request):
            yield FrameBatch(
                pixels=message["pixels"],
                timestamps_seconds=np.array(message["timestamps_seconds"]),
                **message["batch"],
            )

    def measure(self, request: dict[str, Any]) -> Iterator[VideoLength]:
        """Yield the length of one video."""
        for message in self._converse(request):
            yield VideoLength(**message["length"])

    def cut(self, request: dict[str, Any]) -> Iterator[tuple[float, float]]:
        """Yield how many seconds are cut so far out of one video, and how many are to be."""
        for message in self._converse(request):
            done, total = message["seconds"]
            yield done, total

    def _converse(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._await_start()
        self._complaints.seek(0)
        self._complaints.truncate()  # of earlier videos; the process writes where we seek
        self.warnings = []
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
                if "warning" in message:
                    self.warnings.append(message["warning"])
                    continue
                if "shape" in message:
                    message["pixels"] = self._read_pixels(tuple(message["shape"]))
                if "decoder" not in message:
                    yield message
        except (BrokenPipeError, EOFError) as error:
            raise DecoderDeathError(self._cause_of_death(), decoder) from error

    def _await_start(self) -> None:
        try:
            if not self._ready:
                self._read_line(_START_SECONDS)
        except EOFError as error:
            # No VideoError: nothing is known of the video yet.
            raise RuntimeError(f"a decoding process did not start: {self._last_words()}") from error
        self._ready = True

    def _read_line(self, seconds: float) -> bytes:
        with _Deadline(seconds, self._give_up):
            line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _read_pixels(self, shape: tuple[int, ...]) -> np.ndarray:
        with ExitStack() as undo:
            if self._windows is None:
                pixels = np.empty(shape, np.uint8)
            else:
                pixels = self._windows.take(shape)
                undo.callback(self._windows.give)
            with _Deadline(self._timeout_seconds, self._give_up):
                num_read = self._answers.readinto(pixels.data)
            if num_read != pixels.size:
                raise EOFError
            undo.pop_all()
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
