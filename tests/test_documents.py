"""What the documents and `--help` tell people to type exists: commands, options, files, Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import DOCUMENTS, ROOT, blocks_of, commands_of
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
        command, words = command.commands[words[0]], words[1:]
    if "--help" not in words:
        context = command.make_context(str(command.name), list(words))
        assert context.command is command


def examples_of(command: object, name: str) -> Iterator[tuple[str, str]]:
    for child, inner in getattr(command, "commands", {}).items():
        yield from examples_of(inner, f"{name} {child}")
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
