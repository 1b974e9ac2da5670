"""A process that decodes one video after another for `decode_pool`, and may die of any of them.

Requests come as JSON lines on standard input. Answers go out as JSON lines: {"ready"} once, then
for each request {"decoder"} while work goes on, {"batch"} with raw pixels of {"shape"} after it,
{"warning"} for what is logged, and {"done"} or {"error"}. A request to "measure" is answered by
{"length"} in place of batches, one with "spans" to cut out by {"seconds"} as they are written.
Writing blocks until the parent reads, so a slow parent slows the decoder down instead of filling
memory. Standard input ending means that the parent is gone.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from r2t.extract.video.cut import cut
from r2t.extract.video.decoders import PYAV
from r2t.extract.video.frames import FrameBatch, stream_frames
from r2t.extract.video.probe import measure
from r2t.store.errors import R2TError
from r2t.store.files import explain

_PROGRESS_SECONDS = 0.5


def main() -> None:
    """Serve until standard input ends; the one argument limits this process's data, in bytes."""
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(int(sys.argv[1]))
    # What a library prints must not mix with the answers: it goes to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests,), daemon=True).start()
    logging.getLogger("r2t").addHandler(_Warnings(answers))
    _answer(answers, {"ready": True})
    while True:
        _serve(requests.get(), answers)


class _Warnings(logging.Handler):
    """Hands over what is logged, for the parent to report."""

    def __init__(self, answers: BinaryIO) -> None:
        super().__init__(logging.WARNING)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        _answer(self._answers, {"warning": record.getMessage()})


def _receive(requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    os._exit(0)  # at once, even if the decoder hangs


def _limit_memory(num_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        num_bytes = min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (num_bytes, hard))


def _serve(request: dict[str, Any], answers: BinaryIO) -> None:
    last_word, last_decoder = 0.0, ""

    def on_step(decoder: str) -> None:
        nonlocal last_word, last_decoder
        now = time.monotonic()
        if decoder != last_decoder or now - last_word > _PROGRESS_SECONDS:
            last_word, last_decoder = now, decoder
            _answer(answers, {"decoder": decoder})

    try:
        if "spans" in request:
            _cut(answers, request)
        elif request.pop("measure", False):
            length = measure(
                request["path"],
                Fraction(request["fps"]),
                stream_choice=request["stream_choice"],
                max_hours=request["max_hours"],
                tick=lambda: on_step(PYAV),
            )
            _answer(answers, {"length": dataclasses.asdict(length)})
        else:
            _stream(answers, Fraction(request.pop("fps")), request, on_step)
        _answer(answers, {"done": True})
    except R2TError as error:
        _answer(answers, {"error": str(error)})
    except MemoryError:
        _answer(answers, {"error": f"{request['path']}: it needs more memory than allowed"})
    except BrokenPipeError:
        os._exit(0)
    except OSError as error:
        _answer(answers, {"error": explain(error)})
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        _answer(answers, {"error": f"{request['path']}: {reason}"})


def _stream(
    answers: BinaryIO,
    rate: Fraction,
    options: dict[str, Any],
    on_step: Callable[[str], None],
) -> None:
    began = time.monotonic()
    for batch in stream_frames(fps=rate, **options, on_step=on_step):
        _answer_batch(answers, batch, time.monotonic() - began)
        began = time.monotonic()  # not before: waiting for the reader is no work


def _cut(answers: BinaryIO, request: dict[str, Any]) -> None:
    last_word = 0.0

    def on_seconds(done: float, total: float) -> None:
        nonlocal last_word
        if (now := time.monotonic()) - last_word > _PROGRESS_SECONDS:
            last_word = now
            _answer(answers, {"seconds": [done, total]})

    cut(
        Path(request["path"]),
        request["spans"],
        Path(request["out"]),
        metadata=request["metadata"],
        on_seconds=on_seconds,
    )


def _answer_batch(answers: BinaryIO, batch: FrameBatch, decode_seconds: float) -> None:
    header = {
        "batch": {
            "duration_seconds": batch.duration_seconds,
            "first_frame": batch.first_frame,
            "num_video_frames": batch.num_video_frames,
            "decoder": batch.decoder,
            "decode_seconds": decode_seconds,
        },
        "timestamps_seconds": batch.timestamps_seconds.tolist(),
        "shape": batch.pixels.shape,
    }
    _answer(answers, header)
    answers.write(batch.pixels.data)
    answers.flush()


def _answer(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
