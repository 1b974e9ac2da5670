"""Which CLIP features were made with, by what a store or a run says, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from r2t.extract.clip.weights import Announce
from r2t.store.schema import FeatureSpec

if TYPE_CHECKING:
    import torch


@runtime_checkable
class MadeFeatures(Protocol):
    """Whatever says how its features were made: a `FeatureStore`, a `Grounder` trained on one."""

    @property
    def spec(self) -> FeatureSpec: ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was recorded beside the identity, "model" and "pretrained" among it."""
        ...


def _unannounced(source: str, num_bytes: int | None) -> None:
    """Say nothing of a download."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """How to load the CLIP of features: where else to look for it, and what it runs on.

    `model` and `pretrained` take the place of what the features record; `device` None takes a GPU
    if there is one. `announce` is called before a download, which `offline` forbids.
    """

    model: str | None = None
    pretrained: str | None = None
    device: str | torch.device | None = None
    offline: bool = False
    announce: Announce = _unannounced


@dataclass(frozen=True)
class ClipOrigin:
    """The identity of features, and where their CLIP is to be found.

    The identity proves which weights are the right ones, but only the provenance says where they
    are. Without it (`pretrained` None) the model's usual weights are taken.
    """

    spec: FeatureSpec
    model: str
    pretrained: str | None

    @classmethod
    def of(cls, features: FeatureSpec | MadeFeatures, options: ClipOptions) -> ClipOrigin:
        """Read what is recorded, or what the options give in its place."""
        if isinstance(features, FeatureSpec):
            spec, recorded = features, {}
        else:
            spec, recorded = features.spec, features.provenance
        name = options.model or recorded.get("model", spec.model)
        return cls(spec, str(name), options.pretrained or recorded.get("pretrained"))
