"""Which CLIP features were made with, by what a store or a run says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from r2t.store.schema import FeatureSpec


@runtime_checkable
class MadeFeatures(Protocol):
    """Whatever says how its features were made: a `FeatureStore`, a `Grounder` trained on one."""

    @property
    def spec(self) -> FeatureSpec: ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was recorded beside the identity, "model" and "pretrained" among it."""
        ...


@dataclass(frozen=True)
class ClipOrigin:
    """The identity of features, and where their CLIP is to be found.

    The identity proves which weights are the right ones, but only the provenance says where they
    are. Without it (`pretrained` None) they are the model's natural weights.
    """

    spec: FeatureSpec
    model: str
    pretrained: str | None

    @classmethod
    def of(
        cls, features: FeatureSpec | MadeFeatures, model: str | None, pretrained: str | None
    ) -> ClipOrigin:
        """Read what is recorded; `model` and `pretrained` take its place where they are given."""
        if isinstance(features, FeatureSpec):
            spec, recorded = features, {}
        else:
            spec, recorded = features.spec, features.provenance
        name = model or recorded.get("model", spec.model)
        return cls(spec, str(name), pretrained or recorded.get("pretrained"))
