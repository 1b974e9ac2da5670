"""The way of batches onto a GPU, on one whose streams run in the least convenient orders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_gpu import ORDERS, StubGpu, When
from toy_store import make_store, toy_spec

from r2t.store import FeatureStore
from r2t.store.errors import ConfigError, CorruptFeatureError
from r2t.store.schema import StorageDtype
from r2t.train.choices import CacheChoice, CacheKind, SampleOrder
from r2t.train.data import transfer
from r2t.train.data.batch import Batch
from r2t.train.data.reader import FeatureReader
from r2t.train.data.reading import Reading
from r2t.train.data.ring import BufferSize
from r2t.train.data.row_reader import RowReader
from r2t.train.data.sampling import EpochOrder, Row
from r2t.train.data.transfer import CudaTransfer
from r2t.train.data.video_cache import ChosenCache, VideoCache, choose_cache

NUM_VIDEOS, REPEATS, BATCH_SIZE = 9, 2, 4


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[StorageDtype, FeatureStore]:
    folder = tmp_path_factory.mktemp("ring")
    return {
        dtype: make_store(folder / f"{dtype}.zarr", num_videos=NUM_VIDEOS, spec=toy_spec(dtype))
        for dtype in ("float16", "int8")
    }


def digest(batch: Batch) -> str:
    parts: list[Any] = [batch.query_ids, batch.rank_counts]
    tensors = [batch.durations_seconds, batch.frame_rates_fps]
    batch.map(lambda tensor: tensors.append(tensor) or tensor)
    for tensor in tensors:
        parts += [tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def make_reader(
    store: FeatureStore, sampling: SampleOrder, reading: Reading | None = None
) -> FeatureReader:
    return FeatureReader(
        store,
        store.annotations("train"),
        batch_size=BATCH_SIZE,
        positive="above_zero",
        order=EpochOrder(sampling=sampling, repeats=REPEATS),
        reading=reading,
    )


def reading_of(gpu: StubGpu, cache: CacheKind | None) -> Reading:
    kept = None
    if cache is not None:
        kept = VideoCache(cache, torch.device("cpu"), transfer=gpu if cache == "gpu" else None)
    return Reading(transfer=gpu, cache=kept)


def summed(gpu: StubGpu, batches: Iterator[Batch], sums: list[str]) -> None:
    """Let the model's stream take the digests, whenever it comes to that."""
    for batch in batches:
        gpu.compute(lambda batch=batch: sums.append(digest(batch)))


@pytest.mark.parametrize("sampling", ["uniform", "joint", "video"])
@pytest.mark.parametrize("dtype", ["float16", "int8"])
@pytest.mark.parametrize("cache", [None, "ram", "gpu"])
def test_the_device_gets_every_batch_as_the_host_does(
    cache: CacheKind | None,
    dtype: StorageDtype,
    sampling: SampleOrder,
    stores: dict[StorageDtype, FeatureStore],
) -> None:
    store = stores[dtype]
    expected = [digest(batch) for batch in training_and_validation(store, sampling, Reading())]
    for when in ORDERS:
        gpu, found = StubGpu(when), list[str]()
        summed(gpu, training_and_validation(store, sampling, reading_of(gpu, cache)), found)
        gpu.finish()
        assert found == expected, when


def training_and_validation(
    store: FeatureStore, sampling: SampleOrder, reading: Reading
) -> Iterator[Batch]:
    reader = make_reader(store, sampling, reading)
    validation = FeatureReader(store, store.annotations("val"), batch_size=3, reading=reading)
    for epoch in range(2):
        yield from reader.epoch(epoch)
        yield from validation.in_order()


@pytest.mark.parametrize("when", ORDERS)
@pytest.mark.parametrize("cache", [None, "gpu"])
def test_a_pass_that_is_broken_off_spoils_none_that_follows(
    cache: CacheKind | None, when: When, stores: dict[StorageDtype, FeatureStore]
) -> None:
    store, gpu = stores["float16"], StubGpu(when)
    plain = make_reader(store, "uniform")
    reader = make_reader(store, "uniform", reading_of(gpu, cache))
    expected, found = list[str](), list[str]()
    for epoch in range(6):
        batches = reader.epoch(epoch)
        for number, batch in enumerate(plain.epoch(epoch)):
            if number == epoch:
                break
            expected.append(digest(batch))
            theirs = next(batches)
            gpu.compute(lambda batch=theirs: found.append(digest(batch)))
        batches.close()  # type: ignore[attr-defined]
    gpu.finish()
    assert found == expected


