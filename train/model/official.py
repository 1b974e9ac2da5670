"""Read the official R²-Tuning checkpoints (.pth), and write their parameter names.

Names map through one table. What the official state has beyond parameters is the fixed temperature
of its saliency loss, a constant that is dropped on reading and restored on writing. A model of one
layer has no step to gate: the official state has no gate then, and ours an empty one.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r2t.store.errors import ConfigError
from r2t.store.files import require_plain
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model, expected_shapes

TEMPERATURE = "loss._loss_sal.scale"
GATE = "adapter.gate"
FEATURE_MAP = {
    "0": "input_norm",
    "2": "input_linear",
    "4": "output_norm",
    "6": "output_linear",
}
ATTENTION = {"q": "query", "k": "key", "v": "value", "m": "output"}
MODULES = {
    "coef": "level_scale",
    "adapter.scale": "block.pooled_gate",
    GATE: "block.recurrent_gate",
    "adapter.v_map": "block.pooling.patch_key",
    "adapter.q_map": "block.pooling.word_query",
    "adapter.tem.cross_att_norm": "block.refinement.cross_norm",
    "adapter.tem.self_att_norm": "block.refinement.self_norm",
    "adapter.tem.ffn.mapping.0": "block.refinement.expand",
    "adapter.tem.ffn.mapping.2": "block.refinement.contract",
    "adapter.tem.ffn_norm": "block.refinement.feed_forward_norm",
    "pooling.att": "word_pooling.score",
    "class_head.module.1": "class_head.hidden",
    "class_head.module.3": "class_head.output",
    "coord_head.module.1": "boundary_head.hidden",
    "coord_head.module.3": "boundary_head.output",
    **{
        f"adapter.{kind}_map.{old}": f"block.{kind}_map.{new}"
        for kind in ("video", "query")
        for old, new in FEATURE_MAP.items()
    },
    **{
        f"adapter.tem.{kind}_att.{old}": f"block.refinement.{kind}_attention.{new}"
        for kind in ("cross", "self")
        for old, new in ATTENTION.items()
    },
    # A level is a chain of [permute, conv, permute, norm, relu], counted through.
    **{
        f"pyramid.blocks.{level}.{5 * step + offset}": f"pyramid.levels.{level}.{step}.{new}"
        for level in range(1, 4)
        for step in range(level)
        for offset, new in ((1, "conv"), (3, "norm"))
    },
}
OFFICIAL_MODULES = {ours: official for official, ours in MODULES.items()}


def load_official(path: Path, *, num_heads: int = 8) -> R2Model:
    """Build the model that an official checkpoint holds, with its weights.

    Sizes are read off the shapes, except the number of heads, which leaves no trace in them.
    """
    _require_stored(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of files that are no checkpoints, the unpickler raises anything
        # PyTorch's own message is left out: it advises reading the file unsafely.
        raise ConfigError(
            f"{path} is no checkpoint, or holds more than tensors and plain values, which is not "
            "read because it could run code; give a .pth file of the official code"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(
            f"{path} holds no state dict; expected names to tensors, or these under 'state_dict'"
        )
    return from_official(state, num_heads=num_heads)


def _require_stored(path: Path) -> None:
    """Refuse an archive that holds more than its size: compressed, or with parts that overlap."""
    try:
        require_plain(path)
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{path} is a damaged archive: {error}; copy it again") from error
    total = sum(member.file_size for member in members)
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or total > path.stat().st_size:
        raise ConfigError(
            f"{path} unpacks to more bytes than it has, which no checkpoint written by PyTorch does"
        )


def from_official(state: Mapping[str, Tensor], *, num_heads: int = 8) -> R2Model:
    """Build a model from a state dict with official names, which must fit without remainder."""
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        if name == TEMPERATURE:
            continue
        ours = _rename(name, MODULES)
        if ours is None:
            unknown.append(name)
        else:
            renamed[ours] = tensor
    config = _infer_config(state, num_heads)
    if config.num_layers == 1:
        renamed.setdefault(MODULES[GATE], torch.zeros(0))
    expected = expected_shapes(config)
    problems = [f"{name} is unknown" for name in unknown]
    problems += [f"{to_official_name(name)} is missing" for name in expected if name not in renamed]
    for name, tensor in renamed.items():
        if name not in expected:
            problems.append(f"{to_official_name(name)} belongs to no part of the model")
        elif tuple(tensor.shape) != expected[name]:
            problems.append(
                f"{to_official_name(name)} is {list(tensor.shape)}, not {list(expected[name])}"
            )
        elif tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            problems.append(f"{to_official_name(name)} holds fewer numbers than its shape says")
    if problems:
        raise ConfigError("not an official R²-Tuning checkpoint: " + "; ".join(problems))
    model = R2Model(config)
    model.load_state_dict(renamed)
    return model


def to_official(model: R2Model, temperature: float = 0.07) -> dict[str, Tensor]:
    """Return the model's state under official names."""
    state = {to_official_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.config.num_layers == 1:
        del state[GATE]
    state[TEMPERATURE] = torch.tensor([math.log(1 / temperature)])
    return state


def to_official_name(name: str) -> str:
    """Return the official name of one of our parameters."""
    official = _rename(name, OFFICIAL_MODULES)
    assert official is not None, name
    return official


def _rename(name: str, modules: Mapping[str, str]) -> str | None:
    if name in modules:
        return modules[name]
    module, _, parameter = name.rpartition(".")
    return f"{modules[module]}.{parameter}" if module in modules else None


def _infer_config(state: Mapping[str, Any], num_heads: int) -> R2Config:
    """Read the sizes; every official model with a boundary head also has two time features."""
    needed = {
        "adapter.scale": 1,
        "coef": 1,
        "adapter.video_map.2.weight": 2,
        "adapter.query_map.2.weight": 2,
    }
    missing = [n for n, ndim in needed.items() if n not in state or state[n].ndim != ndim]
    if missing:
        raise ConfigError(
            f"not an official R²-Tuning checkpoint: {', '.join(missing)} missing or misshapen"
        )
    boundary_head = "coord_head.module.1.weight" in state
    width, video_width = state["adapter.video_map.2.weight"].shape
    return R2Config(
        num_layers=len(state["adapter.scale"]),
        vision_width=video_width - 2 if boundary_head else video_width,
        text_width=state["adapter.query_map.2.weight"].shape[1],
        width=width,
        num_heads=num_heads,
        strides=tuple(2**level for level in range(len(state["coef"]))),
        temporal_features=boundary_head,
        boundary_head=boundary_head,
    )
