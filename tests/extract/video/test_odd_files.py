"""The files of `benchmarks/odd_videos.py` show what they were written to show."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from odd_videos import ODD_VIDEOS, OddVideo

from r2t.extract.video.frames import stream_frames
from r2t.store.errors import VideoError


def named(file_name: str) -> OddVideo:
    return next(video for video in ODD_VIDEOS if video.file_name == file_name)


def test_what_is_right_follows_from_the_times() -> None:
    recordings = named("two-recordings.ts")
    indices = recordings.right(Fraction(1))
    assert indices == [7, 22, 37, 52, 67, 82, 97, 112]
    assert [recordings.numbers[index] for index in indices] == [7, 22, 37, 52] * 2
    assert named("a-picture-each-5-s.ts").right(Fraction(1, 5)) == [0, 1, 2, 3]
    assert named("pictures-after-sound.ts").right(Fraction(1)) == [0, 0, 0, 1, 5, 9, 13, 17]


def test_a_list_of_other_files_is_no_video(tmp_path: Path) -> None:
    path = named("two-recordings.ts").make(tmp_path)
    (tmp_path / "dog.mp4").write_text(f"ffconcat version 1.0\nfile {path.name}\n")
    with pytest.raises(VideoError, match=r"dog\.mp4: it is a list of other files \(concat\)"):
        next(stream_frames(tmp_path / "dog.mp4", Fraction(1), size=64))


@pytest.mark.parametrize("video", ODD_VIDEOS, ids=lambda video: video.file_name)
def test_the_pictures_written_are_sampled(tmp_path: Path, video: OddVideo) -> None:
    path = video.make(tmp_path)
    for fps in (Fraction(1, 2), Fraction(2)):
        batches = stream_frames(path, fps, size=64)
        pictures = [picture for batch in batches for picture in batch.pixels]
        assert [
            video.shows(picture, index)
            for picture, index in zip(pictures, video.right(fps), strict=True)
        ] == [True] * len(pictures)
