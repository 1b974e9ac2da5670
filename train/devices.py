"""Which processor a model runs on."""

from __future__ import annotations

import torch

from r2t.store.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return a device that works here; "auto" takes the first GPU, or the CPU without one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        found = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"device {name!r} cannot be used ({reason}); this machine has {', '.join(found)}"
        ) from error
    return device
