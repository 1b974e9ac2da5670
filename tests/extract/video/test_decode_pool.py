"""A bad video costs itself: the pool outlives crashes, hangs, gluttony and its own end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_videos import SIDE, Recipe, read_barcode, write_audio, write_video

from r2t.extract.video import decode_process
from r2t.extract.video.choices import decord_name
from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.frames import FrameBatch, stream_frames
from r2t.store.errors import ConfigError, R2TError, VideoError

BARCODES = [14, 44, 74, 104, 134]  # at one frame a second of a constant 30


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("pool") / "good", Recipe())


@pytest.fixture
def named(source: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that gives the good video another name."""

    def link(name: str) -> Path:
        path = tmp_path / f"{name}.mp4"
        os.link(source, path)
        return path

    return link


def barcodes(batches: Iterator[FrameBatch]) -> list[int]:
    return [read_barcode(picture) for batch in batches for picture in batch.pixels]


def test_a_pool_yields_what_this_process_would(source: Path) -> None:
    expected = list(stream_frames(source, 2, size=SIDE, window=4))
    with DecodePool(1, size=SIDE, window=4) as pool:
        for _ in range(2):
            batches = list(pool.stream(source, 2))
            assert [repr(batch) for batch in batches] == [repr(batch) for batch in expected]
            for batch, other in zip(batches, expected, strict=True):
                np.testing.assert_array_equal(batch.pixels, other.pixels)
                np.testing.assert_array_equal(batch.timestamps_seconds, other.timestamps_seconds)
                assert batch.duration_seconds == other.duration_seconds
                assert batch.decode_seconds > 0
                assert batch.pixels.flags.writeable  # torch.from_numpy asks for it


def test_many_threads_share_few_workers(source: Path) -> None:
    with DecodePool(2, size=SIDE, window=2) as pool, ThreadPoolExecutor(5) as threads:
        results = threads.map(lambda _: barcodes(pool.stream(source, 1)), range(5))
        assert list(results) == [BARCODES] * 5


