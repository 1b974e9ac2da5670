"""Every sampled frame is the one that the rule names, whatever the file and the decoder."""

from __future__ import annotations

import hashlib
import math
import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from barcode_videos import (
    CLOCK,
    SIDE,
    Recipe,
    read_barcode,
    write_audio,
    write_two_streams,
    write_video,
)
from PIL import Image

from r2t.extract.video import choices, frames
from r2t.extract.video.choices import DecoderChoice, StreamChoice, decord_name, exact_rate
from r2t.extract.video.container import Orientation
from r2t.extract.video.decoders import DecordRefusal, resize_and_crop
from r2t.extract.video.frames import FrameBatch, file_sha256, stream_frames
from r2t.extract.video.probe import probe
from r2t.store.errors import ConfigError, VideoError

NTSC = tuple(Fraction(1001 * frame, 30_000) for frame in range(150))
UNEVEN = tuple(Fraction(frame * frame % 7 + 9 * frame, 100) for frame in range(60))
LATE = tuple(5 + Fraction(frame, 30) for frame in range(150))
EARLY = tuple(Fraction(frame - 40, 30) for frame in range(150))  # the first 40 are cut away
OPEN_GOP = {"x264-params": "open-gop=1:keyint=24:bframes=3:scenecut=0", "preset": "medium"}
X265 = {"x265-params": "log-level=none:pools=1:frame-threads=1", "preset": "ultrafast"}
VP9 = {"cpu-used": "8", "deadline": "realtime"}

# Name: how it is written, and whether decord may decode it under "auto".
RECIPES: dict[str, tuple[Recipe, bool]] = {
    "constant": (Recipe(), True),
    "ntsc": (Recipe(times=NTSC), True),
    "uneven": (Recipe(times=UNEVEN), True),
    "b-frames": (Recipe(options={"preset": "medium", "bf": "3"}), True),
    "matroska": (Recipe(suffix=".mkv"), True),
    "late": (Recipe(suffix=".mkv", times=LATE), True),
    "vp9": (Recipe(suffix=".webm", codec="libvpx-vp9", options=VP9), True),
    "with-sound": (Recipe(sound_seconds=5), True),
    "odd-size": (Recipe(codec="libx264", pixel_format="yuv444p", width=99, height=67), False),
    "portrait": (Recipe(width=66, height=122), True),
    "edit-list": (Recipe(times=EARLY), False),
    "one-frame": (Recipe(times=(Fraction(0),)), True),
    "open-gop": (Recipe(options=OPEN_GOP), False),
    "intra-refresh": (Recipe(options={"intra-refresh": "1", "preset": "medium"}), False),
    "hevc": (Recipe(codec="libx265", options=X265), False),
    "mpeg4": (Recipe(suffix=".avi", codec="mpeg4"), False),
    "transport-stream": (Recipe(suffix=".ts"), False),
    "ten-bit": (Recipe(pixel_format="yuv420p10le"), False),
    "full-chroma": (Recipe(pixel_format="yuv444p"), False),
    "no-duration": (Recipe(suffix=".mkv", container_options={"live": "1"}), False),
    "quarter-turn": (Recipe(rotation=90, width=96, height=64), True),
    "half-turn": (Recipe(rotation=180, width=96, height=64), True),
    "mirrored": (Recipe(rotation=90, mirror=True, width=96, height=64), False),
}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: write_video(folder / name, recipe) for name, (recipe, _) in RECIPES.items()}


