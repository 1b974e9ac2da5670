"""Whether a trained model understands given features."""

from __future__ import annotations

from dataclasses import replace

from r2t.cli.ui import note
from r2t.store.schema import FeatureSpec

# A model's name says less than the digest of its weights, and the others change numbers slightly.
NOTED_FIELDS = ("model", "sampling", "resize", "dtype")


def require_compatible(trained: FeatureSpec, given: FeatureSpec, *, action: str) -> None:
    """Raise `SpecMismatchError` if `given` features mean something else than those trained on.

    What changes their numbers only slightly is noted instead, and so are weights without a digest:
    the released features and checkpoints have none.
    """
    from r2t.store.transfer import UNKNOWN_WEIGHTS

    unknown = UNKNOWN_WEIGHTS in (trained.weights_sha256, given.weights_sha256)
    noted = (*NOTED_FIELDS, "weights_sha256") if unknown else NOTED_FIELDS
    for name in noted:
        ours, theirs = getattr(trained, name), getattr(given, name)
        if ours != theirs:
            note(f"note: the run was trained on features with {name} {ours!r}, here {theirs!r}")
    same = replace(given, **{name: getattr(trained, name) for name in noted})
    trained.require_equal(same, action=action)