def test_a_pool_measures_without_decoding(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with DecodePool(1) as pool:
        length = pool.measure(source, 2)
        assert (length.num_frames, length.duration_seconds) == (10, 5)
        assert (length.width, length.height, length.codec) == (96, 64, "h264")
        with pytest.raises(VideoError, match="is empty"):
            pool.measure(tmp_path / "empty.mp4", 2)


def test_a_pool_may_start_before_it_is_asked(source: Path) -> None:
    with DecodePool(2, size=SIDE) as pool:
        pool.start()
        started = list(pool._idle)
        pool.start()
        assert pool._idle == started
        assert len(started) == 2
        batches = pool.stream(source, 1, size=2 * SIDE)
        assert next(batches).pixels.shape[2:] == (2 * SIDE, 2 * SIDE)
        batches.close()
    assert not any(worker.alive for worker in started)


def test_a_worker_is_kept_until_a_video_fails(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with DecodePool(1, size=SIDE) as pool:
        assert barcodes(pool.stream(source, 1)) == BARCODES
        [worker] = pool._idle
        assert barcodes(pool.stream(source, 1)) == BARCODES
        assert pool._idle == [worker]
        with pytest.raises(VideoError, match="is empty"):
            next(pool.stream(tmp_path / "empty.mp4", 1))
        assert not worker.alive
        with pytest.raises(VideoError, match="no video stream"):
            next(pool.stream(write_audio(tmp_path / "sound.mp4"), 1))
        assert barcodes(pool.stream(source, 1)) == BARCODES


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_does_not_grow_with_what_it_has_decoded(source: Path) -> None:
    with DecodePool(1, size=SIDE, decoder="pyav") as pool:
        for _ in range(3):
            assert len(barcodes(pool.stream(source, 15))) == 75
        [worker] = pool._idle
        status = Path(f"/proc/{worker._process.pid}/status").read_text()
    [num_threads] = re.findall(r"Threads:\s+(\d+)", status)
    assert int(num_threads) < 3 + 3 * (os.cpu_count() or 1)


@pytest.fixture(scope="module")
def lasting_pool() -> Iterator[DecodePool]:
    """One pool of one sabotaged worker, which each test finds as the one before left it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        script = Path(__file__).with_name("sabotaged_worker.py")
        monkeypatch.setattr(decode_process, "WORKER_COMMAND", (sys.executable, "-P", str(script)))
        with DecodePool(1, size=SIDE, timeout_seconds=4, memory_bytes=1 << 29) as pool:
            yield pool


@pytest.mark.skipif(sys.platform == "win32", reason="deaths by signal are POSIX's")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crashes", r"its decoder crashed \(SIGSEGV\)"),
        ("aborts", r"crashed \(SIGABRT\): terminate called: out of luck"),
        ("exits", "ended with status 3"),
        ("breaks", "ZeroDivisionError: a bug"),
        ("hangs", "showed no progress for 4 s"),
        ("spins", "showed no progress for 4 s"),
        pytest.param(
            "eats",
            "more memory than allowed",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits data"),
        ),
        ("good", None),
    ],
)
def test_a_bad_video_costs_only_itself(
    named: Callable[[str], Path], lasting_pool: DecodePool, name: str, reason: str | None
) -> None:
    path = named(name)
    if reason is None:
        assert barcodes(lasting_pool.stream(path, 1)) == BARCODES
        return
    with pytest.raises(VideoError, match=reason) as caught:
        next(lasting_pool.stream(path, 1))
    assert str(path) in str(caught.value)


@pytest.mark.skipif(decord_name() is None, reason="decord has no wheel for this machine")
@pytest.mark.usefixtures("sabotaged")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("decord-crashes", r"crashed (SIGSEGV)"), ("decord-hangs", "showed no progress for 1.5 s")],
)
def test_pyav_goes_on_where_decord_died(
    named: Callable[[str], Path], source: Path, name: str, reason: str
) -> None:
    path = named(name)
    with DecodePool(1, size=SIDE, window=3, timeout_seconds=1.5) as pool:
        batches = list(pool.stream(path, 1))
        assert barcodes(iter(batches)) == BARCODES
        assert [batch.first_frame for batch in batches] == [0, 3]
        assert batches[0].decoder == decord_name()
        taken_over = f"pyav {av.__version__} from frame 3, after {decord_name()} {reason}"
        assert batches[1].decoder.startswith(taken_over)


@pytest.mark.skipif(decord_name() is None, reason="decord has no wheel for this machine")
@pytest.mark.usefixtures("sabotaged")
def test_decord_alone_has_no_successor(named: Callable[[str], Path]) -> None:
    with (
        DecodePool(1, size=SIDE, decoder="decord") as pool,
        pytest.raises(VideoError, match="its decoder crashed"),
    ):
        list(pool.stream(named("decord-crashes"), 1))


def test_a_worker_that_does_not_start_blames_no_video(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (sys.executable, "-c", "raise ImportError('half an installation')")
    monkeypatch.setattr(decode_process, "WORKER_COMMAND", command)
    with DecodePool() as pool, pytest.raises(RuntimeError, match="half an installation"):
        next(pool.stream(source, 1))


def test_a_slow_reader_is_no_hang(source: Path) -> None:
    with DecodePool(1, size=SIDE, window=1, timeout_seconds=1) as pool:
        batches = pool.stream(source, 1)
        first = next(batches)
        time.sleep(1.5)
        assert [read_barcode(first.pixels[0]), *barcodes(batches)] == BARCODES


def test_an_abandoned_video_frees_its_worker(source: Path) -> None:
    with DecodePool(1, size=SIDE, window=1) as pool:
        abandoned = pool.stream(source, 1)
        next(abandoned)
        abandoned.close()
        assert barcodes(pool.stream(source, 1)) == BARCODES


@pytest.mark.usefixtures("sabotaged")
def test_closing_ends_whoever_waits(named: Callable[[str], Path]) -> None:
    pool = DecodePool(1, size=SIDE)
    outcomes: list[BaseException] = []

    def wait(path: Path) -> None:
        try:
            next(pool.stream(path, 1))
        except RuntimeError as error:
            outcomes.append(error)

    path = named("hangs")
    waiting = [threading.Thread(target=wait, args=(path,)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    time.sleep(0.5)  # one thread has the worker, the other waits for it
    pool.close()
    for thread in waiting:
        thread.join(5)
    assert [str(error) for error in outcomes] == ["the decode pool was closed"] * 2
    assert not any(isinstance(error, R2TError) for error in outcomes)  # no video is to blame
    with pytest.raises(RuntimeError, match="closed"):
        next(pool.stream(path, 1))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(
    named: Callable[[str], Path], tmp_path: Path, end: signal.Signals
) -> None:
    script = tmp_path / "unguarded.py"  # no `if __name__ == "__main__"`, like a notebook
    worker = Path(__file__).with_name("sabotaged_worker.py")
    script.write_text(
        textwrap.dedent(f"""
            import sys, time
            from r2t.extract.video import decode_pool
            from r2t.extract.video import decode_process
            decode_process.WORKER_COMMAND = (sys.executable, {str(worker)!r})
            with decode_pool.DecodePool(1) as pool:
                assert len(list(pool.stream({str(named("good"))!r}, 1))) == 1
                print(pool._idle[0]._process.pid, flush=True)
                next(pool.stream({str(named("hangs"))!r}, 1))
        """)
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        assert Path(f"/proc/{pid}").exists()
        parent.send_signal(end)
        parent.wait(10)
        parent.communicate()
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Tell whether a process runs; a dead one may stay listed until somebody waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_workers_know_no_torch() -> None:
    code = "import sys, r2t.extract.video.decode_worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="num_workers = 0"):
        DecodePool(0)
    with pytest.raises(ConfigError, match="seconds above 0"):
        DecodePool(timeout_seconds=0)
    with DecodePool() as pool, pytest.raises(ConfigError, match="fps"):
        next(pool.stream("a.mp4", -1))
