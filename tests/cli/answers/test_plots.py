"""Pictures of groundings, read back from the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from r2t.cli.answers import picture_fonts
from r2t.cli.answers.answer_table import grounding_table
from r2t.cli.answers.curves import highest_of_parts
from r2t.cli.answers.frame_strip import FrameStrip
from r2t.cli.answers.moment_files import write_subtitles
from r2t.cli.answers.plots import (
    FOUND,
    grounding_figure,
    plot_grounding,
    require_picture_path,
)
from r2t.cli.pages.answer import Answer, answers_html
from r2t.cli.pages.report import query_entry
from r2t.cli.shared.times import minutes, span
from r2t.cli.shared.ui import answers
from r2t.store.errors import ConfigError
from r2t.train.model.decode import Grounding


def grounding(moments: Sequence[Sequence[float]], duration_seconds: float = 30.0) -> Grounding:
    return Grounding(
        np.array(moments, dtype=np.float64).reshape(-1, 3),
        np.linspace(-0.1, 0.9, 15, dtype=np.float32),
        frame_rate_fps=0.5,
        duration_seconds=duration_seconds,
        video_score=0.9,
    )


def panels(figure: Figure) -> tuple[Axes, Axes]:
    curve, bars = (axes for axes in figure.axes if axes.axison)
    return curve, bars


def title(figure: Figure) -> Text:
    texts = [axes.get_title(loc="left") for axes in figure.axes]
    [found] = [
        each for each in figure.findobj(Text) if each.get_text() and each.get_text() in texts
    ]
    return found


def rectangles(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3725, "1:02:05")]
)
def test_minutes(seconds: float, text: str) -> None:
    assert minutes(seconds) == text


def test_a_moment_is_rounded_to_tenths_before_it_is_split_into_minutes() -> None:
    assert span(59.96, 61.04) == "1:00.0 - 1:01.0"


def test_bars_are_the_best_moments_and_the_truth_where_they_lie_in_time() -> None:
    rows = [[4, 10, 0.9], [20, 30, 0.5], [0, 2, 0.1]]
    _, bars = panels(grounding_figure(grounding(rows), "query", truth=[(5, 9)], top=2))
    found = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in rectangles(bars)]
    assert found == [(5, 9), (4, 10), (20, 30)]
    notes = [text.get_text() for text in bars.texts]
    assert notes[:2] == ["0:05.0 - 0:09.0", "0:04.0 - 0:10.0   0.90"]
    lanes = [(label.get_text(), label.get_position()[1]) for label in bars.get_yticklabels()]
    assert lanes == [("annotated", 0), ("found 1", 1), ("found 2", 2)]
    assert [bar.get_y() + bar.get_height() / 2 for bar in rectangles(bars)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([[0.0, 30.0, 0.0]], "no moment was found: no part of the video stands out"),
        ([], "this model scores frames and finds no moments"),
    ],
)
def test_where_nothing_is_found_all_that_is_shown_says_so(
    rows: list[list[float]], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = grounding(rows)
    _, lanes = panels(grounding_figure(nothing, "query", truth=[(5, 9)]))
    assert len(rectangles(lanes)) == 1
    assert any(text.get_text().startswith(told) for text in lanes.texts)
    assert told in answers_html("film", [Answer("a ball", nothing, 0.1)], top=5)
    entry = query_entry(nothing, query_id="q", video_id="v", query="a ball", top=5)
    assert entry["moments"] == []
    assert entry["nothing"].startswith(told)
    answers().print(grounding_table(nothing, "film.mp4", "a ball", 5))
    write_subtitles(nothing, "a ball", tmp_path / "a.srt", 5)
    assert not (tmp_path / "a.srt").exists()
    shown = capsys.readouterr()
    assert told in shown.out
    assert "a ball  in film.mp4" in shown.out
    assert told in shown.err
    assert nothing.to_dict()["moments"] == []


def test_a_long_curve_is_drawn_by_its_highest_points() -> None:
    saliency = np.tile(np.array([0.0, 0.5], np.float32), 5000)
    saliency[7001] = 1
    long = replace(grounding([[4, 10, 0.9]], 10_000.0), saliency=saliency, frame_rate_fps=1.0)
    curve, _ = panels(grounding_figure(long, "a word " * 500))
    times, scores = np.asarray(curve.lines[0].get_xydata()).T
    assert set(scores) == {0.5, 1.0}
    assert times[scores.argmax()] == pytest.approx(7010)
    assert times[-1] == 10_000


@pytest.mark.parametrize(("num_scores", "most"), [(90, 60), (750, 500), (999, 500), (501, 500)])
def test_a_peak_stays_where_it_is_in_time_when_parts_are_drawn(num_scores: int, most: int) -> None:
    for peak in np.linspace(0, num_scores - 1, 9).astype(int):
        drawn = highest_of_parts((np.arange(num_scores) == peak).astype(np.float64), most)
        assert len(drawn) == most
        place = (drawn.argmax() + 0.5) / most
        assert place == pytest.approx((peak + 0.5) / num_scores, abs=1 / most)


def test_characters_that_no_font_has_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_fonts, "_FONTS", ("DejaVu Sans",))
    plot_grounding(grounding([[4, 10, 0.9]]), "a 红 and a 圆, 红", tmp_path / "picture.png")
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("红") == told.count("圆") == 1
    assert "the picture shows boxes in their place" in told
    assert (tmp_path / "picture.png").exists()


def test_found_moments_look_alike_whatever_their_rank() -> None:
    rows = [[0, 10, 0.5], [4, 14, 0.5], [8, 30, 0.1]]
    _, lanes = panels(grounding_figure(grounding(rows), "query"))
    assert {to_hex(bar.get_facecolor(), keep_alpha=True) for bar in rectangles(lanes)} == {
        f"{FOUND}ff"
    }


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize(
    ("moments", "duration_seconds", "saliency", "query"),
    [
        ([[4, 10, 0.9]], 30, 0.9, "query " * 40),
        ([], 30, -100_000.25, "a woman warms a mug of milk " * 20),
        ([[0, 7200, 0.5], [7100, 7200, 0.1]], 7200, 1e-7, "W" * 150 + "红" * 300),
    ],
)
def test_no_text_is_cut_off(
    moments: list[list[float]], duration_seconds: float, saliency: float, query: str
) -> None:
    given = replace(
        grounding(moments, duration_seconds), saliency=np.full(15, saliency, dtype=np.float32)
    )
    pictures = FrameStrip(np.zeros((10, 40, 60, 3), dtype=np.uint8))
    figure = grounding_figure(given, query, strip=pictures, truth=[(0, 20)])
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    texts = [
        text for text in texts if text.axes is None or text.axes.axison or text is title(figure)
    ]
    page = figure.bbox
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text


def test_the_curve_has_each_score_at_the_centre_of_its_frame() -> None:
    curve, _ = panels(grounding_figure(grounding([]), "query"))
    times, scores = (np.asarray(values) for values in curve.lines[0].get_data())
    assert times[1:-1].tolist() == [1 + 2 * frame for frame in range(15)]
    assert (times[0], times[-1]) == (0, 30)
    assert scores[[0, 1]].tolist() == pytest.approx([-0.1, -0.1])
    assert curve.get_xlim() == (0, 30)


@pytest.mark.parametrize(
    ("duration_seconds", "labels"),
    [(30, ["0:05", "0:10"]), (150, ["0:15", "0:30"]), (7200, ["15:00", "30:00"])],
)
def test_time_is_in_minutes_and_seconds(duration_seconds: float, labels: list[str]) -> None:
    figure = grounding_figure(grounding([[1, 2, 0.5]], duration_seconds), "query")
    figure.draw_without_rendering()
    ticks = [label.get_text() for label in panels(figure)[1].get_xticklabels()]
    start = ticks.index("0:00")
    assert ticks[start + 1 : start + 3] == labels


def test_a_long_query_with_dollar_signs_is_the_title_as_it_was_typed(tmp_path: Path) -> None:
    query = "a man pays $5 and then $6 " * 8
    figure = grounding_figure(grounding([[1, 2, 0.5]]), query)
    shown = title(figure)
    assert shown.get_text().replace("\n", " ") == query.strip()
    assert shown.get_text().count("\n") == 2
    figure.canvas.draw()  # draws dollar signs rather than mathematics, or raises
    width = shown.get_window_extent().width
    assert width < figure.bbox.width


def test_the_file_shows_the_frames(tmp_path: Path) -> None:
    pictures = np.zeros((2, 40, 60, 3), dtype=np.uint8)
    pictures[0, ..., 0] = pictures[1, ..., 2] = 255
    path = tmp_path / "picture.png"
    plot_grounding(grounding([[4, 10, 0.9]]), "query", path, strip=FrameStrip(pictures))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red, blue = (
        np.argwhere((pixels == colour).all(axis=2)) for colour in ([255, 0, 0], [0, 0, 255])
    )
    assert len(red) > 10_000
    assert len(blue) == pytest.approx(len(red), rel=0.05)
    assert red[:, 1].max() < blue[:, 1].min()  # in the order of time


@pytest.mark.parametrize("name", ["picture.xyz", "picture", "nowhere/picture.png"])
def test_an_impossible_picture_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="picture"):
        require_picture_path(tmp_path / name)


@pytest.mark.parametrize(
    ("low", "high", "drawn"),
    [(0.2, 0.27, (0.2, 0.27)), (-0.27, -0.2, (-0.27, -0.2)), (0.2, 0.9, (0.0, 0.9))],
)
def test_a_narrow_band_far_from_0_fills_the_picture(
    low: float, high: float, drawn: tuple[float, float]
) -> None:
    saliency = np.linspace(low, high, 15, dtype=np.float32)
    curve, _ = panels(grounding_figure(replace(grounding([]), saliency=saliency), "query"))
    margin = 0.11 * (drawn[1] - drawn[0])
    assert curve.get_ylim() == pytest.approx(drawn, abs=margin)


def test_what_people_must_be_told_stands_under_the_moments() -> None:
    _, bars = panels(grounding_figure(replace(grounding([]), caveat="a guess"), "query"))
    assert bars.get_xlabel() == "a guess"
