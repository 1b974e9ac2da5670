"""Text with any characters survives lists of one a line, for any reader of lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from r2t.store.json_lines import (
    as_utf8,
    id_line,
    is_utf8,
    numbered_lines,
    parse_id_line,
    printable,
    to_json,
    to_json_lines,
)

LINE_ENDS = "a\nb\rc\u2028d\u2029e\x85f\vg\fh\x1ci"
BYTES = os.fsdecode(b"caf\xe9.mp4")


@pytest.mark.parametrize("text", [LINE_ENDS, BYTES, "plain é"])
def test_a_value_is_one_line_of_utf8_for_everyone(text: str) -> None:
    content = to_json_lines([{"name": text}, text]).decode("utf-8")
    assert len(content.splitlines()) == 2
    assert [json.loads(line) for _, line in numbered_lines(content)] == [{"name": text}, text]
    assert json.loads(to_json({"name": text}, indent=2)) == {"name": text}


def test_only_newlines_end_a_line_and_are_counted() -> None:
    assert list(numbered_lines("a\u2028b\n\n c \r\nd")) == [(1, "a\u2028b"), (3, "c"), (4, "d")]


@given(st.text(min_size=1) | st.sampled_from([LINE_ENDS, BYTES, '"quoted"', " blank "]))
def test_an_id_is_read_from_its_line(identifier: str) -> None:
    ((_, line),) = numbered_lines(f"{id_line(identifier)}\n")
    assert parse_id_line(line) == identifier
    assert len(id_line(identifier).splitlines()) == 1
    assert is_utf8(id_line(identifier))


def test_ids_of_everyday_are_written_as_they_are() -> None:
    assert [id_line(name) for name in ("dog", "-x_0.0", "dög 2")] == ["dog", "-x_0.0", "dög 2"]
    assert parse_id_line('"no end') == '"no end'


def test_a_name_is_shown_with_its_bytes(tmp_path: Path) -> None:
    assert printable(BYTES) == r"caf\xe9.mp4"
    assert printable(tmp_path / "a\u2028b\x1b[31m") == rf"{tmp_path}/a\u2028b\x1b[31m"


def test_a_name_that_is_utf8_stays_as_it_is() -> None:
    assert as_utf8("é\u2028") == "é\u2028"
    assert as_utf8(BYTES) == r"caf\xe9.mp4"
