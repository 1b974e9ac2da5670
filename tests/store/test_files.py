from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from features import full_disk

from r2t.store.errors import StoreError
from r2t.store.files import appearing, commit_folder, explain, write_whole

_REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EIO, errno.EMFILE),
)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_whole(path, "good")
    with full_disk(), pytest.raises(OSError, match="File too large") as raised:
        write_whole(path, "x" * 5000)
    assert raised.value.filename == str(path)
    assert path.read_text() == "good"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_disk_that_fails_to_flush_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    write_whole(path, b"old")

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space") as raised:
        write_whole(path, b"new")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights"]


def _finished(tmp_path: Path) -> Path:
    folder = tmp_path / "finished"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text("whole")
    return folder


def test_a_folder_is_flushed_from_the_inside_and_then_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target, done = _finished(tmp_path), tmp_path / "target", list[str]()
    fsync, rename = os.fsync, os.rename

    def note_flush(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_rename(source: Path, place: Path) -> None:
        done.append("renamed")
        rename(source, place)

    monkeypatch.setattr("os.fsync", note_flush)
    monkeypatch.setattr("os.rename", note_rename)
    commit_folder(folder, target)
    assert done == ["file", "inner", "finished", "renamed"]
    assert (target / "inner" / "file").read_text() == "whole"
    assert not folder.exists()


def test_a_folder_takes_no_other_ones_place(tmp_path: Path) -> None:
    folder, target = _finished(tmp_path), tmp_path / "target"
    target.mkdir()
    (target / "theirs").touch()
    with pytest.raises(OSError, match="not empty"):
        commit_folder(folder, target)
    assert folder.is_dir()
    assert os.listdir(target) == ["theirs"]


def test_a_disk_that_renamed_and_reports_an_error_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = _finished(tmp_path), tmp_path / "target"
    rename = os.rename

    def rename_twice(source: Path, place: Path) -> None:
        rename(source, place)
        rename(source, place)

    monkeypatch.setattr("os.rename", rename_twice)
    commit_folder(folder, target)
    assert (target / "inner" / "file").read_text() == "whole"


def test_an_error_of_the_writer_leaves_the_old_file_and_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_whole(path, "good")

    def write() -> None:
        with appearing(path) as unfinished:
            assert unfinished.suffix == ".mp4"
            unfinished.write_text("half")
            raise StoreError("no video")

    with pytest.raises(StoreError, match="no video") as raised:
        write()
    assert raised.value.filename is None
    assert path.read_text() == "good"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_a_replaced_file_hands_on_its_permissions_and_its_links(tmp_path: Path) -> None:
    path = tmp_path / "real.json"
    write_whole(path, "one")
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    write_whole(link, "two")
    assert link.is_symlink()
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_is_no_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "through")
    reader.join()
    assert found == ["through"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["", "folder", "file/below", "missing/below", "x" * 300])
def test_a_place_that_cannot_be_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / name
    with pytest.raises(OSError, match=r".") as raised:
        write_whole(path, "content")
    words = explain(raised.value)
    assert str(path) in words
    assert any(advice in words for advice in ("give", "choose", "check"))
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_every_refusal_of_a_disk_has_its_advice() -> None:
    for code in _REFUSALS:
        words = explain(OSError(code, os.strerror(code), "/media/out"))
        assert "/media/out" in words
        assert len(words) > len("/media/out") + 30
    assert explain(OSError(errno.ENXIO, "No such device", "/dev/x")) == "/dev/x: No such device"
