"""Calls against a signature fail while the tests run, and so does a dataclass of wrong values."""

from __future__ import annotations

from typing import Any

import jaxtyping
import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from r2t.extract.demo.sentences import Description
from r2t.extract.demo.world import make_story
from r2t.train.metrics.moments import MomentValues, moment_values


def test_types() -> None:
    number: Any = "4"
    with pytest.raises(BeartypeCallHintViolation, match="index='4'"):
        make_story("test", 0, number)
    with pytest.raises(BeartypeCallHintViolation, match="colour='mauve'"):
        Description(number.replace("4", "mauve"))


def test_shapes() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="predictions"):
        moment_values([np.zeros((4, 2))], [np.zeros((1, 2))])
    values = np.zeros((4, 3))
    MomentValues(np.zeros((4, 3, 10)), values, values)
    with pytest.raises(jaxtyping.TypeCheckError, match="five_iou"):
        MomentValues(np.zeros((4, 3, 10)), values, values[:, :2])
