"""An infinite gradient changes nothing, whatever the precision and whichever process has it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from r2t.train.run.config import TrainConfig
from r2t.train.run.presets import find_preset
from r2t.train.training.optimizer import Optimizer
from r2t.train.training.processes import ALONE, Processes

RATE = 1e-2


@pytest.fixture
def config() -> TrainConfig:
    return replace(find_preset("qvhighlights").train_config(), gradient_clip=0.5)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))


def loss_of(network: nn.Module, number: int) -> Tensor:
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
    return network(inputs).square().mean()


def everything(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return copies of the weights and of all that the optimizer remembers."""
    return copy.deepcopy({**network.state_dict(), **optimizer.state()})


@dataclass(frozen=True)
class WithAnother(Processes):
    """Another process, whose part of the first gradient holds `value`."""

    value: float = 0.0

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        first = next(iter(parameters)).grad
        assert first is not None
        first[0, 0] += self.value


@pytest.mark.parametrize("scaled_on", [None, "cpu"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("at", [0, 3])
def test_an_infinite_gradient_is_no_step(
    scaled_on: str | None, value: float, at: int, config: TrainConfig, network: nn.Module
) -> None:
    optimizer = Optimizer(network, config, scaled_on=scaled_on)
    for number in range(at):
        assert not optimizer.step(loss_of(network, number), RATE, ALONE).skipped
    before = everything(network, optimizer)
    update = optimizer.step(loss_of(network, at), RATE, WithAnother(value=value))
    assert update.skipped
    after = everything(network, optimizer)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(not tensor.any() for name, tensor in after.items() if name not in before)

    update = optimizer.step(loss_of(network, at), RATE, ALONE)
    assert not update.skipped
    assert update.norm > 0
    assert all(tensor.isfinite().all() for tensor in everything(network, optimizer).values())
    assert not torch.equal(network.state_dict()["0.weight"], before["0.weight"])


def test_an_overflow_lowers_the_scale_of_the_loss(config: TrainConfig, network: nn.Module) -> None:
    optimizer = Optimizer(network, config, scaled_on="cpu")
    scale = optimizer.scaler_state()["scale"]
    optimizer.step(loss_of(network, 0), RATE, WithAnother(value=float("inf")))
    assert optimizer.scaler_state()["scale"] == scale / 2
    assert Optimizer(network, config, scaled_on=None).scaler_state() == {}


@pytest.mark.parametrize("scaled_on", [None, "cpu"])
def test_it_is_adamw_with_clipping(
    scaled_on: str | None, config: TrainConfig, network: nn.Module
) -> None:
    twin = copy.deepcopy(network)
    plain = torch.optim.AdamW(twin.parameters(), lr=RATE, weight_decay=config.weight_decay)
    optimizer = Optimizer(network, config, scaled_on=scaled_on)
    for number in range(5):
        update = optimizer.step(loss_of(network, number), RATE, ALONE)
        plain.zero_grad()
        loss_of(twin, number).backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), config.gradient_clip)
        plain.step()
        torch.testing.assert_close(update.norm, norm)
    torch.testing.assert_close(network.state_dict(), twin.state_dict())
