"""Batches of a reader against what the store holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_store import make_store, toy_spec

from r2t.store import Annotation, FeatureStore
from r2t.store.errors import AnnotationWarning, ConfigError, CorruptFeatureError, ReadingWarning
from r2t.train.choices import SampleOrder
from r2t.train.data.batch import Batch, Binding, Sample, collate
from r2t.train.data.labels import bind, count_trained
from r2t.train.data.query_reader import QueryReader
from r2t.train.data.reader import FeatureReader
from r2t.train.data.reading import Reading
from r2t.train.data.sampling import EpochOrder, Row
from r2t.train.data.video_cache import VideoCache


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("reader") / "feats.zarr")


def equal(a: Batch, b: Batch) -> bool:
    assert a.targets is not None
    assert b.targets is not None
    return (
        a.query_ids == b.query_ids
        and torch.equal(a.video, b.video)
        and torch.equal(a.query, b.query)
        and torch.equal(a.targets.positive_frame, b.targets.positive_frame)
    )


def test_in_order_yields_the_stored_features(store: FeatureStore) -> None:
    annotations = store.annotations()
    reader = FeatureReader(store, annotations, batch_size=5)
    batches = [batch.clone() for batch in reader.in_order()]
    assert len(batches) == len(reader) == 3
    ids = [query_id for batch in batches for query_id in batch.query_ids]
    assert ids == [annotation.query_id for annotation in annotations]
    for batch in batches:
        assert batch.targets is None
        for row, query_id in enumerate(batch.query_ids):
            frames, words = int(batch.num_frames[row]), int(batch.num_words[row])
            video = store.read_video(query_id.split("-")[0]).tokens
            query = store.read_query(query_id).tokens
            np.testing.assert_array_equal(batch.video[row, :, :frames].numpy(), video)
            np.testing.assert_array_equal(batch.query[row, :, :words].numpy(), query)
            assert not batch.video[row, :, frames:].any()
            assert not batch.query[row, :, words:].any()


def test_answers_end_where_their_annotations_say_the_video_does(store: FeatureStore) -> None:
    annotations = store.annotations()[:4]
    measured = {row.query_id: store.video_row(row.video_id).duration_seconds for row in annotations}
    # As stated, where the file is a few frames longer or shorter; not of another cut, nor unstated.
    stated = [
        seconds + change
        for seconds, change in zip(measured.values(), (-0.25, 0.3, 9, 0), strict=True)
    ]
    rows = [replace(row, duration_seconds=s) for row, s in zip(annotations, stated, strict=True)]
    rows[3] = replace(rows[3], duration_seconds=None)
    [batch] = FeatureReader(store, rows, batch_size=4).in_order()
    expected = [*stated[:2], *list(measured.values())[2:]]
    assert dict(zip(batch.query_ids, batch.durations_seconds.tolist(), strict=True)) == dict(
        zip(measured, expected, strict=True)
    )


@pytest.mark.parametrize("cached", [False, True])
def test_stored_nan_is_named_with_its_video(cached: bool, tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    shard = tmp_path / "feats.zarr" / "videos" / "v1" / "tokens" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[100:102] = b"\x00\x7e"
    shard.write_bytes(data)
    cache = VideoCache("ram", torch.device("cpu")) if cached else None
    reader = FeatureReader(store, store.annotations(), batch_size=5, reading=Reading(cache=cache))
    with pytest.raises(CorruptFeatureError, match=r"v1: .*NaN or infinity; `r2t store verify`"):
        list(reader.in_order())


def training_reader(
    store: FeatureStore, order: EpochOrder, reading: Reading | None = None, batch_size: int = 3
) -> FeatureReader:
    return FeatureReader(
        store,
        store.annotations("train"),
        batch_size=batch_size,
        positive="above_zero",
        order=order,
        reading=reading,
    )


def epoch(reader: FeatureReader, number: int, start: int = 0) -> list[Batch]:
    return [batch.clone() for batch in reader.epoch(number, start)]


def test_epoch_depends_on_seed_and_number_alone(store: FeatureStore) -> None:
    def drawn(seed: int, number: int, prefetch: int) -> list[Batch]:
        return epoch(
            training_reader(store, EpochOrder(seed=seed), Reading(prefetch=prefetch)), number
        )

    first = drawn(0, 4, 1)
    assert all(map(equal, first, drawn(0, 4, 3)))
    assert [b.query_ids for b in first] != [b.query_ids for b in drawn(0, 5, 1)]
    assert [b.query_ids for b in first] != [b.query_ids for b in drawn(1, 4, 1)]
    seen = sorted(query_id for batch in first for query_id in batch.query_ids)
    assert seen == sorted(annotation.query_id for annotation in store.annotations("train"))


@pytest.mark.parametrize("sampling", ["uniform", "video"])
def test_every_pass_of_an_epoch_has_every_sample(
    store: FeatureStore, sampling: SampleOrder
) -> None:
    reader = training_reader(store, EpochOrder(sampling=sampling, repeats=3))
    batches = epoch(reader, 1)
    assert len(batches) == len(reader) == 9
    seen = sorted(query_id for batch in batches for query_id in batch.query_ids)
    assert seen == sorted(3 * [annotation.query_id for annotation in store.annotations("train")])
    positives = {tuple(batch.targets.positive_frame.tolist()) for batch in batches if batch.targets}
    assert len(positives) > 3  # drawn anew in each pass
    for start in (1, 4, 8, 9):  # as a resumed run reads
        rest = epoch(reader, 1, start)
        assert len(rest) == 9 - start
        assert all(map(equal, rest, batches[start:]))


def test_the_passes_of_a_joint_epoch_are_shuffled_together() -> None:
    order = EpochOrder(seed=3, sampling="joint", repeats=4)
    rows = [Row(f"v{number}", 5) for number in range(7218)]

    def drawn(epoch: int) -> list[int]:
        ((steps, _),) = order.passes(epoch, rows, 128)
        sizes = [len(step.samples) for step in steps]
        assert sizes == [128] * 225 + [72]
        assert len(sizes) == order.num_steps(len(rows), 128)
        assert {step.times for step in steps} == {1}
        return [sample for step in steps for sample in step.samples]

    first = drawn(0)
    assert sorted(first) == sorted(4 * list(range(7218)))
    assert len(set(first[:7218])) < 5500  # of separate passes it would be all of them
    assert first == drawn(0) != drawn(1)


def test_a_sample_that_is_twice_in_a_batch_is_read_once_and_labelled_twice(
    store: FeatureStore,
) -> None:
    order = EpochOrder(sampling="joint", repeats=5)
    reader = training_reader(store, order, batch_size=16)
    batches = epoch(reader, 0)
    assert [len(batch) for batch in batches] == [16, 16, 8]
    positives: dict[str, set[int]] = {}
    for batch in batches:
        assert len(batch.videos) < len(batch)
        assert batch.targets is not None
        drawn = batch.targets.positive_frame.tolist()
        for query_id, positive in zip(batch.query_ids, drawn, strict=True):
            positives.setdefault(query_id, set()).add(positive)
    assert max(map(len, positives.values())) > 1
    assert all(map(equal, batches[1:], epoch(reader, 0, 1)))


def test_video_sampling_reads_a_video_once_for_its_queries_and_passes(store: FeatureStore) -> None:
    num_bytes = {}
    for sampling in ("uniform", "video"):
        reader = training_reader(store, EpochOrder(sampling=sampling, repeats=3), batch_size=4)
        num_bytes[sampling] = sum(batch.num_read_bytes for batch in epoch(reader, 0))
    frames = sum(store.videos["num_frames"][:4])
    assert num_bytes["video"] == frames * store.spec.frame_bytes()
    assert num_bytes["uniform"] > 3 * num_bytes["video"]


def test_reused_memory_shows_no_traces_of_earlier_batches(store: FeatureStore) -> None:
    reader = training_reader(store, EpochOrder(), batch_size=1)
    for batch in reader.epoch(0):
        video_id, _, _ = batch.query_ids[0].partition("-")
        frames = int(batch.num_frames[0])
        tokens = store.read_video(video_id).tokens
        np.testing.assert_array_equal(batch.video[0, :, :frames].numpy(), tokens[:, :frames])
        assert not batch.video[0, :, frames:].any()


def test_batches_are_those_of_the_plain_way(store: FeatureStore) -> None:
    """One sample after another, each with a copy of its video, padded together."""
    reader = training_reader(store, EpochOrder(seed=2))
    rows = {annotation.query_id: annotation for annotation in store.annotations()}
    generator = np.random.default_rng([2, 0])
    generator.permutation(len(reader.annotations))
    for batch in reader.epoch(0):
        samples = []
        for query_id in batch.query_ids:
            video = store.read_video(rows[query_id].video_id)
            bound = bind(rows[query_id], video.tokens.shape[1], 0.5, "above_zero")
            sample = Sample(
                query_id,
                torch.from_numpy(video.tokens),
                torch.from_numpy(store.read_query(query_id).tokens),
                video.duration_seconds,
                video.frame_rate_fps,
            )
            samples.append(sample.with_labels(bound.draw(generator)))
        plain = collate(samples)
        assert equal(batch, plain)
        for ours, theirs in zip(tensors(batch), tensors(plain), strict=True):
            assert torch.equal(ours, theirs)


def tensors(batch: Batch) -> list[torch.Tensor]:
    found = [batch.num_frames, batch.num_words, batch.durations_seconds, batch.frame_rates_fps]
    batch.targets.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[union-attr]
    return found


def test_ranks_share_each_batch(store: FeatureStore) -> None:
    whole = epoch(training_reader(store, EpochOrder()), 0)
    parts = [
        epoch(training_reader(store, EpochOrder(), Reading(rank=rank, num_ranks=3)), 0)
        for rank in range(3)
    ]
    assert [batch.rank_counts for batch in parts[0]] == [(1, 1, 1), (1, 1, 1), (1, 1, 0)]
    for index, batch in enumerate(whole):
        counted = [
            part[index].query_ids[: part[index].rank_counts[rank]]
            for rank, part in enumerate(parts)
        ]
        assert sum(counted, ()) == batch.query_ids
        assert {part[index].videos.shape[2] for part in parts} == {batch.videos.shape[2]}
        assert {part[index].query.shape[2] for part in parts} == {batch.query.shape[2]}
    assert len(parts[2][2]) == 1  # it has none of the last batch, and one that does not count
    val = store.annotations("val")
    found = [
        FeatureReader(store, val, batch_size=2, reading=Reading(rank=rank, num_ranks=2)).in_order()
        for rank in range(2)
    ]
    ids = [query_id for part in found for batch in part for query_id in batch.query_ids]
    assert ids == [annotation.query_id for annotation in val]


def test_each_process_takes_full_batches_of_its_part_where_nothing_is_trained(
    store: FeatureStore,
) -> None:
    rows = store.annotations() * 20  # enough to fill more than the rounding of a buffer's size
    batches = [
        list(FeatureReader(store, rows, batch_size=len(rows) // 4, reading=reading).in_order())
        for reading in (Reading(rank=rank, num_ranks=4) for rank in range(4))
    ]
    assert [len(part) for part in batches] == [1, 1, 1, 1]
    ids = [query_id for (batch,) in batches for query_id in batch.query_ids]
    assert ids == [annotation.query_id for annotation in rows]


def test_memory_is_bounded(store: FeatureStore) -> None:
    largest = 13 * store.spec.frame_bytes()
    reading = Reading(buffer_gb=1.5 * 3 * largest / 1e9, prefetch=7)
    expected = epoch(training_reader(store, EpochOrder()), 0)
    reader = training_reader(store, EpochOrder(), reading)
    with pytest.warns(ReadingWarning, match=r"of \d batches are read ahead: one takes up to .* GB"):
        assert all(map(equal, epoch(reader, 0), expected))
    assert all(map(equal, epoch(reader, 0), expected))  # told once
    reading = Reading(buffer_gb=largest / 1e9)
    with pytest.raises(ConfigError, match=r"the largest batch takes .* limited to .* GB"):
        epoch(training_reader(store, EpochOrder(), reading), 0)


def test_memory_is_used_again_in_the_next_epoch(store: FeatureStore) -> None:
    reader = training_reader(store, EpochOrder(), Reading(prefetch=1))
    for _ in range(3):  # until both buffers have seen the largest batch
        epoch(reader, 0)
    places = [{batch.videos.data_ptr() for batch in reader.epoch(0)} for _ in range(2)]
    assert len(places[0]) == 2
    assert places[0] == places[1]
    started = reader.epoch(1)
    first = next(started)
    kept = first.videos.clone()
    another = epoch(reader, 1)  # while the first is in use: memory of its own
    assert torch.equal(first.videos, kept)
    assert torch.equal(another[0].videos, kept)


def test_a_cache_reads_a_video_once(store: FeatureStore) -> None:
    cache = VideoCache("ram", torch.device("cpu"))
    reader = training_reader(store, EpochOrder(), Reading(cache=cache))
    first, second = epoch(reader, 0), epoch(reader, 1)
    plain = training_reader(store, EpochOrder())
    assert all(map(equal, first + second, epoch(plain, 0) + epoch(plain, 1)))
    assert sum(batch.num_read_bytes for batch in first) == cache.reserved_bytes
    assert sum(batch.num_read_bytes for batch in second) == 0
    full = VideoCache("ram", torch.device("cpu"), sharers=10**12)
    with pytest.raises(ConfigError, match="train without a cache"):
        training_reader(store, EpochOrder(), Reading(cache=full))
    with pytest.raises(ConfigError, match="needs a GPU, but the device is cpu"):
        VideoCache("gpu", torch.device("cpu"))


def test_a_query_is_read_once_if_there_is_room_to_keep_it(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read_query = store.read_query
    monkeypatch.setattr(store, "read_query", lambda each: asked.append(each) or read_query(each))
    ids = [annotation.query_id for annotation in store.annotations("train")]
    reader = training_reader(store, EpochOrder())
    assert all(map(equal, epoch(reader, 0), epoch(reader, 0)))
    assert sorted(asked) == sorted(ids)
    asked.clear()
    queries = QueryReader(store, most_bytes=read_query(ids[0]).tokens.nbytes)
    for _ in range(2):
        for query_id in ids[:2]:
            np.testing.assert_array_equal(
                queries.read(query_id).tokens, read_query(query_id).tokens
            )
    assert asked == [ids[0], ids[1], ids[1]]


def test_a_positive_frame_is_any_of_the_candidates_with_equal_chance() -> None:
    moments = np.zeros((1, 2), np.float32)
    binding = Binding(moments, np.zeros(9, np.float32), np.array([2, 3, 7]), 0)
    drawn, numpys = np.random.default_rng(5), np.random.default_rng(5)
    found = [binding.draw(drawn).positive_frame for _ in range(600)]
    assert found == [numpys.choice(binding.candidates) for _ in found]
    assert all(160 < found.count(frame) < 240 for frame in (2, 3, 7))


def test_eight_bit_features_travel_as_codes(tmp_path: Path) -> None:
    exact = make_store(tmp_path / "exact.zarr")
    small = make_store(tmp_path / "small.zarr", spec=toy_spec("int8"))
    pairs = zip(
        FeatureReader(exact, exact.annotations(), batch_size=4).in_order(),
        FeatureReader(small, small.annotations(), batch_size=4).in_order(),
        strict=True,
    )
    for a, b in pairs:
        assert b.videos.dtype == torch.int8
        step = (a.video.float().max() - a.video.float().min()) / 255
        assert b.video.dtype == torch.float32
        assert 0 < (a.video.float() - b.video).abs().max() < step
        decoded = small.read_video(b.query_ids[0].partition("-")[0]).decoded()
        assert torch.equal(b.video[0, :, : decoded.shape[1]], torch.from_numpy(decoded))


def test_what_is_left_out_is_counted(store: FeatureStore) -> None:
    moments = np.array([[0.0, 1e6]])
    known, absent = (
        Annotation("v0-0", video_id, "sentence", moments) for video_id in ("v0", "elsewhere")
    )
    with pytest.warns(AnnotationWarning) as caught:
        reader = FeatureReader(store, [known, absent], batch_size=1, positive="above_zero")
    assert [str(warning.message) for warning in caught] == [
        "1 queries are left out: the store lacks their videos (elsewhere)",
        "1 moments were clamped to their video or widened to one frame",
    ]
    assert reader.annotations == [known]
    with pytest.warns(AnnotationWarning, match=r"videos under 20 s \(v0, v1\)"):
        FeatureReader(store, store.annotations("train"), batch_size=1, min_duration_seconds=20)
    # A video is as long as its annotation says, where that says it: here one of 22 seconds.
    rows = [replace(store.annotations("train")[-1], duration_seconds=3.0)]
    assert count_trained(store, rows, 5.0) == 0
    assert count_trained(store, [replace(rows[0], duration_seconds=None)], 5.0) == 1
