"""How many decoders an extraction starts by itself."""

from __future__ import annotations

import pytest

from r2t.extract import config
from r2t.extract.config import default_num_workers, share_of_machine

GB = 10**9


@pytest.mark.parametrize(
    ("cores", "free_bytes", "alone", "of_four"),
    [
        (1, 64 * GB, 1, 1),
        (2, 64 * GB, 1, 1),
        (16, 64 * GB, 15, 4),
        (200, 1000 * GB, 199, 50),
        (200, None, 199, 50),  # where the system does not tell
        (200, 32 * GB, 32, 8),
        (200, GB // 10, 1, 1),
    ],
)
def test_decoders_are_as_many_as_cores_and_memory_serve(
    cores: int,
    free_bytes: int | None,
    alone: int,
    of_four: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config, "allowed_cores", lambda: cores)
    monkeypatch.setattr(config, "available_bytes", lambda: free_bytes)
    assert default_num_workers() == alone
    assert share_of_machine(4) == of_four
