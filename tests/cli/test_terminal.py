"""What all commands share on a terminal: options, choices, sizes, help."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
import torch
import typer
from typer.main import get_command
from typer.models import OptionInfo
from typer.testing import CliRunner

from r2t.cli.commands.compare import COMPARED_METRICS, Contender, print_comparison, short_names
from r2t.cli.commands.train.settings import with_settings
from r2t.cli.main import app
from r2t.cli.shared import options
from r2t.cli.shared.option_values import parse_fps, parse_rate, parse_size
from r2t.store.annotations import make_query_id, query_name
from r2t.store.errors import ConfigError
from r2t.store.wording import counted
from r2t.train.choices import PresetName
from r2t.train.metrics.bootstrap import Interval
from r2t.train.metrics.paired import Difference
from r2t.train.run.presets import find_preset

# One name for things that are rightly several: what to make, what to read, what a batch holds.
SEVERAL_MEANINGS = {
    "--annotations",
    "--batch-size",
    "--bootstrap",
    "--checkpoint",
    "--dry-run",
    "--epochs",
    "--format",
    "--fps",
    "--layers",
    "--list",
    "--model",
    "--out",
    "--plot",
    "--precision",
    "--preset",
    "--quick",
    "--pretrained",
    "--set",
    "--store",
    "--top",
    "--videos",
}


def commands(command: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command and group with the words that call it."""
    command = command or get_command(app)
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from commands(inner.load(), f"{name} {child}".strip())


EVERY = dict(commands())


def run(*words: str, **settings: Any) -> Any:
    return CliRunner().invoke(app, list(words), prog_name="r2t", **settings)


