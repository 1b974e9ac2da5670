"""Which look is taken where, and what a step asks of a GPU, on tensors that claim to be on one."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable

import pytest
import torch
from fake_gpu import GPU, fake_gpu
from packaging.version import Version
from step_costs import Step, counted, fake_batch

from r2t.store.errors import ConfigError, RunWarning
from r2t.train.data.batch import Sample, collate
from r2t.train.model import looks
from r2t.train.model.config import R2Config
from r2t.train.model.looks import Looks, MakeLook
from r2t.train.model.padding import Extents
from r2t.train.model.r2_block import Look
from r2t.train.model.reference_look import ReferenceLook
from r2t.train.model.tiled_look import TiledLook
from r2t.train.model.whole_look import WholeLook
from r2t.train.training.execution import Execution

SMALL = Step(size=4, frames=10, tokens=6, words=3)
on_a_fake_gpu = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.10"),
    reason="before torch 2.10 a tensor that claims to be on a GPU needs its driver",
)


def taken(choose: MakeLook, step: Step = SMALL) -> Look:
    """Return the look for a batch on a GPU."""
    with fake_gpu([step.owners, [1], [1]]), step.autocast():
        batch = fake_batch(step)
        return choose(step.config.model, batch, Extents.independent(batch))


@pytest.fixture
def gpu_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Say how much of a GPU's memory is free, in GB."""

    def free(gigabytes: float) -> None:
        monkeypatch.setattr(looks, "free_gpu_bytes", lambda device: int(gigabytes * 1e9))

    return free


@on_a_fake_gpu
def test_a_gpu_looks_at_a_whole_batch_if_it_has_the_memory(
    gpu_memory: Callable[[float], None],
) -> None:
    choose = Looks()
    gpu_memory(80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look = taken(choose, Step())
    assert isinstance(look, WholeLook)
    assert look.compiled is looks._COMPILED
    assert choose.used() == "whole, compiled"
    assert choose.used() is None
    assert copy.deepcopy(choose) is choose
    with torch.no_grad():  # an answer is not worth a minute of a compiler
        look = taken(choose)
    assert isinstance(look, WholeLook)
    assert look.compiled is None


@on_a_fake_gpu
def test_a_gpu_with_too_little_memory_takes_tiles_and_says_so_once(
    gpu_memory: Callable[[float], None],
) -> None:
    choose = Looks()
    gpu_memory(16)
    with pytest.warns(RunWarning, match=r"128 queries at once takes 15\.9 GB, .* 16\.0 GB"):
        assert isinstance(taken(choose, Step()), TiledLook)
    assert isinstance(taken(choose, Step()), TiledLook)  # a second warning would be an error
    gpu_memory(1000)  # what was free at first counts, so that a batch is looked at the same again
    assert isinstance(taken(choose, Step()), TiledLook)
    assert isinstance(taken(choose), WholeLook)
    assert choose.used() == "tiled and whole, compiled"


def test_a_cpu_takes_tiles_unless_told_otherwise(
    tiny_config: R2Config, make_sample: Callable[..., Sample]
) -> None:
    batch = collate([make_sample(5, 3)])
    kinds = {"auto": TiledLook, "tiled": TiledLook, "reference": ReferenceLook, "whole": WholeLook}
    for name, kind in kinds.items():
        choose = Looks(name)  # type: ignore[arg-type]
        look = choose(tiny_config, batch, Extents.independent(batch))
        assert isinstance(look, kind)
        assert choose.used() == kind.__name__.removesuffix("Look").lower()
        if isinstance(look, WholeLook):
            assert look.compiled is None


def test_a_name_that_is_none_is_refused() -> None:
    unchecked = inspect.unwrap(Looks.__init__)  # which the tests hold against its signature
    with pytest.raises(ConfigError, match=r"'wide': must be one of auto, reference, tiled, whole"):
        unchecked(Looks(), "wide")
    assert Execution().look == "auto"


@on_a_fake_gpu
def test_the_host_waits_in_tiles_as_often_as_documented() -> None:
    waits = counted(TiledLook, SMALL, num_steps=1).waits
    places = {place.partition(":")[0] for place in waits}
    assert places == {"tiled_look.py", "spatial_pooling.py"}
    assert sum(waits.values()) == 3


@on_a_fake_gpu
def test_a_wait_is_seen() -> None:
    with fake_gpu() as counts:
        lengths = torch.zeros(3, device=GPU)
        lengths.to("cpu", non_blocking=True)
        assert not counts.waits
        lengths.cpu()
        with pytest.raises(Exception, match="nonzero"):
            lengths.nonzero()
        with pytest.raises(Exception, match="local_scalar"):
            lengths.sum().item()
    assert sum(counts.waits.values()) == 3


@on_a_fake_gpu
@pytest.mark.parametrize(
    "step", [Step(stored=torch.int8, sharing=2), Step(computed=None)], ids=["mixed", "float32"]
)
def test_a_whole_look_waits_for_nothing_and_needs_the_memory_that_is_estimated(step: Step) -> None:
    counts = counted(WholeLook, step, num_steps=1)
    assert not counts.waits
    with fake_gpu(), step.autocast():
        needed = WholeLook.bytes_needed(step.config.model, fake_batch(step))
    assert looks._SHARE_OF_MEMORY < needed / counts.peak_bytes < 1 / looks._SHARE_OF_MEMORY
