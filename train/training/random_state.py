"""The generators that dropout draws from, of every process of a run."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from r2t.train.training.processes import Processes


def save_random_state(device: torch.device, processes: Processes) -> dict[str, Tensor]:
    """Return the states of all processes, by rank and kind of device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    parts = processes.gather_bytes(safetensors.torch.save(state))
    return {
        f"{rank}/{kind}": tensor
        for rank, part in enumerate(parts)
        for kind, tensor in safetensors.torch.load(part).items()
    }


def load_random_state(
    state: Mapping[str, Tensor], device: torch.device, processes: Processes
) -> None:
    """Restore what `save_random_state` returned.

    A run resumed on other hardware, or a process that was not there, draws anew.
    """
    cpu, cuda = (state.get(f"{processes.rank}/{kind}") for kind in ("cpu", "cuda"))
    if cpu is not None:
        torch.set_rng_state(cpu)
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)
