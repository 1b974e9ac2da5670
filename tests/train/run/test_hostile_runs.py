"""Run folders and checkpoints from elsewhere: bounds before memory, and plain files alone."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_config import tiny_config
from toy_store import make_store

from r2t.store.datasets.registry import read_annotations
from r2t.store.errors import AnnotationError, ConfigError
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model, expected_shapes
from r2t.train.model.official import from_official, load_official, to_official
from r2t.train.run import run_folder
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    store = make_store(tmp_path / "feats.zarr", num_videos=2)
    config = tiny_config(store)
    folder = RunFolder(tmp_path / "run")
    folder.claim(config, TrainedOn(identity=store.spec), resume=False)
    folder.save_weights("best", R2Model(config.model))
    return folder


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("width", 40_000, r"best\.safetensors does not fit .*config\.json: block\."),
        ("vision_width", 60_000, "does not fit"),
        ("width", 10**9, "width = 1000000000: must be from 1 to 65536"),
        ("num_layers", 10**9, "num_layers = 1000000000: must be from 1 to 256"),
        ("strides", [2**level for level in range(4000)], "4000 levels; the limit is 16"),
    ],
)
def test_sizes_are_refused_before_a_model_is_built(
    name: str, value: object, message: str, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((run.path / "config.json").read_text())
    content["config"]["model"][name] = value
    (run.path / "config.json").write_text(json.dumps(content))

    def built(_: R2Config) -> R2Model:
        raise AssertionError("memory was taken for weights that do not fit")

    monkeypatch.setattr(run_folder, "R2Model", built)
    with pytest.raises(ConfigError, match=message):
        run.load_model()


def test_expected_shapes_are_those_of_the_model() -> None:
    config = R2Config(num_layers=2, vision_width=16, text_width=8, width=16, num_heads=2)
    state = R2Model(config).state_dict()
    assert expected_shapes(config) == {name: tuple(each.shape) for name, each in state.items()}


def test_a_pipe_is_refused_instead_of_waited_for(run: RunFolder, tmp_path: Path) -> None:
    weights, config = run.path / "best.safetensors", run.path / "config.json"
    for path in (weights, config):
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(ConfigError, match="no plain file"):
            run.load_model()
    os.mkfifo(tmp_path / "train.csv")
    os.mkfifo(tmp_path / "official.pth")

    def refused() -> None:
        with pytest.raises(AnnotationError, match="no plain file"):
            read_annotations(tmp_path / "train.csv")
        with pytest.raises(ConfigError, match="no plain file"):
            load_official(tmp_path / "official.pth")

    thread = threading.Thread(target=refused, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_a_checkpoint_that_is_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    state = to_official(R2Model(R2Config(vision_width=16, text_width=8, width=16, num_heads=2)))
    torch.save(state, tmp_path / "sound.pth")
    assert load_official(tmp_path / "sound.pth", num_heads=2).config.width == 16
    with (
        zipfile.ZipFile(tmp_path / "sound.pth") as sound,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in sound.namelist():
            bomb.writestr(name, sound.read(name))
    with pytest.raises(ConfigError, match="unpacks to more bytes than it has"):
        load_official(tmp_path / "bomb.pth", num_heads=2)
    stretched = {name: torch.zeros(1).expand(each.shape) for name, each in state.items()}
    with pytest.raises(ConfigError, match="holds fewer numbers than its shape says"):
        from_official(stretched, num_heads=2)