def test_a_pass_that_fails_leaves_memory_that_can_be_used(tmp_path: Path) -> None:
    store, gpu = make_store(tmp_path / "feats.zarr"), StubGpu("late")
    shard = tmp_path / "feats.zarr" / "videos" / "v1" / "tokens" / "c" / "0" / "0" / "0" / "0"
    whole = shard.read_bytes()
    reader = make_reader(store, "uniform", Reading(transfer=gpu))
    shard.write_bytes(b"\x00\x7e" + whole[2:])
    for _ in range(2):  # a video that was refused is looked at again
        with pytest.raises(CorruptFeatureError, match="NaN"):
            list(reader.epoch(0))
    shard.write_bytes(whole)
    found: list[str] = []
    summed(gpu, reader.epoch(0), found)
    gpu.finish()
    assert found == list(map(digest, make_reader(store, "uniform").epoch(0)))


@pytest.mark.parametrize("sampling", ["uniform", "video"])
def test_two_copies_and_one_wait_bring_a_batch_over_however_often_it_is_given(
    sampling: SampleOrder, stores: dict[StorageDtype, FeatureStore]
) -> None:
    gpu = StubGpu("late")
    reader = make_reader(stores["int8"], sampling, Reading(transfer=gpu))
    steps = list(reader.epoch(0))
    loads = len(steps) if sampling == "uniform" else len(steps) // REPEATS
    assert len(gpu.copied_bytes) == 2 * loads
    assert loads <= gpu.num_waits <= loads + 2  # the last two when the pass ends
    read = sum(batch.num_read_bytes for batch in steps)
    assert read <= sum(gpu.copied_bytes[::2]) < 1.3 * read  # the videos, with their padding


@pytest.mark.parametrize("sampling", ["uniform", "joint", "video"])
def test_memory_is_allocated_once_for_all_epochs_and_evaluations(
    sampling: SampleOrder, stores: dict[StorageDtype, FeatureStore]
) -> None:
    store, gpu = stores["float16"], StubGpu()
    reading = Reading(transfer=gpu)
    reader = make_reader(store, sampling, reading)
    validation = FeatureReader(store, store.annotations("val"), batch_size=3, reading=reading)
    seen: list[tuple[int, int, int]] = []
    for epoch in range(4):
        for batches in (reader.epoch(epoch), validation.in_order()):
            list(batches)
        seen.append((gpu.num_allocations, gpu.reserved_bytes, gpu.held_bytes("host")))
    assert set(seen) == {seen[0]}
    assert gpu.num_allocations == (3 + 2) + (2 + 2)  # validation has two batches


@pytest.mark.filterwarnings("error::r2t.store.errors.ReadingWarning")
def test_batches_of_videos_take_what_they_need_where_there_is_no_room_for_more(
    stores: dict[StorageDtype, FeatureStore],
) -> None:
    held: list[int] = []
    for _ in range(2):
        gpu = StubGpu()
        buffer_gb = 0.9 * held[0] / 1e9 if held else 8.0
        reader = make_reader(stores["float16"], "video", Reading(transfer=gpu, buffer_gb=buffer_gb))
        list(reader.epoch(0))
        assert gpu.num_allocations == 3 + 2
        held.append(gpu.held_bytes("host"))
    assert held[1] < 0.9 * held[0]


def test_memory_that_must_grow_leaves_nothing_behind(
    stores: dict[StorageDtype, FeatureStore],
) -> None:
    gpu = StubGpu()
    reader = RowReader(stores["float16"], Reading(transfer=gpu))
    for videos_bytes, num_allocations in ((2560, 4), (5120, 8), (7680, 12), (2560, 12), (5120, 12)):
        size = BufferSize(videos_bytes, 256)
        assert not list(reader.read(iter(()), 2, size))
        assert gpu.num_allocations == num_allocations
        assert gpu.reserved_bytes == gpu.held_bytes("device")
    assert gpu.reserved_bytes == gpu.held_bytes("host") == 2 * (7680 + 256)


def test_a_cache_on_the_device_is_one_block_without_gaps(
    stores: dict[StorageDtype, FeatureStore],
) -> None:
    store, gpu = stores["int8"], StubGpu("late")
    cache = VideoCache("gpu", torch.device("cpu"), transfer=gpu)
    reader = make_reader(store, "uniform", Reading(cache=cache))
    assert gpu.num_allocations == 1
    frames = sum(store.videos["num_frames"][: NUM_VIDEOS - 2])
    assert gpu.reserved_bytes == cache.reserved_bytes == frames * store.spec.frame_bytes()
    read = [sum(batch.num_read_bytes for batch in reader.epoch(epoch)) for epoch in range(2)]
    assert read == [cache.reserved_bytes, 0]
    before = len(gpu.copied_bytes)
    assert len(list(reader.epoch(2))) == len(gpu.copied_bytes) - before  # all but the videos


