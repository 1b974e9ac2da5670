"""Which files of a folder are its videos."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from r2t.extract.video.folder import find_videos
from r2t.store.errors import VideoError, VideoWarning


class TestFinding:
    def test_finds_videos_below_in_order(self, tmp_path: Path) -> None:
        for name in ("b.MP4", "a.mkv", "sub/c.webm", "notes.txt", ".hidden.mp4", ".git/d.mp4"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        found = [str(path.relative_to(tmp_path)) for path in find_videos(tmp_path)]
        assert found == ["a.mkv", "b.MP4", os.path.join("sub", "c.webm")]

    def test_one_stem_is_one_video(self, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        for name in ("a.mp4", "sub/a.mkv"):
            (tmp_path / name).touch()
        with pytest.raises(VideoError, match=r"a\.mp4 and .*a\.mkv would both be video 'a'"):
            find_videos(tmp_path)

    def test_nothing_found(self, tmp_path: Path) -> None:
        with pytest.raises(VideoError, match="holds no videos"):
            find_videos(tmp_path)
        with pytest.raises(VideoError, match="no such folder"):
            find_videos(tmp_path / "missing")

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
    def test_links_out_are_named_and_followed_if_asked_for(self, tmp_path: Path) -> None:
        inside, outside = tmp_path / "inside", tmp_path / "outside"
        inside.mkdir()
        (outside / "deep").mkdir(parents=True)
        (outside / "deep" / "d.mp4").touch()
        (outside / "deep" / "round").symlink_to(tmp_path)  # leads back to all of it
        (tmp_path / "secret.mp4").touch()
        (inside / "a.mp4").touch()
        (inside / "b.mp4").symlink_to(inside / "a.mp4")
        (inside / "c.mp4").symlink_to(tmp_path / "secret.mp4")
        (inside / "part").symlink_to(outside)
        (inside / "again").symlink_to(inside)
        with pytest.warns(
            VideoWarning, match=r"links that lead .*: .*inside/c\.mp4, .*inside/part"
        ):
            assert [path.name for path in find_videos(inside)] == ["a.mp4", "b.mp4"]
        followed = find_videos(inside, follow_links=True)
        names = [str(path.relative_to(inside)) for path in followed]
        assert names == ["a.mp4", "b.mp4", "c.mp4", "part/deep/d.mp4", "part/deep/round/secret.mp4"]
