"""A function is compiled where torch can; where it cannot, it runs as it is and says so."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from r2t.store.errors import RunWarning
from r2t.train.model import looks
from r2t.train.model.compiling import Compiled


def scaled(values: tuple[Tensor, Tensor | None], weight: Tensor, rate: float) -> tuple[Tensor, ...]:
    kept = torch.empty_like(values[0]).bernoulli_(1 - rate)
    return values[0] * kept * weight, weight.sum()


def gradients(function: Any, rate: float = 0.0) -> list[Tensor]:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5))
    upstream = torch.randn(3, 5, requires_grad=True)
    product, total = function((2 * upstream, None), weight, rate)
    (product.square().sum() + total).backward()
    assert weight.grad is not None
    assert upstream.grad is not None
    return [product.detach(), weight.grad, upstream.grad]


def test_what_is_compiled_is_the_function_with_its_gradients() -> None:
    torch.compiler.reset()
    compiled = Compiled(scaled, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RunWarning)
        for rate in (0.0, 0.5):  # the trial of the first call draws nothing that is drawn again
            pairs = zip(gradients(compiled, rate), gradients(scaled, rate), strict=True)
            assert all(torch.equal(ours, expected) for ours, expected in pairs)
    assert not compiled.failed


def refuse(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no C compiler\nwas found")


def refuse_gradients(graph: Any, inputs: Any) -> Any:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Tensor) -> Tensor:
            return values.clone()

        @staticmethod
        def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
            raise RuntimeError("no C compiler was found")

    return lambda *given: tuple(Broken.apply(each) for each in graph(*given))


@pytest.mark.parametrize("backend", [refuse, refuse_gradients])
def test_without_a_compiler_the_function_runs_as_it_is(backend: Any) -> None:
    torch.compiler.reset()
    compiled = Compiled(scaled, backend=backend)
    with pytest.warns(RunWarning, match="cannot compile .*no C compiler was found") as said:
        found = [gradients(compiled, 0.5) for _ in range(2)]
    assert len(said) == 1
    assert compiled.failed
    for ours in found:
        assert all(map(torch.equal, ours, gradients(scaled, 0.5)))


def test_want_of_memory_is_not_the_compilers() -> None:
    def full(*inputs: Any) -> tuple[Tensor, ...]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    compiled = Compiled(scaled)
    compiled._compiled = full
    with pytest.raises(torch.OutOfMemoryError):
        gradients(compiled)
    assert not compiled.failed


def test_a_cpu_compiles_nothing() -> None:
    assert looks._COMPILED._compiled is None