def test_processes_share_the_host_s_memory_and_have_a_gpu_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("r2t.train.data.video_cache.spare_bytes", lambda: 1000)
    rows, device = {Row("v", 1): 700}, torch.device("cuda:1")
    VideoCache("gpu", device, sharers=8, transfer=StubGpu(free_bytes=1000)).reserve(rows)
    VideoCache("ram", device).reserve(rows)
    with pytest.raises(ConfigError, match="train without a cache"):
        VideoCache("ram", device, sharers=8).reserve(rows)


def test_auto_keeps_features_on_a_gpu_that_has_room_for_them_and_for_the_steps(
    stores: dict[StorageDtype, FeatureStore],
) -> None:
    store, gpu = stores["int8"], StubGpu()
    rows = store.annotations("train")

    def chosen(choice: CacheChoice, free_bytes: int, *, on_gpu: bool = True) -> ChosenCache:
        gpu.free_bytes = free_bytes
        return choose_cache(
            choice,
            store,
            rows,
            batch_size=BATCH_SIZE,
            device=torch.device("cpu"),
            transfer=gpu if on_gpu else None,
        )

    lengths = store.videos["num_frames"][: NUM_VIDEOS - 2]
    needed = sum(lengths) * store.spec.frame_bytes()
    steps = 10 * BATCH_SIZE * max(lengths) * 2 * store.spec.frame_bytes()  # decoded: float16
    roomy = chosen("auto", needed + steps)
    assert roomy.cache is not None
    assert (roomy.needed_bytes, roomy.usable_bytes) == (needed, needed)
    list(make_reader(store, "uniform", Reading(cache=roomy.cache)).epoch(0))
    assert roomy.cache.reserved_bytes == needed
    assert chosen("auto", needed + steps - 1)[1:] == (needed, needed - 1)
    assert chosen("auto", needed + steps - 1).cache is None
    assert chosen("auto", 10**9, on_gpu=False).cache is None
    assert chosen("none", 10**9).cache is None
    # What is asked for by name is refused where it does not fit, never left out.
    tight = chosen("gpu", needed).cache
    with pytest.raises(ConfigError, match="train without a cache"):
        make_reader(store, "uniform", Reading(cache=tight))


class Cuda:
    """What `CudaTransfer` asks of torch, written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.code = code
        calls = self.calls

        class Event:
            def __init__(self, blocking: bool = False) -> None:
                self.blocking = blocking

            def record(self, stream: Stream) -> None:
                calls.append(("record", stream.name, self.blocking))

            def synchronize(self) -> None: ...

        class Stream:
            def __init__(self, device: torch.device, name: str = "copies") -> None:
                self.name = name

            def wait_event(self, event: Event) -> None:
                calls.append(("wait", self.name))

            def __enter__(self) -> None:
                calls.append(("enter", self.name))

            def __exit__(self, *_: object) -> None:
                calls.append(("leave", self.name))

        for name, value in {
            "Event": Event,
            "Stream": Stream,
            "stream": lambda stream: stream,
            "current_stream": lambda device: Stream(device, "model"),
            "cudart": lambda: self,
            "device": lambda device: Stream(device, str(device)),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def cudaHostRegister(self, address: int, num_bytes: int, flags: int) -> int:
        self.calls.append(("register", address, num_bytes))
        return self.code

    def cudaHostUnregister(self, address: int) -> int:
        self.calls.append(("unregister", address))
        return 0


def test_host_memory_is_registered_by_the_page_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda(monkeypatch)
    page = transfer.mmap.PAGESIZE
    memory = CudaTransfer(torch.device("cuda:1")).host_memory(5 * page + 1)
    place = memory.data_ptr()
    on_its_gpu = [("enter", "cuda:1"), ("leave", "cuda:1")]
    assert cuda.calls[::2] == on_its_gpu
    assert cuda.calls[1] == ("register", place, 6 * page)  # torch would take 8 pages
    assert (place % page, len(memory), memory.dtype) == (0, 6 * page, torch.uint8)
    del memory
    assert cuda.calls[3::2] == on_its_gpu
    assert cuda.calls[4] == ("unregister", place)


def test_a_driver_that_cannot_pin_memory_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda(monkeypatch, code=2)
    with pytest.raises(
        ConfigError, match=r"cannot pin 0\.01 GB .* error 2\): give a smaller --batch-size"
    ):
        CudaTransfer(torch.device("cuda")).host_memory(10**7)
    assert "unregister" not in {name for name, *_ in cuda.calls}


def test_copies_wait_for_the_model_and_the_host_sleeps_until_they_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = Cuda(monkeypatch)
    way = CudaTransfer(torch.device("cuda"))
    used = way.mark_model()
    way.run(lambda: cuda.calls.append(("copy",)), after=used)
    assert cuda.calls == [
        ("record", "model", False),
        ("enter", "copies"),
        ("wait", "copies"),
        ("copy",),
        ("record", "copies", True),
        ("leave", "copies"),
    ]
