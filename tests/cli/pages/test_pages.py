"""What the pages share: one timeline, colours that can be read, ticks as on the pictures."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from barcode_videos import Recipe, write_video
from browsers import look, low_contrasts, wait_for

from r2t.cli.answers import plots
from r2t.cli.answers.frame_strip import FrameStrip
from r2t.cli.answers.plots import MAX_TICKS, tick_seconds
from r2t.cli.pages.page_files import write_video_report
from r2t.train.model.decode import Grounding

ASSETS = files("r2t.cli.pages") / "assets"
_PAIR = re.compile(r"--([\w-]+): light-dark\((#\w{6})\w*, (#\w{6})\w*\);")
COLOURS = {
    name: (day, night)
    for sheet in ("timeline.css", "report.css")
    for name, day, night in _PAIR.findall((ASSETS / sheet).read_text(encoding="utf-8"))
}


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it."""
    levels: list[float] = []
    for colour in (one, other):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        levels.append(float(np.dot(linear, (0.2126, 0.7152, 0.0722))) + 0.05)
    return max(levels) / min(levels)


def test_contrast_is_what_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", [0, 1], ids=["day", "night"])
@pytest.mark.parametrize(
    ("front", "needed"),
    [
        ("ink", 4.5),
        ("soft", 4.5),
        ("found", 3),  # shapes, not texts
        ("truth", 3),
        ("curve", 3),
        ("focus", 3),
    ],
)
def test_colours_can_be_told_from_what_is_behind_them(
    front: str, needed: float, scheme: int
) -> None:
    for behind in ("card", "paper", "faint"):
        found = contrast(COLOURS[front][scheme], COLOURS[behind][scheme])
        assert found >= needed, (front, behind)


def test_pictures_have_the_colours_of_the_pages() -> None:
    drawn = {"ink": plots.INK, "curve": plots.CURVE, "truth": plots.TRUTH, "found": plots.FOUND}
    assert drawn == {name: COLOURS[name][0] for name in drawn}
    assert contrast("#ffffff", plots.FOUND) >= 4.5  # the label inside a bar
    assert contrast("#ffffff", plots.TRUTH) >= 4.5


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of one video, in which a moment lies within another."""
    video = write_video(tmp_path / "a film.mp4", Recipe())
    moments = np.array([[0.0, 4.0, 0.9], [1.0, 2.0, 0.5], [1.0, 3.0, 0.5], [4.0, 5.0, 0.1]])
    grounding = Grounding(moments, np.linspace(0, 1, 20, dtype=np.float32), 4.0, 5.0, 1.0)
    strip = FrameStrip(np.zeros((2, 8, 8, 3), np.uint8))
    page = tmp_path / "page.html"
    write_video_report(page, video, "a ball", grounding, strip, {"run": "run"}, top=3)
    return page


@pytest.mark.parametrize("night", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_text_of_a_report_can_be_read(
    page: Path, browser: Any, night: bool, width: int
) -> None:
    look(browser, night=night, width=width, height=844)
    browser.get(page.as_uri())
    assert low_contrasts(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_pages_label_the_times_that_pictures_do(page: Path, browser: Any) -> None:
    lengths = [0.4, 1, 9.5, 10, 10.01, 30, 36, 37.2, 59, 61, 150, 299, 600, 3599, 3600, 7200, 86399]
    cases = [(seconds, most) for seconds in lengths for most in range(2, MAX_TICKS + 1)]
    browser.get(page.as_uri())
    script = f"return {json.dumps(cases)}.map(([seconds, most]) => tickSeconds(seconds, most))"
    assert browser.execute_script(script) == [tick_seconds(*case) for case in cases]


def test_answers_without_training_are_not_put_in_an_order_of_confidence(
    page: Path, browser: Any
) -> None:
    orders: list[list[str]] = []
    for caveat in ("null", '"not trained"'):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace('"tables":', f'"caveat":{caveat},"tables":'), encoding="utf-8")
        browser.get(page.as_uri())
        options = browser.find_elements("css selector", "#sort option")
        orders.append([each.get_attribute("textContent") for each in options])
    confident = ["most confident first", "least confident first"]
    assert orders[0] == [*confident, *orders[1]]
    assert orders[1] == ["by video", "by sentence", "as given"]


def test_every_moment_has_a_lane_and_a_name_and_plays_in_view_on_a_phone(
    page: Path, browser: Any
) -> None:
    look(browser, width=390, height=600)
    browser.get(page.as_uri())
    blocks = browser.find_elements("css selector", ".timeline button.block")
    assert [each.get_attribute("aria-label") for each in blocks] == [
        "play found moment 1, score 0.90, 0:00.0 \u2013 0:04.0",
        "play found moment 2, score 0.50, 0:01.0 \u2013 0:02.0",
        "play found moment 3, score 0.50, 0:01.0 \u2013 0:03.0",
    ]
    tops = [each.rect["y"] for each in blocks]
    assert all(later - above > 15 for above, later in pairwise(tops))
    opacities = {each.value_of_css_property("opacity") for each in blocks}
    assert opacities == {"1"}
    browser.execute_script("arguments[0].focus()", blocks[1])
    blocks[1].send_keys("\n")  # as by hand: the keyboard plays it too
    wait_for(
        lambda: browser.execute_script("return document.querySelector('video').currentTime") >= 1
    )
    box = browser.execute_script(
        "const box = document.querySelector('video').getBoundingClientRect();"
        "return [box.top, box.bottom, innerHeight]"
    )
    assert 0 <= box[0] < box[1] <= box[2]


def test_a_reader_chooses_a_video_that_the_page_does_not_find(page: Path, browser: Any) -> None:
    elsewhere = page.parent / "elsewhere"
    elsewhere.mkdir()
    video = (page.parent / "a film.mp4").rename(elsewhere / "renamed.mp4")
    look(browser)
    browser.get(page.as_uri())
    browser.find_element("css selector", ".timeline button.block").click()
    picker = wait_for(lambda: browser.find_element("css selector", ".player input[type=file]"))
    assert "does not find a film.mp4" in browser.find_element("css selector", ".player p").text
    picker.send_keys(str(video))
    wait_for(
        lambda: browser.execute_script("return document.querySelector('video').currentTime") > 0
    )
