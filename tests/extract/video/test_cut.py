"""Cutting moments out: the frames and the sound that a clip holds, by what they show."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_videos import Recipe, read_barcode, write_video

from r2t.extract.video.cut import cut, united
from r2t.extract.video.decode_pool import DecodePool
from r2t.store.errors import ConfigError, VideoError

RATE = 10
SOUND_RATE = 16_000


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 6 seconds: frame i is of grey 4·i, the sound of second s has the volume s / 10."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=RATE, options={"crf": "4", "g": "30"})
        picture.width, picture.height, picture.pix_fmt = 48, 34, "yuv420p"
        sound = container.add_stream("aac", rate=SOUND_RATE)
        sound.layout = "mono"
        for index in range(6 * RATE):
            grey = np.full((34, 48, 3), 4 * index, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(picture.encode())
        times = np.arange(6 * SOUND_RATE)
        wave = np.sin(times * 0.3) * (times // SOUND_RATE) / 10
        for start in range(0, len(wave), 1000):
            part = wave[None, start : start + 1000].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


def shown(path: Path) -> tuple[list[float], list[int]]:
    """Return the times of a clip's pictures, and which of the film they are."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        greys = [float(frame.to_ndarray(format="rgb24").mean()) for frame in frames]
        return [float(frame.time or 0) for frame in frames], [round(grey / 4) for grey in greys]


def loudness(path: Path) -> list[float]:
    """Return the volume of each half second."""
    with av.open(str(path)) as container:
        wave = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    half = SOUND_RATE // 2
    return [float(np.abs(part).max()) for part in np.split(wave, range(half, len(wave), half))]


