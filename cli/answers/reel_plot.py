"""A picture of a reel: a frame of each segment, and where in the video the segments are."""

# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of its drawing functions untyped.

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

import r2t.extract.video
from r2t.cli.answers.curves import highest_of_parts
from r2t.cli.answers.frame_strip import STRIP_PIXELS
from r2t.cli.answers.picture_fonts import legible_texts, lines_that_fit
from r2t.cli.answers.plots import (
    CURVE,
    FOUND,
    INK,
    MOST_POINTS,
    PAD_INCHES,
    WIDTH_INCHES,
    clean_axes,
    save_figure,
    tick_seconds,
)
from r2t.cli.answers.reels import Reel
from r2t.cli.shared import minutes
from r2t.store.json_lines import as_utf8

FEWEST_PER_ROW, MOST_PER_ROW = 6, 10
MOST_PICTURES = 30
LABEL_CHARACTERS = 18
REEL_CURVE_INCHES, REEL_MARGIN_INCHES = 1.5, 0.75


def plot_reel(pool: r2t.extract.video.DecodePool, video: Path, reel: Reel, path: Path) -> None:
    """Draw a reel into a picture file; the video is decoded again for its frames."""
    pictures = segment_pictures(pool, video, reel)
    with legible_texts():
        save_figure(reel_figure(reel, as_utf8(video.name), pictures), path)


def segment_pictures(
    pool: r2t.extract.video.DecodePool, video: Path, reel: Reel
) -> dict[int, NDArray[np.uint8]]:
    """Return the frame in the middle of each segment, or of thirty of many, by its place."""
    num_shown = min(len(reel.segments), MOST_PICTURES)
    chosen: list[float] = np.linspace(0, len(reel.segments) - 1, num_shown).tolist()
    places = sorted({round(place) for place in chosen})
    rate = reel.frame_rate_fps
    wanted: dict[int, list[int]] = {}
    for place in places:
        segment = reel.segments[place]
        middle = (segment.start_seconds + segment.end_seconds) / 2
        wanted.setdefault(min(int(middle * rate), len(reel.curve) - 1), []).append(place)
    pictures: dict[int, NDArray[np.uint8]] = {}
    for batch in pool.stream(video, rate, size=STRIP_PIXELS):
        for frame in wanted.keys() & set(range(batch.first_frame, batch.first_frame + len(batch))):
            picture = batch.pixels[frame - batch.first_frame].transpose(1, 2, 0).copy()
            for place in wanted[frame]:
                pictures[place] = picture
    return dict(sorted(pictures.items()))


def reel_figure(reel: Reel, title: str, pictures: dict[int, NDArray[np.uint8]]) -> Figure:
    """Build the figure that `plot_reel` saves."""
    title_font = FontProperties(size=12)
    text = f"{title}: {reel.label}"
    lines = lines_that_fit(text, 0.97 * WIDTH_INCHES, title_font)
    num_columns = min(MOST_PER_ROW, max(FEWEST_PER_ROW, len(pictures)))
    num_rows = math.ceil(len(pictures) / num_columns)
    picture_inches = WIDTH_INCHES / (num_columns + 1) + 0.15
    height = num_rows * picture_inches + REEL_CURVE_INCHES + REEL_MARGIN_INCHES + 0.22 * len(lines)
    layout = ConstrainedLayoutEngine(w_pad=PAD_INCHES / 2, h_pad=PAD_INCHES / 2, hspace=0, wspace=0)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout=layout)
    grid = figure.add_gridspec(
        num_rows + 1,
        num_columns,
        height_ratios=[*[picture_inches] * num_rows, REEL_CURVE_INCHES],
    )
    figure.suptitle(
        "\n".join(lines),
        x=0.01,
        ha="left",
        fontproperties=title_font,
        color=INK,
        parse_math=False,
    )
    for cell, (place, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(grid[divmod(cell, num_columns)])
        axes.imshow(picture)
        axes.set_axis_off()
        start = reel.segments[place].start_seconds
        axes.set_title(f"{place + 1}   {minutes(start)}", fontsize=8.5, color=INK, pad=3)
    _draw_timeline(figure.add_subplot(grid[-1, :]), reel, set(pictures))
    return figure


def _draw_timeline(axes: Axes, reel: Reel, labelled: set[int]) -> None:
    """Draw what the reel was chosen by, and its segments over it."""
    scores = highest_of_parts(reel.curve, MOST_POINTS)
    seconds = len(reel.curve) / reel.frame_rate_fps
    times = (np.arange(len(scores)) + 0.5) * (seconds / len(scores))
    times = np.concatenate([[0.0], times, [max(reel.duration_seconds, times[-1])]])
    scores = np.pad(scores, 1, mode="edge")
    low, high = float(scores.min()), float(scores.max())
    room = (high - low) or 1.0
    axes.set_ylim(low - 0.05 * room, high + 0.3 * room)
    axes.set_xlim(0, reel.duration_seconds)
    for place, segment in enumerate(reel.segments):
        start, end = segment.start_seconds, segment.end_seconds
        axes.axvspan(start, end, color=FOUND, alpha=0.3, linewidth=0)
        if place in labelled:
            axes.annotate(
                str(place + 1),
                ((start + end) / 2, high + 0.16 * room),
                ha="center",
                va="center",
                fontsize=8,
                color=FOUND,
            )
    axes.plot(times, scores, color=CURVE, linewidth=1.5)
    axes.set_ylabel(textwrap.fill(reel.curve_name, LABEL_CHARACTERS), fontsize=8, color=INK)
    # Above the curve is room for numbers, where a cosine would be over 1.
    ticks = MaxNLocator(4).tick_values(low, high)
    axes.set_yticks([tick for tick in ticks if low <= tick <= high + 1e-3 * room])
    axes.set_xticks(tick_seconds(reel.duration_seconds))
    axes.xaxis.set_major_formatter(lambda seconds, _: minutes(seconds))
    clean_axes(axes)
