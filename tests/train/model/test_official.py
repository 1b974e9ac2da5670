"""Reading and writing official checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.train.data.batch import Sample, collate
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.model.official import TEMPERATURE, from_official, load_official, to_official
from r2t.train.run.presets import PRESETS

CASES = ("qvh_tiny", "charades_tiny", "hd_tiny")


def official_state(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / name / "state_dict.safetensors")


@pytest.mark.parametrize("name", CASES)
def test_official_states_survive_the_round_trip(name: str, golden_folder: Path) -> None:
    state = official_state(golden_folder, name)
    back = to_official(from_official(state))
    assert set(back) == set(state)
    for key, tensor in state.items():
        torch.testing.assert_close(back[key], tensor, rtol=0, atol=1e-6, msg=key)


def test_every_parameter_of_every_preset_has_an_official_name(golden: Callable[..., Any]) -> None:
    for preset in PRESETS.values():
        model = R2Model(preset.train_config().model)
        state = to_official(model)
        case = "hd_tiny" if preset.highlights_only else "qvh_tiny"
        assert set(state) == {*golden(case).meta["param_names"], "loss._loss_sal.scale"}
        config = from_official(state).config
        assert config == R2Config(
            strides=model.config.strides,
            temporal_features=model.config.temporal_features,
            boundary_head=model.config.boundary_head,
        )


def one_layer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the official code saves of a model that sees the last layer alone."""
    names = [name for name in state if name != "adapter.gate"]
    return {name: state[name][-1:] if name == "adapter.scale" else state[name] for name in names}


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_one_layer_has_no_gate(
    name: str, golden_folder: Path, make_sample: Callable[..., Sample]
) -> None:
    state = one_layer(official_state(golden_folder, name))
    model = from_official(state).eval()
    assert (model.config.num_layers, model.state_dict()["block.recurrent_gate"].numel()) == (1, 0)
    back = to_official(model)
    assert set(back) == set(state)
    del back[TEMPERATURE], state[TEMPERATURE]
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())
    # Ours wrote an empty one once: that is read as well.
    again = from_official({**back, "adapter.gate": torch.zeros(0)})
    assert set(to_official(again)) == {*state, TEMPERATURE}
    sample = make_sample(6, 4)
    sample = replace(sample, video=sample.video[-1:], query=sample.query[-1:])
    assert model(collate([sample])).class_logits.isfinite().all()
    state["adapter.scale"] = torch.zeros(2)
    with pytest.raises(ConfigError, match=r"adapter\.gate is missing"):
        from_official(state)


@pytest.mark.parametrize("wrapped", [True, False])
def test_checkpoint_files_load(
    wrapped: bool, golden_folder: Path, tmp_path: Path, make_sample: Callable[..., Sample]
) -> None:
    state = official_state(golden_folder, "qvh_tiny")
    content = {"state_dict": state, "meta": {"epoch": 30, "iter": 6780}} if wrapped else state
    torch.save(content, tmp_path / "official.pth")
    model = load_official(tmp_path / "official.pth").eval()
    batch = collate([make_sample(6, 4)])
    expected = from_official(state).eval()(batch).class_logits
    assert torch.equal(model(batch).class_logits, expected)


def test_what_does_not_fit_is_refused_by_name(golden_folder: Path) -> None:
    state = official_state(golden_folder, "qvh_tiny")
    del state["pooling.att.weight"]
    state["adapter.lora.weight"] = torch.zeros(3)
    state["class_head.module.3.bias"] = torch.zeros(2)
    state["pyramid.blocks.3.11.weight"] = torch.zeros(32, 32, 3)
    with pytest.raises(ConfigError) as error:
        from_official(state)
    message = str(error.value)
    assert "adapter.lora.weight is unknown" in message
    assert "pooling.att.weight is missing" in message
    assert "class_head.module.3.bias is [2], not [1]" in message
    assert "pyramid.blocks.3.11.weight is [32, 32, 3], not [32, 32, 2]" in message


def test_a_boundary_head_in_part_is_refused(golden_folder: Path) -> None:
    state = official_state(golden_folder, "hd_tiny")
    state["coord_head.module.3.bias"] = torch.zeros(2)
    with pytest.raises(ConfigError, match=r"coord_head\.module\.3\.bias belongs to no part"):
        from_official(state)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"epoch": 3}}, path)
    with pytest.raises(ConfigError, match="holds no state dict"):
        load_official(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match=r"adapter.scale.*missing"):
        load_official(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigError, match="is no checkpoint, or holds more than tensors"):
        load_official(path)
    with pytest.raises(ConfigError, match=r"nowhere\.pth"):
        load_official(tmp_path / "nowhere.pth")


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("executed",))


def test_a_checkpoint_with_code_is_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "malicious.pth"
    torch.save({"state_dict": Malicious()}, path)
    with pytest.raises(ConfigError, match="is no checkpoint, or holds more than tensors"):
        load_official(path)
    assert capsys.readouterr().out == ""
