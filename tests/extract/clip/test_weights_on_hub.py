"""CLIP's weights from a hub: fetched once, continued where broken off, refused with a reason."""

from __future__ import annotations

import pytest
from hub_server import TOKEN, Hub, Repository

from r2t.extract.clip import weights
from r2t.store.errors import ConfigError

CONTENT = bytes(range(256)) * 64
NAME = "open_clip_model.safetensors"


@pytest.fixture
def source(hub: Hub) -> weights.WeightSource:
    """Weights at the hub, under the second of the names that they may have."""
    repository = hub.repositories["org/clip"] = Repository()
    repository.add({NAME: CONTENT})
    hub.keep(CONTENT)
    return weights.WeightSource("tag", "org/clip", ("absent.safetensors", NAME))


def test_weights_are_fetched_once(hub: Hub, source: weights.WeightSource) -> None:
    heard: list[tuple[str, int | None]] = []
    fetched = weights.fetch(source, offline=False, announce=lambda *call: heard.append(call))
    assert fetched.read_bytes() == CONTENT
    assert heard[-1] == (f"{hub.url}/org/clip/resolve/main/{NAME}", len(CONTENT))
    hub.requests.clear()
    assert weights.fetch(source, offline=True, announce=lambda *_: None) == fetched
    assert hub.requests == []
    assert set(hub.authorizations) == {"127.0.0.1"}


def test_a_download_that_breaks_off_goes_on(hub: Hub, source: weights.WeightSource) -> None:
    hub.cuts = 1
    fetched = weights.fetch(source, offline=False, announce=lambda *_: None)
    assert fetched.read_bytes() == CONTENT
    assert hub.count("GET", "/cdn/") == 2


def test_why_weights_cannot_be_had_is_said(hub: Hub, source: weights.WeightSource) -> None:
    hub.repository("org/clip").is_gated = True
    with pytest.raises(ConfigError, match=r"cannot fetch the weights 'tag'.*copy") as told:
        weights.fetch(source, offline=False, announce=lambda *_: None)
    assert TOKEN not in str(told.value)
