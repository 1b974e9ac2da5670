"""Processes that write into a store and are killed, or race; run as a script by `test_writer`.

Forks before zarr has started its threads, so that a process costs milliseconds. A child counts the
file-system events that Python audits and kills itself, as `kill -9` would, at one of them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from features import columns, committed_parts, random_tokens, small_query, small_spec, write_video

from r2t.store import FeatureStore
from r2t.store.errors import StoreError
from r2t.store.format.parts import KINDS
from r2t.store.sources import Bucket

VIDEOS = {f"video {number}": random_tokens(1 + 90 * number, seed=number) for number in range(3)}
QUERIES = [small_query(f"q{number}", f"video {number}", seed=number) for number in range(3)]
FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}


# What a killed process wrote is safe in the page cache: flushing it, which guards against a loss of
# power, would only make the many runs here slow.
os.fsync = lambda _: None


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process; return its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(start_child(action), 0)[1])


def start_child(action: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def fill(path: Path | str, dtype: str) -> None:
    """Write everything that the store lacks, as any run does."""
    store = FeatureStore.create(path, small_spec(dtype=dtype))
    with store.writer() as writer:
        for video_id, tokens in VIDEOS.items():
            if store.has_video(video_id):
                writer.index(video_id)
            else:
                write_video(writer, video_id, tokens, window=40)
        writer.add_queries(*columns(*QUERIES))


def fill_until(path: Path, dtype: str, last_event: int) -> None:
    events = count()

    def watch(event: str, _: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and next(events) == last_event:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    fill(path, dtype)


def fill_until_request(url: str, last_request: int) -> None:
    """Fill a store in a bucket, and die after a request."""
    numbers = count()
    ask = Bucket._ask

    def ask_or_die(*arguments: Any) -> Any:
        answer = ask(*arguments)
        if next(numbers) == last_request:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    with patch.object(Bucket, "_ask", ask_or_die):
        fill(url, "float16")


def require_whole(path: Path | str, *, complete: bool) -> None:
    """Fail unless everything the store shows is whole and, if it should be, there."""
    if isinstance(path, Path) and not path.exists() and not complete:
        return
    store = FeatureStore.open(path)
    indexed = store.videos["video_id"].tolist()
    assert len(set(indexed)) == len(indexed)
    for video_id, tokens in VIDEOS.items():
        if store.has_video(video_id):
            video = store.read_video(video_id)
            assert video.tokens.shape == tokens.shape
            assert store.spec.dtype == "int8" or (video.tokens == tokens).all()
        else:
            assert video_id not in indexed
            assert not complete
    assert len(store.queries) in ([3] if complete else [0, 3])
    for annotation in store.annotations():
        store.read_query(annotation.query_id)
    if complete:
        if isinstance(path, Path):
            for kind in KINDS:
                assert store.header.parts[kind] == tuple(committed_parts(path, kind))
        assert sorted(indexed) == sorted(VIDEOS)


def crash(folder: Path, dtype: str, num_crashes: int) -> None:
    """Kill writers at events spread over a whole run, look, and let another run complete it."""
    total = folder / "events"
    assert in_child(lambda: total.write_text(str(count_events(folder / "first", dtype)))) == 0
    num_events = int(total.read_text())
    generator = random.Random(num_crashes)
    for number in range(num_crashes):
        path = folder / f"store{number}"
        low, high = (num_events * place // num_crashes for place in (number, number + 1))
        last_event = generator.randrange(low, high)
        status = in_child(lambda: fill_until(path, dtype, last_event))  # noqa: B023
        assert status == -signal.SIGKILL, (status, last_event, num_events)
        assert in_child(lambda: recover(path, dtype)) == 0, last_event  # noqa: B023
    print(f"{num_crashes} crashes at {num_events} events")


def crash_in_bucket(url: str, num_crashes: int) -> None:
    """Kill writers of a bucket at requests that are drawn by lot, and let another complete it."""
    generator = random.Random(num_crashes)
    for number in range(num_crashes):
        store = f"{url}/store{number}"
        last = generator.randrange(30, 70)  # the header is there, and the end is not reached
        assert in_child(lambda: fill_until_request(store, last)) == -signal.SIGKILL  # noqa: B023
        assert in_child(lambda: recover(store, "float16")) == 0, last  # noqa: B023
    print(f"{num_crashes} crashes")


def recover(path: Path | str, dtype: str) -> None:
    require_whole(path, complete=False)
    fill(path, dtype)
    require_whole(path, complete=True)


def count_events(path: Path, dtype: str) -> int:
    events = 0

    def watch(event: str, _: tuple[Any, ...]) -> None:
        nonlocal events
        events += event in FILE_EVENTS

    sys.addaudithook(watch)
    fill(path, dtype)
    return events


def crash_pairs(folder: Path, dtype: str, num_rounds: int) -> None:
    """Kill two writers that fill one store, again and again, while a reader looks."""
    total = folder / "events"
    assert in_child(lambda: total.write_text(str(count_events(folder / "first", dtype)))) == 0
    num_events = int(total.read_text())
    generator = random.Random(num_rounds)
    num_killed = 0
    for number in range(num_rounds):
        path = folder / f"shared{number}"
        for _ in range(3):
            lasts = [generator.randrange(num_events) for _ in range(2)]
            children = [
                start_child(lambda last=last: fill_until(path, dtype, last))  # noqa: B023
                for last in lasts
            ]
            assert in_child(lambda: require_whole(path, complete=False)) == 0  # noqa: B023
            ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            assert set(ends) <= {0, -signal.SIGKILL}, ends
            num_killed += ends.count(-signal.SIGKILL)
        assert in_child(lambda: recover(path, dtype)) == 0  # noqa: B023
    print(f"{num_killed} of {6 * num_rounds} writers killed")


def fill_disk(path: Path, dtype: str) -> None:
    """Write until the disk is full; what was committed is whole, and room lets a run complete."""
    filler = path.with_name("filler")
    free = shutil.disk_usage(path.parent).free
    filler.write_bytes(bytes(free - 150_000))
    refused = 0
    while True:

        def attempt() -> None:
            try:
                fill(path, dtype)
            except StoreError as error:
                os._exit(3 if "No space left" in str(error) else 1)

        status = in_child(attempt)
        assert status in (0, 3), status
        assert in_child(lambda: require_whole(path, complete=status == 0)) == 0  # noqa: B023
        if status == 0:
            break
        refused += 1
        left = max(0, filler.stat().st_size - 20_000)
        os.truncate(filler, left)
    assert refused > 0
    print(f"refused {refused} times")


def race(path: Path, *, equal: bool, num_rounds: int) -> None:
    """Let two processes write the same video at once, with equal or with different features."""
    assert in_child(lambda: FeatureStore.create(path, small_spec())) == 0
    for number in range(num_rounds):

        def write(seed: int, video_id: str = f"v{number}") -> None:
            store = FeatureStore.open(path)
            with store.writer() as writer:
                write_video(writer, video_id, random_tokens(30, seed=seed))

        children = [start_child(lambda seed=seed: write(seed)) for seed in (0, 0 if equal else 1)]
        ends = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        assert ends == ([0, 0] if equal else [0, 1]), ends

    def look() -> None:
        store = FeatureStore.open(path)
        assert sorted(store.videos["video_id"]) == sorted(f"v{n}" for n in range(num_rounds))
        for video_id in store.videos["video_id"]:
            store.read_video(video_id)

    assert in_child(look) == 0


if __name__ == "__main__":
    action, folder, *arguments = sys.argv[1:]
    if action == "crash":
        crash(Path(folder), arguments[0], int(arguments[1]))
    elif action == "pairs":
        crash_pairs(Path(folder), arguments[0], int(arguments[1]))
    elif action == "bucket":
        crash_in_bucket(folder, int(arguments[0]))
    elif action == "disk":
        fill_disk(Path(folder) / "feats.zarr", arguments[0])
    else:
        race(Path(folder) / "feats.zarr", equal=action == "equal", num_rounds=int(arguments[0]))
    assert "torch" not in sys.modules
