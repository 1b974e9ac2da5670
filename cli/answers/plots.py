"""Pictures of a grounding: a strip of frames, the saliency curve, the moments as bars.

Figures are built without pyplot: no window system is touched and no state outlives a call.
"""

# pyright: reportUnknownMemberType=false
# matplotlib leaves the keyword arguments of its drawing functions untyped.

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from r2t.cli.answers.curves import highest_of_parts
from r2t.cli.answers.frame_strip import FrameStrip
from r2t.cli.answers.no_moment import nothing_found
from r2t.cli.answers.picture_fonts import legible_texts, lines_that_fit
from r2t.cli.shared import minutes, span
from r2t.store.errors import ConfigError
from r2t.store.files import appearing
from r2t.train import model

INK, FAINT, CURVE, TRUTH, FOUND = "#1c2024", "#c9ced6", "#41669c", "#1d7557", "#c24e17"
WIDTH_INCHES, STRIP_INCHES, CURVE_INCHES, LANE_INCHES = 10.0, 0.62, 1.6, 0.27
TITLE_INCHES, MARGIN_INCHES, PAD_INCHES = 0.26, 0.5, 0.09
TITLE_WIDTH_INCHES = 8.7  # what labels beside the panels surely leave
TITLE_LINES = 4  # of a longer sentence the beginning is shown
CAVEAT_INCHES = 0.22
LABEL_SHARE = 0.2  # of the axis, what a label takes
TICK_STEPS_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MAX_TICKS = 10
MOST_POINTS = 500  # of a curve: more than its line is wide, and it would be a smudge
NARROW = 2.0  # how many times as far from 0 as it is wide a band of scores must lie


