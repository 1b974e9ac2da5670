"""What the documents and `--help` name exists: commands, options, files, Python."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import house
import pytest
import reference
from documents import DOCUMENTS, ROOT, blocks_of, broken_references, commands_of
from typer.main import get_command

from r2t.cli.main import app

LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def parse(words: list[str]) -> None:
    """Raise what the command line would say of the words; run nothing."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        assert words, "a command is missing"
        if words[0].startswith("-"):
            options = {option for each in command.params for option in each.opts}
            assert words[0] in options, f"unknown option {words[0]}"
            return
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]].load(), words[1:]
    if "--help" not in words:
        context = command.make_context(str(command.name), list(words))
        assert context.command is command


def examples_of(command: object, name: str) -> Iterator[tuple[str, str]]:
    for child, inner in getattr(command, "commands", {}).items():
        yield from examples_of(inner.load(), f"{name} {child}")
    for line in (getattr(command, "epilog", None) or "").split("\n"):
        if line.strip().startswith("r2t "):
            yield name, line.strip()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_program_of_a_document_is_legal(path: Path) -> None:
    for block in blocks_of(path):
        if block.kind == "python":
            compile(block.text, block.place, "exec")
            continue
        for words in commands_of(block.text):
            try:
                parse(words)
            except Exception as error:
                pytest.fail(f"{block.place}: r2t {' '.join(words)}: {error!r} {error}")
        for script, options in re.findall(r"\b((?:benchmarks|tests)/\w+\.py)(.*)", block.text):
            program = (ROOT / script).read_text(encoding="utf-8")
            for option in re.findall(r"--[a-z-]+", options):
                assert f'"{option}"' in program, f"{block.place}: {script} {option}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name}: {target}"


SOURCES = [path for part in house.PARTS for path in sorted((ROOT / part).rglob("*.py"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_names_in_backticks_exist(path: Path) -> None:
    assert broken_references(path) == []


def test_names_in_docstrings_exist() -> None:
    broken = {str(path.relative_to(ROOT)): broken_references(path) for path in SOURCES}
    assert {path: names for path, names in broken.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "is_broken"),
    [
        (
            "`store/files.py` `r2t.store.FeatureStore.open` `r2t.train` `losses.py` `tests/train/`",
            False,
        ),
        ("`r2t.train.run.TrainConfig.preset`, `r2t.store.errors.R2TError(...)`", False),
        ("`store/absent.py`", True),
        ("`absent.py`", True),
        ("`r2t.store.absent`", True),
        ("`r2t.store.FeatureStore.absent`", True),
        ("```\n`store/absent.py`\n```", False),
    ],
)
def test_what_a_document_names_wrongly_is_found(text: str, is_broken: bool, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(text, encoding="utf-8")
    assert bool(broken_references(document)) == is_broken


@pytest.mark.parametrize(
    ("path", "kind", "block"),
    [(house.TREE, "tree", house.tree()), (house.GRAPH, "mermaid", house.graph())],
    ids=["tree", "graph"],
)
def test_rooms_are_drawn_as_they_are(path: Path, kind: str, block: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert house.with_block(text, kind, block) == text, "run python tests/house.py"


@pytest.mark.parametrize(
    ("name", "here", "place"),
    [
        ("open", "r2t.store.FeatureStore.create", "r2t.store.FeatureStore.open"),
        ("FeatureStore.open", "", "r2t.store.FeatureStore.open"),
        ("r2t.store.FeatureStore", "r2t.train", "r2t.store.FeatureStore"),
        ("find_preset", "r2t.store.FeatureStore", "r2t.train.find_preset"),
        ("windows", "r2t.train.Grounder.ask", None),  # an argument, not what another door offers
    ],
)
def test_names_on_the_pages_become_links(name: str, here: str, place: str | None) -> None:
    places = {
        "r2t.store.FeatureStore",
        "r2t.store.FeatureStore.open",
        "r2t.store.FeatureStore.create",
        "r2t.store.exchange.windows",
        "r2t.train.find_preset",
    }
    assert reference.find_place(name, here, places) == place


def test_every_page_of_the_reference_has_names() -> None:
    for door in reference.DOORS:
        module = importlib.import_module(door)
        names = reference.offered(door)
        assert names or not hasattr(module, "__path__"), door


def test_where_is_what_names_what_is_there() -> None:
    """Each row names a file, and then things that are in it."""
    num_names = 0
    for row in house.TREE.read_text(encoding="utf-8").splitlines():
        cells = row.split("|")
        if len(cells) < 4:
            continue
        file, *names = re.findall(r"`([^`]+)`", cells[2]) or ["."]
        for name in filter(str.isidentifier, names):
            assert re.search(rf"\b{re.escape(name)}\b", (ROOT / file).read_text("utf-8")), row
            num_names += 1
    assert num_names > 20


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\n## {project['version']} - " in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_example_in_help_is_legal() -> None:
    examples = list(examples_of(get_command(app), "r2t"))
    assert len(examples) > 10
    for name, line in examples:
        for words in commands_of(line):
            try:
                parse(words)
            except Exception as error:
                pytest.fail(f"{name} --help: {line}: {error!r} {error}")


@pytest.mark.parametrize("words", [["extrac"], ["extract"], ["train", "--store", "x", "--epoch"]])
def test_what_does_not_exist_is_caught(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"no command|videos|--epoch"):
        parse(words)