def upright(pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Undo the turn that a sampled picture was shown with."""
    if recipe.mirror:
        pixels = pixels[:, :, ::-1]
    return np.rot90(pixels, -recipe.rotation // 90, axes=(1, 2))


def stored_times(recipe: Recipe) -> list[Fraction]:
    """Return the times counted from the container's start, as its format rounds them."""
    ticks_per_second = 1000 if recipe.suffix in (".mkv", ".webm") else CLOCK
    start = max(Fraction(0), recipe.times[0])
    return [
        Fraction(round((seconds - start) * ticks_per_second), ticks_per_second)
        for seconds in recipe.times
    ]


def expected_frames(relative: list[Fraction], num_slots: int, fps: Fraction) -> list[int]:
    """Apply the sampling rule."""
    centres = [(slot + Fraction(1, 2)) / fps for slot in range(num_slots)]
    return [
        max((k for k, time in enumerate(relative) if time < centre), default=0)
        for centre in centres
    ]


@pytest.mark.parametrize("fps", [0.5, 1, 2, 7.5])
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_frame_is_the_one_the_rule_names(
    video: dict[str, Path], name: str, decoder: DecoderChoice, fps: float
) -> None:
    recipe, suits_decord = RECIPES[name]
    batches = list(stream_frames(video[name], fps, size=SIDE, decoder=decoder, window=4))

    times = stored_times(recipe)
    num_slots = batches[0].num_video_frames
    assert abs(batches[0].duration_seconds - float(times[-1]) - 1 / 30) < 0.1
    assert num_slots == max(1, math.floor(batches[0].duration_seconds * fps + 0.5))
    assert [batch.first_frame for batch in batches] == list(range(0, num_slots, 4))
    expected = expected_frames(times, num_slots, exact_rate(fps))
    pixels = np.concatenate([batch.pixels for batch in batches])
    assert [read_barcode(upright(picture, recipe)) for picture in pixels] == expected
    seconds = np.concatenate([batch.timestamps_seconds for batch in batches])
    assert seconds == pytest.approx([float(times[k]) for k in expected], abs=1e-6)
    uses_decord = decoder == "auto" and suits_decord and decord_name() is not None
    assert batches[-1].decoder == (decord_name() if uses_decord else f"pyav {av.__version__}")


@pytest.mark.skipif(decord_name() is None, reason="decord has no wheel for this machine")
@pytest.mark.parametrize("name", [name for name, (_, suits) in RECIPES.items() if suits])
def test_decoders_agree_to_the_byte(video: dict[str, Path], name: str) -> None:
    first, second = (
        np.concatenate([b.pixels for b in stream_frames(video[name], 2, size=48, decoder=decoder)])
        for decoder in ("decord", "pyav")
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(decord_name() is None, reason="decord has no wheel for this machine")
@pytest.mark.parametrize("name", [name for name, (_, suits) in RECIPES.items() if not suits])
def test_decord_alone_refuses_what_it_would_get_wrong(video: dict[str, Path], name: str) -> None:
    with pytest.raises(VideoError, match="not for decord"):
        next(stream_frames(video[name], 2, decoder="decord"))


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    ("default", "choice", "taken", "told"),
    [
        (1, "best", 1, "stream 1 is taken: the best, by FFmpeg's rule; .* of the first, stream 0"),
        (1, "first", 0, "stream 0 is taken: the first, as in the official .* best is stream 1"),
        (0, "best", 0, None),
        (0, "first", 0, None),
    ],
)
def test_of_two_streams_the_one_that_was_asked_for_is_taken(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    decoder: DecoderChoice,
    suffix: str,
    default: int,
    choice: StreamChoice,
    taken: int,
    told: str | None,
) -> None:
    path = write_two_streams(tmp_path / f"two{suffix}", default=default)
    [batch] = stream_frames(path, 1, size=SIDE, decoder=decoder, stream_choice=choice)
    assert [read_barcode(picture) for picture in batch.pixels] == [
        1000 * taken + number for number in (4, 14, 24, 34)
    ]
    assert batch.decoder.endswith(f", stream {taken}")
    assert batch.decoder.startswith("pyav")  # decord ranks streams in a way of its own
    assert len(caplog.messages) == (told is not None)
    assert re.search(told or "", caplog.text)


def test_pyav_goes_on_where_decord_fails(
    video: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.concatenate([b.pixels for b in stream_frames(video["constant"], 2, size=SIDE)])

    def failing(*arguments: object) -> object:
        yield from (frames.Picture(picture, Fraction(0)) for picture in expected[:5])
        raise DecordRefusal("a bad day")

    monkeypatch.setattr(frames, "decord_name", lambda: "decord 0")
    monkeypatch.setattr(frames, "decord_pictures", failing)
    batches = list(stream_frames(video["constant"], 2, size=SIDE, window=2))
    np.testing.assert_array_equal(np.concatenate([b.pixels for b in batches]), expected)
    assert batches[1].decoder == "decord 0"
    assert batches[2].decoder == f"pyav {av.__version__} from frame 4, after decord 0 failed"


def test_threads_and_a_later_start_change_no_picture(video: dict[str, Path]) -> None:
    whole = np.concatenate([b.pixels for b in stream_frames(video["b-frames"], 2, size=SIDE)])
    for decoder in ("auto", "pyav"):
        [batch] = stream_frames(
            video["b-frames"], 2, size=SIDE, decoder=decoder, first_frame=3, num_threads=2
        )
        assert batch.first_frame == 3
        np.testing.assert_array_equal(batch.pixels, whole[3:])


def test_probe_tells_what_the_screen_shows(video: dict[str, Path]) -> None:
    upright_info, turned = probe(video["constant"]), probe(video["quarter-turn"])
    assert (upright_info.width, upright_info.height, upright_info.rotation) == (96, 64, 0)
    assert (turned.width, turned.height, turned.rotation) == (64, 96, 270)
    assert (turned.codec, turned.pixel_format) == ("h264", "yuv420p")
    assert upright_info.duration == 5
    assert upright_info.average_fps == pytest.approx(30)
    assert [upright_info.num_slots(fps) for fps in (0.01, 0.5, 0.7, 0.5001)] == [1, 3, 4, 3]


def test_a_track_outlasted_by_sound_keeps_its_own_duration(tmp_path: Path) -> None:
    brief = tuple(Fraction(frame, 30) for frame in range(30))
    path = write_video(tmp_path / "brief", Recipe(suffix=".mkv", times=brief, sound_seconds=8))
    shown = probe(path)
    with av.open(str(path)) as container:
        assert (container.duration or 0) > 7_900_000
    assert shown.duration == 1
    with pytest.raises(VideoError, match=r"end at 0\.400 s of 1\.000 s"):
        shown.require_whole(367, Fraction(4))
    shown.require_whole(467, Fraction(4))


def test_a_rate_above_the_videos_own_is_told(
    video: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    next(stream_frames(video["constant"], 30.1, size=SIDE))
    assert not caplog.messages
    next(stream_frames(video["constant"], 1000, size=SIDE))
    [told] = caplog.messages
    assert "1000 frames a second were asked for, but it has about 30, so frames repeat" in told


def test_rates_are_the_fractions_people_mean() -> None:
    assert exact_rate(0.1) == Fraction(1, 10)
    assert exact_rate(30_000 / 1001) == Fraction(30_000, 1001)
    assert exact_rate(1e-9) > 0
    for wrong in (0, -1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="above 0"):
            exact_rate(wrong)


class TestBadFiles:
    def reason(self, path: Path, decoder: DecoderChoice = "auto") -> str:
        with pytest.raises(VideoError) as caught:
            list(stream_frames(path, 1, decoder=decoder))
        assert str(path) in str(caught.value)
        return str(caught.value)

    def test_nothing_to_decode(self, tmp_path: Path) -> None:
        assert "no such file" in self.reason(tmp_path / "missing.mp4")
        assert "a folder, not a file; give the path of one video" in self.reason(tmp_path)
        (tmp_path / "empty.mp4").touch()
        assert "is empty" in self.reason(tmp_path / "empty.mp4")
        (tmp_path / "text.mp4").write_text("This is not a video.\n" * 1000)
        assert "Invalid data" in self.reason(tmp_path / "text.mp4")

    def test_sound_alone(self, tmp_path: Path) -> None:
        assert "streams: audio" in self.reason(write_audio(tmp_path / "sound.mp4"))
        assert "no video stream" in self.reason(write_audio(tmp_path / "cover.mp4", cover=True))

    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    def test_truncation(self, tmp_path: Path, decoder: DecoderChoice) -> None:
        faststart = Recipe(container_options={"movflags": "faststart"})
        path = write_video(tmp_path / "cut", faststart)
        os.truncate(path, path.stat().st_size // 2)
        # PyAV reads on to the packet that is cut in two; decord's table tells beforehand.
        assert re.search("truncated or damaged|Invalid data", self.reason(path, decoder))

        path = write_video(tmp_path / "cut", Recipe(suffix=".mkv"))
        os.truncate(path, path.stat().st_size // 2)
        assert "truncated or damaged" in self.reason(path, decoder)

        path = write_video(tmp_path / "headless", Recipe())
        os.truncate(path, path.stat().st_size // 2)
        assert "Invalid data" in self.reason(path, decoder)

    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    def test_corruption_never_means_fewer_frames(
        self, tmp_path: Path, decoder: DecoderChoice
    ) -> None:
        path = write_video(tmp_path / "noise", Recipe(suffix=".mkv"))
        content = bytearray(path.read_bytes())
        noise = np.random.default_rng(0).integers(0, 256, len(content) // 2, np.uint8)
        content[len(content) // 4 : len(content) // 4 + len(noise)] = noise.tobytes()
        path.write_bytes(content)
        self.reason(path, decoder)

    def test_a_hole_in_a_stream_is_damage(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "hole", Recipe(suffix=".ts"))
        content = path.read_bytes()
        fifth = len(content) // 5 // 188 * 188
        path.write_bytes(content[:fifth] + content[-fifth:])
        reason = self.reason(path)
        assert re.search(r"no pictures from [01]\.\d+ s to|picture at .* damaged", reason)

    def test_a_patched_picture_is_damage(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "patched", Recipe())
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 40] = np.random.default_rng(0).bytes(40)
        path.write_bytes(content)
        assert re.search("is damaged|Invalid data", self.reason(path, "pyav"))


def test_odd_names_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "plain", Recipe())
    monkeypatch.chdir(tmp_path)
    name = "plain.mp4"
    for odd in ("http:evil.mp4", "-v_x.mp4", "50%d ü.mp4"):
        os.rename(name, odd)
        name = odd
        for decoder in ("pyav", "auto" if decord_name() is None else "decord"):
            assert len(next(stream_frames(odd, 1, decoder=decoder))) == 5


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(VideoError, match="cannot be read"):
        file_sha256(tmp_path / "b")


@pytest.mark.parametrize(
    ("width", "height"), [(100, 60), (61, 101), (64, 64), (65, 64), (641, 359)]
)
def test_resize_keeps_proportion_and_centre(width: int, height: int) -> None:
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([rows * 255 // height, columns * 255 // width, rows * 0], -1).astype(np.uint8)
    result = resize_and_crop(rgb, 32)
    assert result.shape == (3, 32, 32)
    short, long = sorted((width, height))
    new = {short: 32, long: int(long * 32 / short)}
    whole = Image.fromarray(rgb).resize((new[width], new[height]), Image.Resampling.BICUBIC)
    left, top = (new[width] - 32) // 2, (new[height] - 32) // 2
    expected = np.asarray(whole)[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(result, expected.transpose(2, 0, 1))


def test_turns_by_angle() -> None:
    for degrees, turn in {0: 0, -90: 90, 180: 180, -180: 180, 90: 270, 89.5: 270}.items():
        orientation = Orientation.turned(degrees)
        assert orientation.rotation == turn
        assert not orientation.mirrored
        rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
        np.testing.assert_array_equal(orientation.apply(rgb), np.rot90(rgb, round(degrees / 90)))


def test_a_batch_is_checked() -> None:
    pixels, seconds = np.zeros((2, 3, 8, 8), np.uint8), np.array([0.0, 1.0])
    assert "frames 1 to 3 of 4" in repr(FrameBatch(pixels, seconds, 4.0, 1, 4, "x"))
    with pytest.raises(ConfigError, match="descend"):
        FrameBatch(pixels, seconds[::-1], 4.0, 1, 4, "x")
    with pytest.raises(ConfigError, match="frames 3 to 5 of a video of 4"):
        FrameBatch(pixels, seconds, 4.0, 3, 4, "x")
    with pytest.raises(ConfigError, match="duration"):
        FrameBatch(pixels, seconds, math.nan, 1, 4, "x")


def test_settings_are_checked(video: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must be one of auto, decord, pyav"):
        choices.require_decoder("ffmpeg")
    with pytest.raises(ConfigError, match="at least 1"):
        next(stream_frames(video["constant"], 1, window=0))
    for module in (choices, frames):
        monkeypatch.setattr(module, "decord_name", lambda: None)
    with pytest.raises(ConfigError, match="not installed"):
        next(stream_frames(video["constant"], 1, decoder="decord"))
    assert next(stream_frames(video["constant"], 1)).decoder.startswith("pyav")