def test_one_file_has_the_frames_of_all_spans_in_time_order(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "clips.mp4"
    told: list[tuple[float, float]] = []
    spans = [(4.0, 5.0), (1.2, 2.0), (1.5, 2.2)]
    files = cut(film, spans, out, on_seconds=lambda *far: told.append(far))
    assert files == [out]
    times, frames = shown(out)
    assert frames == [*range(12, 22), *range(40, 50)]
    np.testing.assert_allclose(times, np.arange(20) / RATE, atol=0.002)
    assert told[-1] == pytest.approx((1.9, 2.0), abs=0.01)
    assert loudness(out)[0] == pytest.approx(0.1, abs=0.04)
    assert loudness(out)[3] == pytest.approx(0.4, abs=0.05)
    assert sorted(tmp_path.iterdir()) == [out]


def test_a_pattern_gives_each_span_its_file_in_the_order_given(film: Path, tmp_path: Path) -> None:
    files = cut(film, [(4.0, 5.0), (1.2, 2.0)], tmp_path / "clip-{n}.mkv")
    assert [path.name for path in files] == ["clip-1.mkv", "clip-2.mkv"]
    assert shown(files[0])[1] == list(range(40, 50))
    assert shown(files[1])[1] == list(range(12, 20))


def test_a_span_between_two_frames_shows_the_one_on_screen(film: Path, tmp_path: Path) -> None:
    cut(film, [(2.03, 2.07), (5.97, 9.0)], tmp_path / "clips.mp4")
    assert shown(tmp_path / "clips.mp4")[1] == [20, 59]


def barcodes(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [read_barcode(picture[:, 16:80].transpose(2, 0, 1)) for picture in pictures]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_seconds_are_those_of_the_frames_sampled(tmp_path: Path, suffix: str) -> None:
    late = tuple(3 + Fraction(frame, 5) for frame in range(20))
    video = write_video(tmp_path / "late", Recipe(suffix, times=late, sound_seconds=7))
    out = tmp_path / "clip.mp4"
    cut(video, [(5.0, 6.0)], out)
    assert barcodes(out) in ([10, 11, 12, 13, 14], [9, 10, 11, 12, 13, 14])
    cut(video, [(1.0, 4.0)], out)  # the first picture stands for what is before it
    assert barcodes(out) == [0, 1, 2, 3, 4]
    assert shown(out)[0][:2] == pytest.approx([0, 2.2], abs=0.1)
    assert len(loudness(out)) == pytest.approx(6, abs=1)
    cut(video, [(1.0, 2.0)], out)
    assert barcodes(out) == [0]


def test_a_second_recording_in_one_file_is_cut_too(tmp_path: Path) -> None:
    times = tuple(Fraction(frame, 30) for frame in range(60))
    video = write_video(tmp_path / "two", Recipe(".ts", times=times))
    video.write_bytes(video.read_bytes() * 2)
    cut(video, [(0.5, 0.6), (2.5, 2.6)], tmp_path / "clip.mp4")
    assert barcodes(tmp_path / "clip.mp4") == [15, 16, 17] * 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_clip_says_what_it_is(film: Path, tmp_path: Path, suffix: str) -> None:
    tags = {"title": "Highlights of film", "comment": "a 'dog' = ü; #1\nnext line"}
    with DecodePool() as pool:
        [path] = pool.cut(film, [(1.0, 2.0)], tmp_path / f"clip{suffix}", metadata=tags)
    with av.open(str(path)) as container:
        found = {name.lower(): text for name, text in container.metadata.items()}
    assert {name: found[name] for name in tags} == tags


def test_odd_names_are_names(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:x.mp4", "-v x.mp4", "50%d ü.mp4", "a,b|c.mp4", "x.mp4?y.mp4"):
        shutil.copy(film, name)
        for pattern in (f"cut:{name}", f"cut %03d {{n}} {name}", f"-cut {name}"):
            [path] = cut(Path(name), [(1.0, 1.5)], Path(pattern))
            assert shown(path.absolute())[1] == list(range(10, 15))


def test_a_clip_that_cannot_be_written_names_itself(film: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OSError, match=r"folder\.mp4"):
        cut(film, [(0, 1)], tmp_path / "folder.mp4")


def test_silent_videos_and_odd_sides(tmp_path: Path) -> None:
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 33, 17, "bgr0"
        for index in range(20):
            grey = np.full((17, 33, 3), 4 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    cut(path, [(0.5, 1.0)], tmp_path / "clip.mov")
    with av.open(str(tmp_path / "clip.mov")) as container:
        assert not container.streams.audio
        assert (container.streams.video[0].width, container.streams.video[0].height) == (32, 16)
    assert shown(tmp_path / "clip.mov")[1] == list(range(5, 10))


def test_what_cannot_be_cut_is_refused_and_leaves_nothing(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clips are written as \.mp4"):
        cut(film, [(0, 1)], tmp_path / "clip.webm")
    with pytest.raises(ConfigError, match="the video itself"):
        cut(film, [(0, 1)], film)
    with pytest.raises(VideoError, match="no moment"):
        cut(film, [(1, 1)], tmp_path / "clip.mp4")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(VideoError, match="cannot be decoded"):
        cut(broken, [(0, 1)], tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == [broken]


def test_overlapping_spans_are_united() -> None:
    assert united([(5, 6), (1, 3), (2, 4), (8, 8), (4, 4.5)]) == [(1, 4.5), (5, 6)]


def test_a_pool_cuts_in_a_process_that_may_die_of_the_video(film: Path, tmp_path: Path) -> None:
    spans = [(1.0, 2.0), (0.0, 0.5)]
    told: list[tuple[float, float]] = []
    with DecodePool(timeout_seconds=60) as pool:
        out = tmp_path / "pool-{n}.mp4"
        files = pool.cut(film, spans, out, on_seconds=lambda *far: told.append(far))
        assert [path.name for path in files] == ["pool-1.mp4", "pool-2.mp4"]
        for ours, theirs in zip(files, cut(film, spans, tmp_path / "{n}.mp4"), strict=True):
            assert shown(ours) == shown(theirs)
        assert told
        assert max(told) <= (1.5, 1.5)
        bad = tmp_path / "bad.mp4"
        bad.write_bytes(b"no video" * 99)
        with pytest.raises(VideoError, match="cannot be decoded"):
            pool.cut(bad, spans, out)
        with pytest.raises(ConfigError, match="nowhere does not exist"):
            pool.cut(film, spans, tmp_path / "nowhere" / "clip.mp4")
