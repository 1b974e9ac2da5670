"""What a model accepts: the same meaning, though numbers may differ slightly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from toy_store import toy_spec

from r2t.store.compatibility import require_compatible
from r2t.store.errors import FeatureWarning, SpecMismatchError
from r2t.store.schema import UNKNOWN_WEIGHTS


def test_the_same_features_are_taken_without_a_word() -> None:
    require_compatible(toy_spec(), toy_spec(), action="ask", names=("a", "b"))


def test_slight_differences_are_told() -> None:
    with pytest.warns(FeatureWarning, match="--dtype was 'float16' in a, and is 'int8' in b"):
        require_compatible(toy_spec(), toy_spec("int8"), action="ask", names=("a", "b"))
    unknown = replace(toy_spec(), weights_sha256=UNKNOWN_WEIGHTS)
    with pytest.warns(FeatureWarning, match="weights_sha256"):
        require_compatible(unknown, toy_spec(), action="ask", names=("a", "b"))


def test_other_features_are_refused() -> None:
    cases: dict[str, dict[str, Any]] = {
        "--pretrained": {"weights_sha256": "1" * 64},
        "--layers": {"vision_layers": (2, 3)},
        "--fps: 0.5 in a, 1.0 in b": {"frame_rate": 1.0},
    }
    for option, other in cases.items():
        with pytest.raises(SpecMismatchError, match=f"cannot ask: {option}"):
            require_compatible(
                toy_spec(), replace(toy_spec(), **other), action="ask", names=("a", "b")
            )
