"""Frames are right where a header, a clock or a container says less than the truth, or more."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from barcode_videos import (
    CLOCK,
    SIDE,
    Recipe,
    barcode,
    patched,
    read_barcode,
    twice,
    write_video,
)

from r2t.extract.video.choices import DecoderChoice
from r2t.extract.video.decode_pool import DecodePool
from r2t.extract.video.frames import stream_frames
from r2t.extract.video.probe import measure, probe
from r2t.store.errors import ConfigError, VideoError, VideoWarning

SECONDS = tuple(Fraction(frame, 15) for frame in range(60))  # four of them
MIDDLES = [7, 22, 37, 52]  # the frames just before 0.5, 1.5, … s
# Beside sound, whose encoder begins 64 ms early: far enough from the middles to be shifted so.
FIFTHS = tuple(Fraction(frame, 5) for frame in range(20))
MIDDLE_FIFTHS = [2, 7, 12, 17]
JUMPING = tuple(seconds + (20_000 if seconds >= 2 else 0) for seconds in SECONDS)


def sampled(path: Path, fps: float = 1, decoder: DecoderChoice = "auto") -> list[int]:
    """Return which frames are sampled, and hold `measure` to their number."""
    batches = list(stream_frames(path, fps, size=SIDE, decoder=decoder))
    frames = [read_barcode(picture) for batch in batches for picture in batch.pixels]
    assert measure(path, fps).num_frames == len(frames) == batches[0].num_video_frames
    return frames


class TestDuration:
    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".flv", ".ts"])
    def test_pictures_that_start_after_the_sound_are_all_read(
        self, tmp_path: Path, suffix: str, decoder: DecoderChoice
    ) -> None:
        late = tuple(3 + seconds for seconds in FIFTHS)
        path = write_video(tmp_path / "late", Recipe(suffix, times=late, sound_seconds=7))
        assert sampled(path, decoder=decoder) == [0, 0, 0, *MIDDLE_FIFTHS]
        assert probe(path).duration_seconds == pytest.approx(7, abs=0.2)

    def test_pictures_that_end_before_the_sound_in_a_table(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "short", Recipe(times=FIFTHS, sound_seconds=9))
        assert sampled(path) == MIDDLE_FIFTHS

    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    def test_a_table_that_states_too_little(self, tmp_path: Path, decoder: DecoderChoice) -> None:
        path = write_video(tmp_path / "brief", Recipe(times=SECONDS))
        patched(path, b"mdhd", 16, struct.pack(">I", CLOCK))
        assert sampled(path, decoder=decoder) == MIDDLES

    def test_an_avi_header_that_states_too_little(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "brief", Recipe(".avi", "mpeg4", times=SECONDS))
        patched(path, b"avih", 20, struct.pack("<I", 12))
        patched(path, b"strh", 36, struct.pack("<I", 12))
        assert sampled(path) == MIDDLES

    def test_a_header_says_how_long_the_last_picture_is_shown(self, tmp_path: Path) -> None:
        # Of an AVI every tick is a frame: most are skipped here, and the last picture has one.
        path = write_video(tmp_path / "skips", Recipe(".avi", "mpeg4", times=SECONDS[:58:3]))
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stamps = [packet.dts for packet in container.demux(stream) if packet.dts is not None]
            tick = stream.time_base or Fraction(0)
        last = stamps[-1] * tick
        patched(path, b"strh", 36, struct.pack("<I", stamps[-1] + 1))
        assert probe(path).duration == last + tick

    def test_an_avi_without_its_index(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "cut", Recipe(".avi", "mpeg4", times=SECONDS))
        data = path.read_bytes()
        path.write_bytes(data[: data.rindex(b"idx1")])
        assert sampled(path) == MIDDLES

    @pytest.mark.parametrize("stated_seconds", [1.0, 4.0])
    def test_a_stale_length_of_matroska(self, tmp_path: Path, stated_seconds: float) -> None:
        path = write_video(tmp_path / "stale", Recipe(".mkv", times=SECONDS))
        patched(path, b"\x44\x89\x88", 0, struct.pack(">d", 1000 * stated_seconds))
        assert sampled(path) == MIDDLES

    @pytest.mark.parametrize("suffix", [".flv", ".wmv", ".mkv"])
    def test_sound_longer_than_the_pictures_is_no_damage(self, tmp_path: Path, suffix: str) -> None:
        codec = "wmv2" if suffix == ".wmv" else "libx264"
        recipe = Recipe(suffix, codec, times=FIFTHS, sound_seconds=9)
        assert sampled(write_video(tmp_path / "long", recipe)) == MIDDLE_FIFTHS

    def test_flash_without_a_duration(self, tmp_path: Path) -> None:
        bare = {"flvflags": "no_duration_filesize"}
        path = write_video(tmp_path / "a", Recipe(".flv", times=SECONDS, container_options=bare))
        assert sampled(path) == MIDDLES

    def test_a_last_picture_that_is_shown_for_long(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "last", Recipe(times=SECONDS))
        patched(path, b"mdhd", 16, struct.pack(">I", int((SECONDS[-1] + 10) * CLOCK)))
        # The table of times holds (number of frames, ticks of each) twice.
        patched(path, b"stts", 20, struct.pack(">I", 10 * CLOCK))
        assert sampled(path) == [*MIDDLES, *[59] * 10]

    def test_hours_are_bounded(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "jump", Recipe(".mkv", times=JUMPING))
        with pytest.raises(VideoError, match=r"end after 5\.6 hours, and the limit is 5"):
            next(stream_frames(path, 1, max_hours=5))
        with DecodePool(max_hours=5) as pool, pytest.raises(VideoError, match="--max-hours"):
            pool.measure(path, 1)
        with pytest.raises(ConfigError, match="above 0"):
            DecodePool(max_hours=0)


class TestClock:
    @pytest.mark.parametrize("suffix", [".ts", ".mpg", ".avi"])
    def test_two_recordings_in_one_file_are_both_read(
        self, tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        times = tuple(Fraction(frame, 30) for frame in range(60))
        if suffix == ".mpg":
            path = program_stream(tmp_path, 60)
        else:
            codec = "mpeg4" if suffix == ".avi" else "libx264"
            path = write_video(tmp_path / "a", Recipe(suffix, codec, times=times))
        once = sampled(path, fps=2)
        assert len(once) == 4
        assert sampled(twice(path), fps=2) == once * 2
        told = "its clock starts anew at 2.0" in caplog.text
        assert told == (suffix != ".avi")  # whose clock is the number of the frame

    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    def test_time_that_goes_back_elsewhere_is_refused(
        self, tmp_path: Path, decoder: DecoderChoice
    ) -> None:
        path = twice(write_video(tmp_path / "a", Recipe(".mkv", times=SECONDS)))
        with pytest.raises(VideoError, match=r"back from 3\.9\d\d s to 0\.000 s: the file"):
            list(stream_frames(path, 1, decoder=decoder))

    def test_a_stream_that_jumps_goes_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_video(tmp_path / "jump", Recipe(".ts", times=JUMPING))
        assert sampled(path) == MIDDLES
        assert "its clock starts anew at 2.000 s" in caplog.text

    def test_a_clock_that_runs_over_goes_on(self, tmp_path: Path) -> None:
        over = 2**33 / Fraction(90_000)
        times = tuple(over - 2 + seconds for seconds in SECONDS)
        assert sampled(write_video(tmp_path / "over", Recipe(".ts", times=times))) == MIDDLES

    def test_pictures_without_times_are_refused(self, tmp_path: Path) -> None:
        # Small H.264 pictures share a packet of a program stream, which has a time for one.
        path = write_video(tmp_path / "a", Recipe(".mpg", times=SECONDS))
        with pytest.raises(VideoError, match=r"\d+ of 60 pictures carry no time"):
            probe(path)

    def test_a_hole_in_a_program_stream_is_damage(self, tmp_path: Path) -> None:
        path = program_stream(tmp_path, 300)
        data = path.read_bytes()
        pack = b"\0\0\1\xba"
        first, second = (data.index(pack, len(data) * part // 10) for part in (3, 7))
        path.write_bytes(data[:first] + data[second:])
        with pytest.raises(VideoError, match=r"no pictures from|is damaged|cannot be decoded"):
            list(stream_frames(path, 1))

    @pytest.mark.parametrize("gap", [5, 15])
    def test_slides_in_a_stream_are_no_damage(self, tmp_path: Path, gap: int) -> None:
        times = tuple(Fraction(gap * slide) for slide in range(4))
        path = write_video(tmp_path / "slides", Recipe(".ts", times=times))
        assert sampled(path) == [slide for slide in range(4) for _ in range(gap)]

    @pytest.mark.parametrize("sound_seconds", [0, 16])
    def test_a_picture_that_stands_is_no_damage(
        self, tmp_path: Path, sound_seconds: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        stands = 12 if sound_seconds else 5
        times = tuple(seconds + (stands if seconds >= 2 else 0) for seconds in SECONDS)
        recipe = Recipe(".ts", times=times, sound_seconds=sound_seconds)
        path = write_video(tmp_path / "still", recipe)
        assert sampled(path) == [*MIDDLES[:2], *[29] * stands, *MIDDLES[2:]]
        assert ("no pictures from 1.933 s to 7.000 s" in caplog.text) == (sound_seconds == 0)

    def test_long_gaps_are_told_through_the_pool_once_and_in_one_line(self, tmp_path: Path) -> None:
        pauses = tuple(seconds + 100 * (2 * seconds // 1) for seconds in SECONDS)  # seven
        path = write_video(tmp_path / "gaps", Recipe(".mkv", times=pauses))
        heard: list[str] = []
        with DecodePool(size=SIDE, on_warning=heard.append) as pool:
            for _ in range(2):
                assert sum(len(batch) for batch in pool.stream(path, Fraction(1, 100))) == 7
        [line] = heard
        assert line.startswith(f"{path}: there are no pictures from 0.467 s to 100.533 s: ")
        assert line.count(str(path)) == 1
        assert line.count("there are no pictures") == 3
        assert line.endswith("; and 4 more")

    def test_a_clock_that_starts_anew_is_told_when_a_video_is_measured(
        self, tmp_path: Path
    ) -> None:
        path = twice(write_video(tmp_path / "two", Recipe(".ts", times=SECONDS)))
        with DecodePool() as pool:
            with pytest.warns(VideoWarning, match=r"starts anew at 4\.0"):
                pool.measure(path, 1)
            list(pool.stream(path, 1))  # any further warning would be an error


def junk_behind(folder: Path, suffix: str) -> Path:
    path = write_video(folder / "junk", Recipe(suffix, times=SECONDS))
    path.write_bytes(path.read_bytes() + np.random.default_rng(0).bytes(20_000))
    return path


def with_cover(folder: Path) -> Path:
    """Write a cover image as the first stream, and a video that is not the default."""
    path = folder / "cover.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = SIDE, SIDE, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        stream = container.add_stream("libx264", rate=15)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.disposition = Disposition(0)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(barcode(9, SIDE, SIDE), "rgb24")))
        container.mux(cover.encode(None))
        for number in range(60):
            picture = av.VideoFrame.from_ndarray(barcode(number, 96, 64), "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def program_stream(folder: Path, num_frames: int) -> Path:
    path = folder / "program.mpg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(num_frames):
            picture = av.VideoFrame.from_ndarray(barcode(number, 96, 64), "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def animated(folder: Path) -> Path:
    path = folder / "animated.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb8"
        for number in range(40):
            picture = av.VideoFrame.from_ndarray(barcode(number, 96, 64), "rgb24")
            container.mux(stream.encode(picture.reformat(format="rgb8")))
        container.mux(stream.encode(None))
    return path


def of_two_sizes(folder: Path) -> Path:
    """Write a stream whose pictures grow after two seconds."""
    small = write_video(folder / "small", Recipe(".ts", times=SECONDS[:30]))
    large = Recipe(".ts", times=SECONDS[30:], width=192, height=128)
    path = folder / "sizes.ts"
    path.write_bytes(small.read_bytes() + write_video(folder / "large", large).read_bytes())
    return path


def written(**fields: object) -> Callable[[Path], Path]:
    recipe = Recipe(**({"times": SECONDS} | fields))  # type: ignore[arg-type]
    return lambda folder: write_video(folder / "video", recipe)


def fragmented(flags: str) -> Callable[[Path], Path]:
    return written(container_options={"movflags": flags})


SAMPLED = {
    "junk-mp4": (lambda folder: junk_behind(folder, ".mp4"), MIDDLES),
    "junk-flv": (lambda folder: junk_behind(folder, ".flv"), MIDDLES),
    "junk-ts": (lambda folder: junk_behind(folder, ".ts"), MIDDLES),
    "cover": (with_cover, MIDDLES),
    "vp8": (written(suffix=".webm", codec="libvpx", options={"cpu-used": "8"}), MIDDLES),
    "av1": (written(suffix=".mp4", codec="libsvtav1", options={"preset": "12"}), MIDDLES),
    "vp9-alpha": (
        written(suffix=".webm", codec="libvpx-vp9", pixel_format="yuva420p"),
        MIDDLES,
    ),
    "mjpeg": (written(suffix=".avi", codec="mjpeg", pixel_format="yuvj420p"), MIDDLES),
    "gif": (animated, [4, 14, 24, 34]),
    "sizes": (of_two_sizes, [7, 22, 7, 22]),
    "fragments": (fragmented("frag_keyframe+empty_moov"), MIDDLES),
    "fragments-sound": (
        written(
            times=FIFTHS,
            sound_seconds=4,
            container_options={"movflags": "frag_keyframe+default_base_moof"},
        ),
        MIDDLE_FIFTHS,
    ),
    "fragments-cut": (fragmented("frag_keyframe+empty_moov+skip_trailer"), MIDDLES),
    "fragments-index": (fragmented("dash+frag_keyframe+global_sidx"), MIDDLES),
}


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", SAMPLED)
def test_uncommon_files_give_the_frames_that_the_rule_names(
    tmp_path: Path, name: str, decoder: DecoderChoice
) -> None:
    make, expected = SAMPLED[name]
    assert sampled(make(tmp_path), decoder=decoder) == expected
