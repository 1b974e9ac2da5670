"""Pictures of reels, read back from the figure."""

from __future__ import annotations

import numpy as np

from r2t.cli.answers.reel_plot import reel_figure
from r2t.cli.answers.reels import typical_reel


def test_no_cosine_above_1_is_on_the_axis_and_no_title_is_cut_off() -> None:
    looks = np.repeat(np.eye(5, 8, dtype=np.float32), 4, axis=0)
    reel = typical_reel(looks, 1.0, 20.0, 4.0)
    pictures = {place: np.zeros((8, 8, 3), np.uint8) for place in range(len(reel.segments))}
    figure = reel_figure(reel, "W" * 120, pictures)
    figure.draw_without_rendering()
    ticks = figure.axes[-1].get_yticks().tolist()
    assert (min(ticks), max(ticks)) == (0.0, 1.0)
    (title,) = (text for text in figure.texts if text.get_text() == figure.get_suptitle())
    assert title.get_window_extent().x1 <= figure.bbox.x1
