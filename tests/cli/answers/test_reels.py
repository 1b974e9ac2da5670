"""What a reel says of how it was chosen."""

from __future__ import annotations

import numpy as np
import pytest

from r2t.cli.answers.reels import EVEN_LABEL, TYPICAL_LABEL, typical_reel


@pytest.mark.parametrize(("length_seconds", "label"), [(4.0, TYPICAL_LABEL), (20.0, EVEN_LABEL)])
def test_a_reel_that_leaves_no_choice_is_evenly_spaced_though_its_segments_are_joined(
    length_seconds: float, label: str
) -> None:
    scenes = np.repeat(np.eye(3, 8, dtype=np.float32), [2, 3, 15], axis=0)
    reel = typical_reel(scenes, 1.0, 20.0, length_seconds)
    assert sum(each.seconds for each in reel.segments) == pytest.approx(length_seconds)
    assert reel.label == label
