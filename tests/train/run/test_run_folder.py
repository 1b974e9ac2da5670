"""A run's folder: who may write into it, and what it remembers of the features."""

from __future__ import annotations

import errno
import fcntl
import shutil
from pathlib import Path

import pytest
from tiny_config import tiny_config
from toy_store import make_store

from r2t.store import FeatureStore
from r2t.store.errors import ConfigError, RunWarning
from r2t.store.work_folders import exclusive
from r2t.train.run.exclusive_folder import held_folder, reserved_folder
from r2t.train.run.run_folder import RunFolder
from r2t.train.training.execution import Execution
from r2t.train.training.fit import split_annotations, train_model

RESUME = Execution(resume=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, Path]:
    folder = tmp_path_factory.mktemp("trained")
    store = make_store(folder / "feats.zarr", num_videos=4)
    train_model(tiny_config(store, epochs=1), store, split_annotations(store), folder / "run")
    return store, folder / "run"


def test_a_second_training_in_one_folder_is_refused(
    trained: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    store, _ = trained
    config, splits = tiny_config(store, epochs=1), split_annotations(store)
    (tmp_path / "run").mkdir()
    with exclusive(tmp_path / "run") as locked:
        assert locked
        with pytest.raises(ConfigError, match=r"another training is writing into .*/run: wait"):
            train_model(config, store, splits, tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
    train_model(config, store, splits, tmp_path / "run")


def test_where_the_disk_has_no_locks_that_is_said(
    trained: tuple[FeatureStore, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with (
        pytest.warns(RunWarning, match="does not support locks: make sure that no other training"),
        held_folder(tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    trained: tuple[FeatureStore, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = trained
    config, splits = tiny_config(store, epochs=1), split_annotations(store)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=r"cannot write into .*; give another folder"):
            train_model(config, store, splits, place)

    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(ConfigError, match="Read-only file system"):
        train_model(config, store, splits, tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    with reserved_folder(parent, "now") as first, reserved_folder(parent, "now") as second:
        (second / "config.json").write_text("{}")
    assert (first.name, second.name) == ("now", "now-2")
    assert list(parent.iterdir()) == [second]
    with reserved_folder(tmp_path / "other", "now"):
        pass
    assert not (tmp_path / "other").exists()
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(ConfigError, match="cannot make"),
        reserved_folder(tmp_path / "taken", "now"),
    ):
        pass


def test_a_run_goes_on_wherever_its_store_is_now(
    trained: tuple[FeatureStore, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = trained
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(store.location, tmp_path / "moved.zarr")
    monkeypatch.chdir(tmp_path)
    moved = FeatureStore.open("moved.zarr")
    config, splits = tiny_config(moved, epochs=2), split_annotations(moved)
    folder = train_model(config, moved, splits, Path("run"), execution=RESUME)
    assert [record["epoch"] for record in folder.metrics()] == [0, 1]
    assert folder.load_config()[1].store == "moved.zarr"
    other = make_store(tmp_path / "other.zarr", num_videos=4, seed=1)
    with pytest.raises(ConfigError, match=r"other\.zarr now: 4 videos changed \(v0, "):
        train_model(config, other, split_annotations(other), Path("run"), execution=RESUME)


def test_a_run_does_not_go_on_with_other_queries(
    trained: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    store, run = trained
    shutil.copytree(run, tmp_path / "run")
    splits = split_annotations(store)
    swapped = type(splits)(splits.val, splits.train[:2], held_out=False)
    fewer = type(splits)(splits.train[2:], splits.val, held_out=False)
    for changed in (swapped, fewer):
        with pytest.raises(ConfigError, match=r"trained_on\.queries"):
            train_model(
                tiny_config(store, epochs=2), store, changed, tmp_path / "run", execution=RESUME
            )


def test_a_fine_tuned_run_goes_on_without_the_run_it_began_with(
    trained: tuple[FeatureStore, Path], tmp_path: Path
) -> None:
    store, run = trained
    shutil.copytree(run, tmp_path / "first")
    splits = split_annotations(store)
    tuned = tmp_path / "tuned"
    train_model(tiny_config(store, epochs=1), store, splits, tuned, initial=tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "renamed")
    for number, initial in enumerate((None, tmp_path / "renamed", tmp_path / "first"), start=2):
        config = tiny_config(store, epochs=number)
        train_model(config, store, splits, tuned, initial=initial, execution=RESUME)
    assert len(RunFolder(tuned).metrics()) == 4
    config = tiny_config(store, epochs=5)
    with pytest.raises(ConfigError, match=r"began with the weights of .*first, which are"):
        train_model(config, store, splits, tuned, initial=tuned, execution=RESUME)
    plain = tmp_path / "renamed"
    with pytest.raises(ConfigError, match="began with random weights, which are not those of"):
        train_model(config, store, splits, plain, initial=tuned, execution=RESUME)
