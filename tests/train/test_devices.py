"""A GPU computes in full what it is asked for, and the same bits every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny_config import undisturbed_config
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from toy_store import make_store

from r2t.train.choices import Precision
from r2t.train.data.batch import Sample, collate
from r2t.train.devices import mixed_dtype
from r2t.train.grounding.grounder import Grounder
from r2t.train.model.config import R2Config
from r2t.train.model.looks import MakeLook, choose_look
from r2t.train.model.losses import LossConfig, compute_losses
from r2t.train.model.model import R2Model
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.whole_look import WholeLook
from r2t.train.run.presets import find_preset
from r2t.train.training.execution import Execution
from r2t.train.training.fit import split_annotations, train_model
from r2t.train.training.optimizer import Optimizer
from r2t.train.training.processes import ALONE

FLAGS = (
    (torch.backends.cuda.matmul, "allow_tf32"),
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "deterministic"),
)
WAITING = (
    "tolist", "item", "nonzero", "argwhere", "masked_select", "unique", "equal", "allclose",
    "__bool__", "__int__", "__float__", "__index__", "__contains__", "cpu", "numpy",
)  # fmt: skip
EXACT = (False, False, False, False, False, True)
TF32 = (True, True, *EXACT[2:])
# What adds up in any order on a GPU, as torch's notes on reproducibility have it.
UNORDERED = (
    "nll_loss2d", "index_add", "scatter_add", "scatter_reduce", "cumsum", "histc", "bincount",
    "put", "kthvalue", "median", "adaptive", "max_pool", "reflection_pad", "replication_pad",
    "upsample", "grid_sampler", "ctc_loss", "embedding", "_scaled_dot_product_efficient",
)  # fmt: skip


def arithmetic() -> tuple[bool, ...]:
    return tuple(getattr(place, name) for place, name in FLAGS)


@pytest.fixture(autouse=True)
def inexact() -> Iterator[None]:
    """Let torch compute as inexactly as it can, until the test is over."""
    before = arithmetic()
    for (place, name), exact in zip(FLAGS, EXACT, strict=True):
        setattr(place, name, not exact)
    yield
    for (place, name), value in zip(FLAGS, before, strict=True):
        setattr(place, name, value)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_float32_is_float32_unless_tf32_is_asked_for(precision: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    config = replace(undisturbed_config(store), epochs=1, precision=precision)
    seen: set[tuple[bool, ...]] = set()
    execution = Execution(on_step=lambda done, total: seen.add(arithmetic()))
    train_model(config, store, split_annotations(store), tmp_path / "run", execution=execution)
    assert seen == {TF32 if precision == "tf32" else EXACT}
    assert Grounder.load(tmp_path / "run").config.precision == precision
    assert arithmetic() == EXACT


def test_a_cpu_takes_bfloat16_where_it_has_it_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert mixed_dtype(cpu, "bfloat16") == (torch.bfloat16 if has else None)
        for precision in ("float32", "tf32", "float16"):
            assert mixed_dtype(cpu, precision) is None
    assert mixed_dtype(gpu, "float16") == torch.float16
    assert mixed_dtype(gpu, "bfloat16") == torch.bfloat16
    assert mixed_dtype(gpu, "tf32") is None


class Operations(TorchDispatchMode):
    """The names of the operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """The calls for which the host would wait until a GPU has done all that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        copies = name in ("tensor", "as_tensor") and kwargs.get("device") is not None
        if name in WAITING or copies:
            self.names.append(name)
        return func(*args, **kwargs)


@pytest.mark.parametrize(
    ("make_look", "waits"),
    [(choose_look, 3 * ["tolist"]), (ReferenceLook, []), (WholeLook, [])],
)
def test_a_step_waits_for_the_device_as_often_as_documented(
    make_look: MakeLook,
    waits: list[str],
    tiny_config: R2Config,
    make_sample: Callable[..., Sample],
) -> None:
    config = replace(find_preset("qvhighlights").train_config(), model=tiny_config)
    model = R2Model(tiny_config, make_look).train()
    optimizer = Optimizer(model, config, scaled_on="cpu")
    batch = collate([make_sample(6 + seed, 3 + seed % 3, seed=seed) for seed in range(6)])
    assert batch.targets is not None
    with Waits() as waited:
        losses = compute_losses(model(batch), batch.targets, LossConfig())
        optimizer.step(losses.total, 1e-4, ALONE)
    assert waited.names == waits


@pytest.mark.parametrize("make_look", [choose_look, ReferenceLook, WholeLook])
def test_a_step_adds_nothing_up_in_any_order(
    make_look: MakeLook, tiny_config: R2Config, make_sample: Callable[..., Sample]
) -> None:
    model = R2Model(replace(tiny_config, dropout=0.5), make_look).train()
    batch = collate([make_sample(6 + seed, 3 + seed % 3, seed=seed) for seed in range(6)])
    assert batch.targets is not None
    with Operations() as called:
        compute_losses(model(batch), batch.targets, LossConfig()).total.backward()
    assert "convolution_backward" in called.names
    assert [name for name in called.names if name.startswith(UNORDERED)] == []