@pytest.mark.parametrize("name", list(EVERY))
def test_help_is_plain_text_of_80_columns_under_both_names(name: str) -> None:
    short, long = run(*name.split(), "-h"), run(*name.split(), "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.stdout == long.stdout
    body, _, example = short.stdout.partition("\n  Example")
    assert all(len(line) <= 80 for line in body.splitlines())
    assert not set(body) & set("│╭╰")
    assert "…" not in body.partition("Commands:")[2], "a summary is cut"
    for line in (EVERY[name].epilog or "").splitlines()[2:]:
        if line.strip("\b"):
            assert f"{line}\n" in example + "\n", "an example is as it must be typed"


def choices() -> Iterator[tuple[str, str, list[str]]]:
    for name, command in EVERY.items():
        for option in command.params:
            if option.metavar and "|" in option.metavar:
                yield name, option.opts[-1], option.metavar.split("|")


@pytest.mark.parametrize(("name", "option", "legal"), list(choices()))
def test_what_is_no_choice_is_refused_with_those_that_are(
    name: str, option: str, legal: list[str]
) -> None:
    answer = run(*name.split(), option, legal[0] + "x")
    assert answer.exit_code == 2
    assert f"must be one of {', '.join(legal)}; did you mean" in answer.stderr
    assert option in answer.stderr


def test_no_help_lists_choices_that_are_not_refused() -> None:
    told = {(name, option) for name, option, _ in choices()}
    for name in ("eval", "compare", "calibrate", "report", "store subset"):
        assert (name, "--split") in told
    for name in ("extract", "train", "import-checkpoint"):
        assert (name, "--preset") in told
    assert {("train", "--cache"), ("extract", "--decoder"), ("store export", "--format")} <= told


def test_choices_are_those_of_the_library() -> None:
    from r2t.extract.clip.hardware import pick_precision
    from r2t.train.run.presets import PRESETS

    assert get_args(PresetName) == tuple(PRESETS)
    for name in get_args(options.ExtractPrecision):
        assert pick_precision(name, torch.device("cuda"))


def test_an_option_that_several_commands_take_is_the_same_in_all() -> None:
    found: dict[str, set[Any]] = defaultdict(set)
    for command in EVERY.values():
        for option in command.params:
            if option.opts[-1].startswith("--"):
                found[option.opts[-1]].add((option.help, option.metavar, option.is_flag))
    differing = {name for name, kinds in found.items() if len(kinds) > 1}
    assert differing == SEVERAL_MEANINGS
    assert {kind[2] for kind in found["--json"]} == {True}


def test_no_option_is_declared_in_two_places() -> None:
    declared: dict[str, set[int]] = defaultdict(set)
    for command in EVERY.values():
        function = inspect.unwrap(command.callback)
        hints = get_type_hints(function, include_extras=True)
        for option in command.params:
            for part in getattr(hints.get(option.name), "__metadata__", ()):
                if isinstance(part, OptionInfo):
                    declared[option.opts[-1]].add(id(part))
    assert len(declared) > 80
    assert {name for name, places in declared.items() if len(places) > 1} == SEVERAL_MEANINGS


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("1.5 mb", 1_500_000), ("20kB", 20_000), ("1TB", 10**12)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size
    for wrong in (text[:-1], f"-{text}", f"{text}s", "lots", "", "0GB", "0.0001kB", "nanGB"):
        with pytest.raises(typer.BadParameter, match="such as 500MB or 20GB"):
            parse_size(wrong)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("serve", "--max-upload"),
        ("train", "--disk-cache-size"),
        ("store pack", "--size"),
        ("extract", "--memory-limit"),
    ],
)
def test_a_size_without_its_unit_is_refused_before_anything_is_done(
    command: str, option: str
) -> None:
    answer = run(*command.split(), option, "4")
    assert answer.exit_code == 2
    assert "'4': give a size with its unit (kB, MB, GB, TB)" in answer.stderr


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf", ""])
def test_what_is_no_frame_rate_is_refused(text: str) -> None:
    for parse in (parse_rate, parse_fps):
        with pytest.raises(typer.BadParameter, match="frames per second above 0"):
            parse(text)
    assert parse_rate("per-video") == "per-video"
    with pytest.raises(typer.BadParameter, match="per-video"):
        parse_fps("per-video")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("model.direcion=forward", "model.direction"),
        ("loses.layer_weight=0", "losses.layer_weight"),
    ],
)
def test_a_setting_nearly_named_is_suggested(given: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"; did you mean {meant}\?$"):
        with_settings(find_preset("qvhighlights").train_config(), [given])


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["x/a/best.jsonl", "y/a/best.jsonl"], ["x/a/best.jsonl", "y/a/best.jsonl"]),
        (["runs/a", "a"], ["runs/a", "a"]),
    ],
)
def test_compared_models_are_named_by_what_differs(paths: list[str], short: list[str]) -> None:
    assert short_names(paths) == short


@pytest.mark.parametrize("columns", [60, 80])
def test_a_comparison_of_long_paths_wraps_no_path(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    interval = Interval(50.1, 45.0, 55.2)
    scores = dict.fromkeys(COMPARED_METRICS, interval)
    difference = dict.fromkeys(COMPARED_METRICS, Difference(interval, 0.03))
    paths = [f"/home/somebody/experiments/{name}-of-the-long-name/run" for name in ("one", "two")]
    print_comparison([Contender(paths[0], scores, None), Contender(paths[1], scores, difference)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"1  {paths[0]}", f"2  {paths[1]}"]
    assert all(len(line) <= columns for line in lines[2:])
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "query", "1 query"),
        (0, "query", "0 queries"),
        (2, "process", "2 processes"),
        (1234, "video", "1,234 videos"),
    ],
)
def test_things_are_counted_as_people_count(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


def test_a_query_is_named_by_its_sentence_and_an_id_only_if_somebody_gave_it() -> None:
    made = make_query_id("dog", "a dog digs")
    assert query_name(made, "dog", "a dog digs") == "'a dog digs' of 'dog'"
    assert query_name("7", "dog", "a dog digs") == "query '7', 'a dog digs' of 'dog'"
    assert len(query_name(made, "dog", "a dog digs " * 100)) < 130
