"""Whether a trained model understands given features."""

from __future__ import annotations

import warnings
from dataclasses import replace

from r2t.store.errors import FeatureWarning
from r2t.store.schema import OPTIONS, UNKNOWN_WEIGHTS, FeatureSpec

# A model's name says less than the digest of its weights, and the others change numbers slightly.
TOLERATED_FIELDS = ("model", "sampling", "resize", "dtype")


def require_compatible(
    trained: FeatureSpec, given: FeatureSpec, *, action: str, names: tuple[object, object]
) -> None:
    """Raise `SpecMismatchError` if `given` features mean something else than those trained on.

    What changes their numbers only slightly is a `FeatureWarning` instead, and so are weights
    without a digest: the released features and checkpoints have none.
    """
    unknown = UNKNOWN_WEIGHTS in (trained.weights_sha256, given.weights_sha256)
    tolerated = (*TOLERATED_FIELDS, "weights_sha256") if unknown else TOLERATED_FIELDS
    for name in tolerated:
        ours, theirs = getattr(trained, name), getattr(given, name)
        if ours != theirs:
            warnings.warn(
                f"{OPTIONS.get(name, name)} was {ours!r} in {names[0]}, and is {theirs!r} in "
                f"{names[1]}: what the model finds may differ slightly",
                FeatureWarning,
                stacklevel=2,
            )
    same = replace(given, **{name: getattr(trained, name) for name in tolerated})
    trained.require_equal(same, action=action, names=names)
