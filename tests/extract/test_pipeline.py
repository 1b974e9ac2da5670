"""One extraction from end to end: what is stored, skipped, set aside, and what survives a stop."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from r2t.cli.commands.extract.report import show_extraction
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.config import ExtractConfig
from r2t.extract.fetch.remote_video import RemoteVideo
from r2t.extract.pending import Quarantine
from r2t.extract.pipeline import ExtractReport, extract_videos, why_no_embeddings
from r2t.extract.run.progress import ExtractProgress
from r2t.store.annotations import Annotation, SaliencyLabels, make_query_id
from r2t.store.check.verify import verify_store
from r2t.store.errors import (
    AnnotationError,
    AnnotationWarning,
    ConfigError,
    SpecMismatchError,
    StoreError,
)
from r2t.store.feature_store import FeatureStore
from r2t.store.video_writer import VideoWriter

CONFIG = ExtractConfig(frame_rate=1.0)
Extract = Callable[..., ExtractReport]


def write_video(path: Path, *, seconds: int, shade: int) -> Path:
    """Write a flat grey video that brightens with every second, four frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(4))
        stream.width, stream.height = 64, 48
        for number in range(4 * seconds):
            picture = np.full((48, 64, 3), shade + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def annotation(
    query_id: str, video_id: str, query: str = "a grey wall", end: float = 2.0
) -> Annotation:
    return Annotation(query_id, video_id, query, np.array([[0.0, end]]))


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> FrozenClip:
    return FrozenClip.load(str(clip_folder), layers=2, device="cpu", batch_size=4)


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "videos"
    folder.mkdir()
    lengths = {"one": 6, "two": 3, "three": 2}
    return [
        write_video(folder / f"{name}.mp4", seconds=seconds, shade=40 * number)
        for number, (name, seconds) in enumerate(lengths.items())
    ]


@pytest.fixture
def store(tmp_path: Path, clip: FrozenClip) -> FeatureStore:
    return FeatureStore.create(tmp_path / "feats.zarr", clip.spec(1.0), embedding=clip.embedding)


def test_a_run_stores_what_the_model_sees(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    seen: list[ExtractProgress] = []
    queries = [annotation("q1", "one"), annotation("q2", "two", "a cat"), annotation("q3", "one")]
    report = extract_videos(CONFIG, clip, store, videos, queries, seen.append)
    assert report.complete
    assert sorted(report.done) == ["one", "three", "two"]
    assert (report.num_frames, report.num_new_queries) == (6 + 3 + 2, 3)
    assert sorted({progress.num_finished for progress in seen}) == [0, 1, 2, 3]
    assert seen[0].part_finished == pytest.approx(4 / 6)  # a window of the first video's frames
    assert (seen[-1].num_frames, seen[-1].part_finished) == (11, 0)
    assert all(progress.num_videos == 3 and progress.failed is None for progress in seen)
    for path in videos:
        alone = clip.encode_video(path, 1.0)
        stored = store.read_video(path.stem)
        np.testing.assert_array_equal(stored.tokens, alone.tokens)
        assert alone.embedding is not None
        np.testing.assert_array_equal(store.read_embedding(path.stem), alone.embedding)
        assert stored.embedding_from == "frames"
        assert stored.duration_seconds == alone.duration_seconds
        assert stored.source is not None
        assert stored.source.name == path.name
        assert stored.source.num_bytes == path.stat().st_size
        assert stored.source.decoder
    query, cat = store.read_query("q2"), clip.encode_query("a cat")
    np.testing.assert_array_equal(query.tokens, cat.tokens)
    assert query.embedding is not None
    assert cat.embedding is not None
    np.testing.assert_array_equal(query.embedding, cat.embedding)
    assert [each.query_id for each in store.annotations()] == ["q1", "q2", "q3"]


def test_a_store_without_embeddings_gets_tokens_alone(
    clip: FrozenClip, tmp_path: Path, videos: list[Path]
) -> None:
    store = FeatureStore.create(tmp_path / "bare.zarr", clip.spec(1.0))
    assert why_no_embeddings(clip, store) == (
        f"{store.location} was made without embeddings, so none are added to it"
    )
    assert extract_videos(CONFIG, clip, store, videos[:1], [annotation("q1", "one")]).complete
    stored = store.read_video("one")
    np.testing.assert_array_equal(stored.tokens, clip.encode_video(videos[0], 1.0).tokens)
    assert (stored.embedding, store.read_query("q1").embedding) == (None, None)


def test_a_second_run_does_only_what_is_missing(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    extract_videos(CONFIG, clip, store, videos[:1], [annotation("q1", "one")])
    queries = [annotation("q1", "one"), annotation("q2", "two")]
    report = extract_videos(CONFIG, clip, store, videos[:2], queries)
    assert (report.done, report.skipped) == (("two",), ("one",))
    assert (report.num_new_queries, report.num_known_queries) == (1, 1)
    report = extract_videos(CONFIG, clip, store, videos[:2], queries)
    assert report.complete
    assert (report.done, report.num_frames, report.num_new_queries) == ((), 0, 0)


def test_videos_of_a_killed_run_are_indexed(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    extract_videos(CONFIG, clip, store, videos[:1], [])
    for part in (Path(store.location) / "parts" / "index").glob("*/"):
        for file in sorted(part.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        part.rmdir()
    killed = FeatureStore.open(store.location)
    assert len(killed.videos) == 0
    extract_videos(CONFIG, clip, killed, videos[:1], [])
    assert killed.videos["video_id"].tolist() == ["one"]


def test_a_bad_video_is_set_aside_until_it_is_retried(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    whole = videos[1].read_bytes()
    videos[1].write_bytes(whole[:200])
    queries = [annotation("q1", "one"), annotation("q2", "two")]
    report = extract_videos(CONFIG, clip, store, videos[:2], queries)
    assert not report.complete
    assert (report.done, list(report.failed)) == (("one",), ["two"])
    assert (report.num_new_queries, report.num_withheld_queries) == (1, 1)
    (row,) = [json.loads(line) for line in Path(report.quarantine_path).read_text().splitlines()]
    assert row == {"video_id": "two", "reason": report.failed["two"]}
    assert Path(report.quarantine_path).name == "feats.zarr.quarantine.jsonl"

    videos[1].write_bytes(whole)
    report = extract_videos(CONFIG, clip, store, videos[:2], queries)
    assert not report.complete
    assert (report.done, report.quarantined) == ((), {"two": row["reason"]})

    retry = ExtractConfig(frame_rate=1.0, retry_failed=True)
    report = extract_videos(retry, clip, store, videos[:2], queries)
    assert report.complete
    assert report.done == ("two",)
    assert not Path(report.quarantine_path).exists()
    assert len(store.annotations()) == 2


def test_queries_whose_video_nobody_has_are_named_and_not_stored(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    queries = [annotation("q1", "one"), annotation("q2", "gone"), annotation("q3", "gone")]
    report = extract_videos(CONFIG, clip, store, videos[:1], queries)
    assert not report.complete
    assert report.missing_videos == {"gone": 2}
    assert report.num_withheld_queries == 2
    assert [each.query_id for each in store.annotations()] == ["q1"]
    # A stored video needs no file any more.
    report = extract_videos(CONFIG, clip, store, videos[1:2], [annotation("q4", "one", "a dog")])
    assert report.complete


def test_moments_past_the_end_are_counted(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    queries = [annotation("q1", "one", end=6.9), annotation("q2", "one", end=7.1)]
    with pytest.warns(AnnotationWarning, match=r"1 of 2 queries; .*'q2', .* of 'one', to 7.1 s"):
        extract_videos(CONFIG, clip, store, videos[:1], queries)
    assert store.annotations()[1].moments[0, 1] == 7.1


@pytest.mark.parametrize(
    ("queries", "error", "message"),
    [
        ([annotation("q1", "one", " ")], AnnotationError, "query 'q1', '' of 'one' is empty"),
        ([annotation("q1", "one", "&nbsp;")], AnnotationError, "'&nbsp;' of 'one' is empty"),
        (
            [annotation("q1", "one"), annotation("q1", "one", end=1.0)],
            AnnotationError,
            "two different annotations have the id 'q1'",
        ),
        ([annotation("q0", "one", "another text")], StoreError, "query 'q0', .* is in .* already"),
    ],
)
def test_annotations_that_cannot_be_stored_stop_the_run_before_it_begins(
    clip: FrozenClip,
    store: FeatureStore,
    videos: list[Path],
    queries: list[Annotation],
    error: type[Exception],
    message: str,
) -> None:
    extract_videos(CONFIG, clip, store, videos[2:], [annotation("q0", "three")])
    with pytest.raises(error, match=message):
        extract_videos(CONFIG, clip, store, videos, queries)
    assert store.videos["video_id"].tolist() == ["three"]


def test_an_empty_title_is_stored_as_the_start_and_end_token(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    labels = SaliencyLabels(np.zeros((3, 1), np.float32), 1.0, lowest=-1.0, highest=1.0)
    title = replace(annotation("one", "one", " "), moments=np.zeros((0, 2)), saliency=labels)
    assert extract_videos(CONFIG, clip, store, videos[:1], [title]).complete
    assert store.annotations()[0].query == " "
    assert store.read_query("one").tokens.shape[1] == 2
    # Read without its blanks by an earlier version, it is the same title.
    again = extract_videos(CONFIG, clip, store, videos[:1], [replace(title, query="")])
    assert (again.complete, again.num_known_queries) == (True, 1)


def test_annotations_of_tacos_are_stored_under_the_names_of_their_videos(
    clip: FrozenClip, store: FeatureStore, videos: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "s30-d52-cam-002.mp4"
    os.link(videos[0], path)
    rows = [annotation("s30-d52_0", "s30-d52"), annotation("s30-d53_0", "s30-d53")]
    with pytest.warns(AnnotationWarning, match="'s30-d52' is taken for 's30-d52-cam-002'"):
        report = extract_videos(CONFIG, clip, store, [path], rows)
    assert (report.done, report.missing_videos) == (("s30-d52-cam-002",), {"s30-d53": 1})
    (stored,) = store.annotations()
    assert (stored.query_id, stored.video_id) == ("s30-d52_0", "s30-d52-cam-002")


def test_a_store_of_another_model_is_refused(
    clip: FrozenClip, clip_folder: Path, store: FeatureStore, videos: list[Path]
) -> None:
    other = FrozenClip.load(str(clip_folder), "none", layers=2, device="cpu")
    with pytest.raises(SpecMismatchError, match="weights_sha256"):
        extract_videos(CONFIG, other, store, videos, [])
    with pytest.raises(SpecMismatchError, match=r"--fps: 1\.0 in .*, 2\.0 in this extraction"):
        extract_videos(ExtractConfig(frame_rate=2.0), clip, store, videos, [])


def test_one_frame_a_clip(clip: FrozenClip, tmp_path: Path, videos: list[Path]) -> None:
    store = FeatureStore.create(tmp_path / "hd.zarr", clip.spec("per-video"))
    labels = SaliencyLabels(np.zeros((4, 1), np.float32), 1.5, -1, 1)
    query = Annotation("q1", "one", "a grey wall", np.zeros((0, 2)), labels)
    report = extract_videos(ExtractConfig(frame_rate="per-video"), clip, store, videos[:2], [query])
    assert store.read_video("one").num_frames == 4
    assert store.read_video("one").frame_rate_fps == pytest.approx(1 / 1.5)
    assert (report.unlabelled, report.failed, report.complete) == (("two",), {}, True)
    assert not Quarantine(store.location).read()
    config = ExtractConfig(frame_rate="per-video")
    assert extract_videos(config, clip, store, videos[:2], [query]).unlabelled == ("two",)
    with pytest.raises(ConfigError, match="no annotation has saliency"):
        extract_videos(config, clip, store, videos[:2], [])
    # A frame for each clip is what the labels need: a file that lasts longer is of another cut.
    longer = replace(labels, scores=np.zeros((9, 1), np.float32))
    other = replace(query, query_id="q2", video_id="two", saliency=longer)
    with pytest.warns(
        AnnotationWarning, match=r"1 of 2 videos; .* 'two', with \d frames for 9 clips"
    ):
        assert extract_videos(config, clip, store, videos[:2], [query, other]).complete


def test_a_full_disk_ends_the_run_and_keeps_what_is_complete(
    clip: FrozenClip, store: FeatureStore, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = VideoWriter.append

    def append(self: VideoWriter, tokens: np.ndarray, embedding: np.ndarray | None) -> None:
        if store.has_video("one"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(self, tokens, embedding)

    monkeypatch.setattr(VideoWriter, "append", append)
    with pytest.raises(StoreError, match=r"No space left on device.*run the same command again"):
        extract_videos(CONFIG, clip, store, videos, [annotation("q1", "one")])
    assert Quarantine(store.location).read() == {}
    assert FeatureStore.open(store.location).videos["video_id"].tolist() == ["one"]
    assert not list(Path(store.location).parent.glob("*.partial/*"))

    monkeypatch.undo()
    assert extract_videos(CONFIG, clip, store, videos, [annotation("q1", "one")]).complete


def test_features_that_cannot_be_stored_fail_one_video(
    clip: FrozenClip, store: FeatureStore, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = VideoWriter.append

    def append(self: VideoWriter, tokens: np.ndarray, embedding: np.ndarray | None) -> None:
        if tokens.shape[1] == 3:  # video "two", in one window
            raise ConfigError("tokens hold NaN")
        genuine(self, tokens, embedding)

    monkeypatch.setattr(VideoWriter, "append", append)
    report = extract_videos(CONFIG, clip, store, videos, [])
    assert report.failed == {"two": "tokens hold NaN"}
    assert sorted(report.done) == ["one", "three"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_complete_videos(
    clip: FrozenClip, store: FeatureStore, videos: list[Path], number: signal.Signals
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stop(progress: ExtractProgress) -> None:
        if progress.num_finished:
            signal.raise_signal(number)

    report = extract_videos(CONFIG, clip, store, videos, [annotation("q1", "one")], stop)
    assert report.interrupted
    assert not report.complete
    assert report.done == ("one",)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not [each for each in threading.enumerate() if each.name.startswith("r2t-")]
    report = extract_videos(CONFIG, clip, store, videos, [annotation("q1", "one")])
    assert report.complete
    assert report.skipped == ("one",)


def test_an_error_of_ours_is_not_swallowed(
    clip: FrozenClip, store: FeatureStore, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(pixels: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    monkeypatch.setattr(clip, "encode_frames", broken)
    with pytest.raises(ZeroDivisionError):
        extract_videos(CONFIG, clip, store, videos, [])
    assert not [each for each in threading.enumerate() if each.name.startswith("r2t-")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame_rate": 0.0}, "frame rate 0.0"),
        ({"frame_rate": float("nan")}, "frame rate nan"),
        ({"num_workers": 0}, "0 workers"),
        ({"timeout_seconds": 0.0}, "time limit 0.0 s"),
    ],
)
def test_impossible_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExtractConfig(**settings)  # type: ignore[arg-type]


def test_a_damaged_quarantine_is_an_error(store: FeatureStore) -> None:
    quarantine = Quarantine(store.location)
    Path(quarantine.location).write_text('{"video_id": "one", "reason": "r"}\nnonsense\n')
    with pytest.raises(StoreError, match="line 2"):
        quarantine.read()


class TestReplacedVideos:
    UPDATE = ExtractConfig(frame_rate=1.0, update=True)

    def test_another_size_is_named_and_extracted_anew_if_asked_for(
        self, clip: FrozenClip, store: FeatureStore, videos: list[Path]
    ) -> None:
        queries = [annotation("q1", "one"), annotation("q2", "two")]
        extract_videos(CONFIG, clip, store, videos[:2], queries)
        before = store.read_video("two").tokens
        write_video(videos[1], seconds=9, shade=80)
        report = extract_videos(CONFIG, clip, store, videos[:2], queries)
        assert not report.complete
        assert (report.skipped, list(report.changed)) == (("one",), ["two"])
        assert "was extracted with" in report.changed["two"]
        np.testing.assert_array_equal(store.read_video("two").tokens, before)
        report = extract_videos(self.UPDATE, clip, store, videos[:2], queries)
        assert report.complete
        assert (report.done, report.skipped) == (("two",), ("one",))
        assert store.read_video("two").num_frames == 9
        assert len(store.annotations()) == 2
        assert verify_store(store.location).faults == ()

    def test_other_content_of_one_size_is_noticed(
        self, clip: FrozenClip, store: FeatureStore, videos: list[Path]
    ) -> None:
        extract_videos(CONFIG, clip, store, videos[:1], [])
        content = videos[0].read_bytes()
        videos[0].write_bytes(content)  # written again, and the same
        assert extract_videos(CONFIG, clip, store, videos[:1], []).complete
        videos[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        report = extract_videos(CONFIG, clip, store, videos[:1], [])
        assert "but not the content" in report.changed["one"]

    def test_of_a_video_behind_a_url_the_size_that_a_listing_says_is_compared(
        self, clip: FrozenClip, store: FeatureStore, videos: list[Path]
    ) -> None:
        extract_videos(CONFIG, clip, store, videos[:1], [])
        num_bytes = videos[0].stat().st_size
        for told in (num_bytes, None):  # nothing is fetched
            url = "s3://bucket/one.mp4"
            report = extract_videos(CONFIG, clip, store, [RemoteVideo(url, url, told)], [])
            assert (report.complete, report.skipped) == (True, ("one",))
        url = "https://me:secret@a.example/one.mp4?secret"
        other = RemoteVideo(url, url, num_bytes + 1)
        report = extract_videos(CONFIG, clip, store, [other], [])
        assert report.changed["one"] == (
            f"https://a.example/one.mp4 has {num_bytes + 1:,} bytes; "
            f"it was extracted with {num_bytes:,}"
        )


def test_a_server_that_is_gone_costs_no_video_its_turn(
    clip: FrozenClip,
    store: FeatureStore,
    videos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("r2t.store.sources.retries._FIRST_PAUSE_SECONDS", 0.0)
    urls = [f"http://127.0.0.1:9/{number}.mp4" for number in range(12)]
    gone = [RemoteVideo(url, url) for url in urls]
    report = extract_videos(CONFIG, clip, store, [*gone, videos[0]], [annotation("q1", "one")])
    assert (report.done, report.failed, report.complete) == (("one",), {}, False)
    assert report.num_new_queries == 1
    [left] = report.left
    assert (left.name, left.num_videos) == ("http://127.0.0.1:9", 12)
    assert Quarantine(store.location).read() == {}
    show_extraction(report, "feats.zarr", print)
    assert "left for another run: 12 videos of http://127.0.0.1:9, where" in capsys.readouterr().err


def test_a_moment_wholly_outside_its_video_is_left_out_by_name(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    outside = Annotation("q2", "one", "a dog", np.array([[0.0, 2.0], [100.0, 300.0]]))
    report = extract_videos(CONFIG, clip, store, videos[:1], [annotation("q1", "one"), outside])
    assert not report.complete
    assert list(report.impossible_queries) == ["q2"]
    assert "'a dog' of 'one': the moment [100, 300] starts after" in report.impossible_queries["q2"]
    assert [each.query_id for each in store.annotations()] == ["q1"]


def test_a_reworded_sentence_is_named(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    def row(text: str, end: float) -> Annotation:
        return annotation(make_query_id("one", text), "one", text, end)

    extract_videos(CONFIG, clip, store, videos[:1], [row("a dgo", 2.0), row("a cat", 3.0)])
    report = extract_videos(CONFIG, clip, store, videos[:1], [row("a dog", 2.0), row("a cat", 3.0)])
    assert [(each.before, each.after) for each in report.rewordings] == [("a dgo", "a dog")]
    # Another sentence of the same moment is none, as long as both are given.
    given = [row("a dog", 2.0), row("a cat", 3.0), row("a dgo", 2.0), row("one more", 2.0)]
    assert extract_videos(CONFIG, clip, store, videos[:1], given).rewordings == ()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_refused_and_the_others_go_on(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    odd = os.fsdecode(os.fsencode(videos[0].parent) + b"/caf\xe9.mp4")
    shutil.copy(videos[0], odd)
    line_end = videos[0].with_name("two\u2028lines.mp4")
    line_end.write_bytes(b"no video")
    report = extract_videos(CONFIG, clip, store, [Path(odd), line_end, videos[0]], [])
    assert not report.complete
    assert report.done == ("one",)
    assert report.refused.keys() == {r"caf\xe9.mp4"}
    assert "the name is not UTF-8" in report.refused[r"caf\xe9.mp4"]
    # A later run can read what was set aside, whatever ends a line elsewhere.
    again = extract_videos(CONFIG, clip, store, [line_end, videos[0]], [])
    assert list(again.quarantined) == ["two\u2028lines"]


def test_names_are_compared_by_their_normal_form(
    clip: FrozenClip, store: FeatureStore, videos: list[Path]
) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    video = videos[0].with_name(f"{apart}.mp4")
    shutil.copy(videos[0], video)
    extract_videos(CONFIG, clip, store, [video], [annotation("q1", f"{composed}.MTS")])
    assert store.annotations()[0].video_id == apart
    # Moved to a system that composes names, it is still the same video.
    moved = video.rename(video.with_name(f"{composed}.mp4"))
    report = extract_videos(CONFIG, clip, store, [moved], [annotation("q1", composed)])
    assert report.complete
    assert (report.skipped, report.done) == ((apart,), ())
    report = extract_videos(CONFIG, clip, store, [moved], [annotation("q2", "Café")])
    assert report.near_misses == {"Café": f"there is {apart!r}, spelled differently"}
