"""A format is one module and one line: whatever lists formats takes them from the registry."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from r2t.store.annotations import Annotation, Split
from r2t.store.datasets import registry
from r2t.store.datasets.checks import read_leniently
from r2t.store.datasets.folder import survey_folder
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport, lines_of
from r2t.store.datasets.registry import FORMATS, read_annotations
from r2t.store.errors import AnnotationError

ROOT = Path(__file__).parents[3]


class Cues(AnnotationFormat):
    """A format that only this test knows: `start-end video: sentence`, under a heading."""

    name = "cue sheets (CUES)"
    suffixes = (".cues",)

    def recognises(self, start: FileStart) -> bool:
        return start.first_line == "CUES"

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        for number, (where, line) in enumerate(lines_of(path, text, report)):
            if number == 0:
                continue
            times, _, rest = line.partition(" ")
            video, _, sentence = rest.partition(": ")
            moments = np.array([times.split("-")], dtype=np.float64)
            yield where, Annotation(str(number), video, sentence, moments, split=default)


@pytest.fixture
def with_cues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FORMATS", (*FORMATS, Cues()))


@pytest.mark.usefixtures("with_cues")
def test_a_format_that_is_added_to_the_registry_is_read_surveyed_and_listed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine_val.cues"
    path.write_text("CUES\n1-2.5 dog: it digs\n3-4 cow: it eats\n")
    dog, cow = read_annotations(path)
    assert (dog.video_id, dog.query, dog.split) == ("dog", "it digs", "val")
    assert (dog.moments.tolist(), cow.query_id) == ([[1, 2.5]], "2")
    assert survey_folder(tmp_path).annotations == (path,)
    located = read_leniently(path).located
    assert [where for where, _ in located] == [f"{path}, line 2", f"{path}, line 3"]
    path.write_text("hello\n")
    with pytest.raises(AnnotationError, match=r"known formats are .*cue sheets \(CUES\)"):
        read_annotations(path)
    (finding,) = read_leniently(path).findings
    assert Cues.name in finding.message


def test_what_is_unknown_is_refused_with_the_name_of_every_format(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello\n")
    with pytest.raises(AnnotationError) as error:
        read_annotations(path)
    names = {each.name for each in FORMATS}
    assert len(names) == len(FORMATS)
    assert all(name in str(error.value) for name in names)


def test_files_of_no_formats_suffix_are_not_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "mine.cues"
    path.write_text("CUES\n1-2.5 dog: it digs\n")
    assert "files ending in .cues" in survey_folder(tmp_path).others[path]


def test_no_text_outside_the_registry_lists_formats() -> None:
    """Help and messages would not know of a new one; docstrings may name examples."""
    names = ("QVHighlights", "Charades", "TACoS", "Ego4D", "YouTube", "TVSum", "CSV", "JSON lines")
    listing: list[str] = []
    for part in ("store", "extract", "train", "cli"):
        for path in sorted((ROOT / part).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            listing += [
                f"{path.relative_to(ROOT)}:{node.lineno}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in statements
                and sum(name in node.value for name in names) > 2
            ]
    assert listing == []
