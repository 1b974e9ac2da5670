"""Fonts and lines for the texts of pictures: what people type may be in any script, and long."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# matplotlib leaves its list of fonts untyped.

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Generator
from contextlib import contextmanager

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.textpath import TextToPath

from r2t.cli.shared import note

# matplotlib's own font, and then those of common systems that have what it lacks.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Emoji",
    "Segoe UI Emoji",
)
_LACKING = re.compile(r"Glyph (\d+) ")
_MOST_CHARACTERS = 200  # of a line, however narrow they are
_POINTS_PER_INCH = 72


@contextmanager
def legible_texts() -> Generator[None]:
    """Draw with the fonts that this machine has, and say which characters none of them has."""
    known = {font.name for font in fontManager.ttflist}
    families = [name for name in _FONTS if name in known]
    lacking: dict[str, None] = {}
    with rc_context({"font.family": families}), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        if found := _LACKING.match(str(each.message)):
            lacking[chr(int(found[1]))] = None
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if lacking:
        note(
            f"note: no font that pictures are drawn with has {''.join(lacking)}: the picture shows "
            "boxes in their place"
        )


def lines_that_fit(
    text: str, width_inches: float, font: FontProperties, max_lines: int | None = None
) -> list[str]:
    """Break a text into lines no wider than that; of one with more lines the beginning is shown."""
    measure, num_characters = TextToPath(), _MOST_CHARACTERS
    while True:
        lines = textwrap.wrap(text, num_characters, max_lines=max_lines, placeholder=" …")
        widths = (measure.get_text_width_height_descent(line, font, False)[0] for line in lines)
        share = max(widths, default=0.0) / (_POINTS_PER_INCH * width_inches)
        if share <= 1 or num_characters <= len(" …"):
            return lines or [""]
        longest = max(map(len, lines))
        num_characters = max(len(" …"), min(longest - 1, int(longest / share)))