def require_picture_path(path: Path) -> None:
    """Raise `ConfigError` if no picture can be written there, before work is spent on it."""
    legal = Figure().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in legal:
        raise ConfigError(
            f"{path}: cannot draw {path.suffix!r}; must end with one of {', '.join(legal)}"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist")


def plot_grounding(
    grounding: model.Grounding,
    query: str,
    path: Path,
    *,
    strip: FrameStrip | None = None,
    truth: Sequence[tuple[float, float]] = (),
    top: int = 5,
) -> None:
    """Draw a grounding into a picture file, in the format that the file's suffix names.

    Shows the `top` best moments. `truth` are annotated moments, in seconds.
    """
    with legible_texts():
        save_figure(grounding_figure(grounding, query, strip=strip, truth=truth, top=top), path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's suffix names."""
    try:
        with appearing(path) as unfinished:
            figure.savefig(unfinished, dpi=150, facecolor="white")
    except ValueError as error:
        raise ConfigError(f"cannot draw {path}: {error}") from error


def grounding_figure(
    grounding: model.Grounding,
    query: str,
    *,
    strip: FrameStrip | None = None,
    truth: Sequence[tuple[float, float]] = (),
    top: int = 5,
) -> Figure:
    """Build the figure that `plot_grounding` saves."""
    moments = [(float(row[0]), float(row[1]), float(row[2])) for row in grounding.found(top)]
    title_font = FontProperties(size=13, weight="bold")
    title = lines_that_fit(query, TITLE_WIDTH_INCHES, title_font, TITLE_LINES)
    strip_inches = STRIP_INCHES if strip is not None else 0.0
    lanes_inches = LANE_INCHES * (max(1, len(moments)) + len(truth)) + 0.05
    rows = [strip_inches, CURVE_INCHES, lanes_inches]
    height = sum(rows) + TITLE_INCHES * len(title) + MARGIN_INCHES
    height += CAVEAT_INCHES if grounding.caveat else 0
    layout = ConstrainedLayoutEngine(w_pad=PAD_INCHES, h_pad=PAD_INCHES, hspace=0)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout=layout)
    shown = [inches for inches in rows if inches]
    grid = figure.add_gridspec(len(shown), 1, height_ratios=shown)
    curve = figure.add_subplot(grid[-2])
    lanes = figure.add_subplot(grid[-1], sharex=curve)
    curve.set_xlim(0, grounding.duration_seconds)
    _draw_saliency(curve, grounding, moments)
    _draw_moments(lanes, moments, truth, grounding.duration_seconds)
    if nothing := nothing_found(grounding):
        lanes.annotate(
            nothing,
            (0, len(truth)),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    if grounding.caveat:
        lanes.set_xlabel(grounding.caveat, loc="left", fontsize=9, color=FOUND)
    pictures = figure.add_subplot(grid[0]) if strip is not None else None
    (pictures or curve).set_title(
        "\n".join(title),
        loc="left",
        fontproperties=title_font,
        color=INK,
        parse_math=False,  # a query may hold dollar signs
    )
    if pictures is not None and strip is not None:
        pictures.set_axis_off()
        figure.draw_without_rendering()  # lays the panels out: pictures are cut to their shape
        _draw_strip(pictures, strip)
    return figure


def _draw_strip(axes: Axes, strip: FrameStrip) -> None:
    """Lay the pictures side by side, each cut in the middle to the width that it gets."""
    box = axes.get_window_extent()
    cell_aspect = box.width / len(strip.pictures) / box.height
    height, width = strip.pictures.shape[1:3]
    cut_width = min(width, max(1, round(height * cell_aspect)))
    cut_height = min(height, max(1, round(width / cell_aspect)))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    cut = strip.pictures[:, top : top + cut_height, left : left + cut_width]
    axes.imshow(np.concatenate(list(cut), axis=1), aspect="auto")
    for place in range(1, len(cut)):
        axes.axvline(place * cut_width - 0.5, color="white", linewidth=1.5)


def _draw_saliency(
    axes: Axes, grounding: model.Grounding, moments: Sequence[tuple[float, float, float]]
) -> None:
    scores = highest_of_parts(grounding.saliency, MOST_POINTS)
    seconds = len(grounding.saliency) / grounding.frame_rate_fps
    centres = (np.arange(len(scores)) + 0.5) * (seconds / len(scores))
    # The scores hold for whole slots, so the curve runs on level to both ends of the video.
    times = np.concatenate([[0.0], centres, [max(grounding.duration_seconds, centres[-1])]])
    scores = np.pad(scores, 1, mode="edge")
    low, high = float(scores.min()), float(scores.max())
    if high == low or max(low, -high) < NARROW * (
        high - low
    ):  # else the curve would be a flat line far from 0
        low, high = min(0.0, low), max(0.0, high)
    axes.set_ylim(low - 0.04 * (high - low or 1), high + 0.1 * (high - low or 1))
    if moments:
        axes.axvspan(*moments[0][:2], color=FOUND, alpha=0.12, linewidth=0)
    axes.fill_between(times, scores, low, color=CURVE, alpha=0.18, linewidth=0)
    axes.plot(times, scores, color=CURVE, linewidth=1.8)
    axes.set_ylabel("saliency", color=INK, fontsize=10)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    clean_axes(axes)
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _draw_moments(
    axes: Axes,
    moments: Sequence[tuple[float, float, float]],
    truth: Sequence[tuple[float, float]],
    duration_seconds: float,
) -> None:
    """Give every moment a lane of its own: annotated ones first, then those found, best first."""
    bars = [(start, end, TRUTH, "annotated", "") for start, end in truth] + [
        (start, end, FOUND, f"found {rank}", f"   {score:.2f}")
        for rank, (start, end, score) in enumerate(moments, start=1)
    ]
    for row, (start, end, colour, _, note) in enumerate(bars):
        axes.barh(row, end - start, left=start, height=0.62, color=colour, linewidth=0)
        if end < (1 - LABEL_SHARE) * duration_seconds:
            place, align, ink = end, "left", INK
        elif start > LABEL_SHARE * duration_seconds:
            place, align, ink = start, "right", INK
        else:
            place, align, ink = start, "left", "white"  # as long as the video: inside the bar
        axes.annotate(
            f"{span(start, end)}{note}",
            (place, row),
            xytext=(-5 if align == "right" else 5, 0),
            textcoords="offset points",
            ha=align,
            va="center",
            fontsize=8.5,
            color=ink,
        )
    axes.set_ylim(max(1, len(moments)) + len(truth) - 0.4, -0.6)
    axes.set_yticks(range(len(bars)), [name for *_, name, _ in bars])
    axes.set_xticks(tick_seconds(duration_seconds))
    axes.xaxis.set_major_formatter(lambda seconds, _: minutes(seconds))
    clean_axes(axes)
    axes.tick_params(axis="y", length=0)


def tick_seconds(duration_seconds: float, most: int = MAX_TICKS) -> list[int]:
    """Return the times to label on an axis: multiples of a step that people count time in.

    The step is the shortest of which at most `most` make the video. `assets/timeline.js` has the
    same rule for the pages.
    """
    steps = (step for step in TICK_STEPS_SECONDS if duration_seconds <= most * step)
    step = next(steps, 3600 * math.ceil(duration_seconds / (most * 3600)))
    return list(range(0, math.floor(duration_seconds) + 1, step))


def clean_axes(axes: Axes) -> None:
    """Leave of an axis what is read: its numbers, and faint lines for them."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=FAINT)
    axes.grid(axis="x", color=FAINT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
