"""What a run remembers of its features: written as ever, and checked when it is read."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from toy_store import make_store

from r2t.store.errors import ConfigError
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import ImportedWeights, InitialWeights, TrainedOn

SHIPPED = Path(str(files("r2t.extract.demo"))) / "run"


def test_the_shipped_run_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    shutil.copyfile(SHIPPED / "config.json", tmp_path / "config.json")
    folder = RunFolder(tmp_path)
    config, trained_on = folder.load_config()
    assert trained_on.num_train_queries == 3000
    assert trained_on.held_out_videos == ()
    assert trained_on.initial is None
    assert folder.load_spec().weights_sha256.startswith("12c8e193")
    folder.save_config(config, trained_on)
    assert (tmp_path / "config.json").read_bytes() == (SHIPPED / "config.json").read_bytes()


def test_all_that_is_known_is_written_in_one_order_and_read_again(tmp_path: Path) -> None:
    known = TrainedOn(
        store="feats.zarr",
        content="sha256:1",
        identity=make_store(tmp_path / "feats.zarr", num_videos=1).spec,
        provenance={"by": "a test"},
        num_train_queries=8,
        num_val_queries=0,
        queries="sha256:2",
        longest_num_frames=12,
        held_out_videos=("a", "b"),
        initial=InitialWeights("runs/first", "3"),
        longest_whole_num_frames=40,
        imported=ImportedWeights("official.pth", "4"),
    )
    written = json.loads(json.dumps(known.to_dict()))
    assert list(written) == [
        *("store", "content", "identity", "provenance", "num_train_queries", "num_val_queries"),
        *("queries", "longest_num_frames", "held_out_videos", "initial"),
        *("longest_whole_num_frames", "imported"),
    ]
    assert written["initial"] == {"run": "runs/first", "sha256": "3"}
    assert TrainedOn.from_dict({**written, "of another version": 1}) == known
    assert TrainedOn.from_dict({}) == TrainedOn()
    assert TrainedOn().to_dict() == {}


def test_where_features_lay_does_not_keep_a_run_from_being_resumed() -> None:
    here = TrainedOn(store="a", content="c", provenance={}, initial=InitialWeights("x", "digest"))
    there = TrainedOn(store="b", content="c", initial=InitialWeights("y", "digest"))
    assert here.lasting() == there.lasting() == {"content": "c", "initial": "digest"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(("longest_num_frames", value, "not a count") for value in (0, 1.5, True, "many")),
        ("longest_whole_num_frames", -1, "not a count of frames"),
        ("num_val_queries", None, "not a count"),
        ("store", 7, "not a text"),
        ("identity", {"model": "x"}, "feature store: the identity of the features lacks"),
        ("identity", [], "not the identity"),
        ("provenance", "a folder", "not a record"),
        ("held_out_videos", "v0", "not a list of video ids"),
        ("held_out_videos", [0], "not a list of video ids"),
        ("initial", {"run": "runs/x"}, "not a run and the SHA-256 of its weights"),
        ("imported", ["x.pth"], "not a file's name and its SHA-256"),
    ],
)
def test_a_damaged_record_is_refused_by_the_name_of_its_field(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"trained_on\.{name} = .*{message}"):
        TrainedOn.from_dict({name: value})


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    content = json.loads((SHIPPED / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "trained_on": []}))
    with pytest.raises(ConfigError, match="trained_on is no record; give another"):
        RunFolder(tmp_path).load_config()
