"""The documented commands of the six datasets run on small files with the real ones' oddities.

Two domains stand for all those of YouTube Highlights and TVSum; `benchmarks/rehearsal.py` runs
every command, in processes of their own, and on the released annotation files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rehearsal import Line, carry_out, prepare, summary
from rehearsal_steps.commands import Command, carry_out_here
from rehearsal_steps.counts import arrivals
from rehearsal_steps.files import Held, Miniature, Query

DOMAINS = ("dog", "BK")


def is_of_the_cut(command: Command) -> bool:
    """Whether a command is of no domain, or of the two."""
    named = " ".join(command.words)
    domain = command.option("--domain")
    if command.name == "import-checkpoint" and ("youtube" in named or "tvsum" in named):
        return named.split()[2].endswith(DOMAINS)
    return domain is None or domain in DOMAINS


@dataclass(frozen=True)
class Rehearsed:
    """A folder in which the commands have run, and what they said."""

    out: Path
    miniatures: dict[str, Miniature]
    lines: list[Line]


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    """Run the commands once."""
    out = tmp_path_factory.mktemp("rehearsal")
    miniatures = prepare(None, out, 1)
    lines = list(carry_out(out, miniatures, carry_out_here, is_of_the_cut))
    return Rehearsed(out, {each.name: each for each in miniatures}, lines)


def test_every_documented_command_brings_along_what_the_files_hold(rehearsed: Rehearsed) -> None:
    wrong = [f"{line.command}: {summary(line)}" for line in rehearsed.lines if not line.right]
    assert wrong == []
    assert {line.dataset for line in rehearsed.lines} == rehearsed.miniatures.keys()
    assert len(rehearsed.lines) == len({str(line.command) for line in rehearsed.lines}) > 35


def test_what_is_missing_without_a_message_is_wrong(rehearsed: Rehearsed) -> None:
    counted = [line for line in rehearsed.lines if line.tallies]
    assert {line.command.name for line in counted} > {"extract", "train", "eval", "submission"}
    for line in counted:
        dataset = rehearsed.miniatures[line.dataset]
        more = replace(
            dataset,
            raw=with_more(dataset.raw),
            released=with_more(dataset.released),
            variants={name: with_more(held) for name, held in dataset.variants.items()},
        )
        if line.command.name != "import-checkpoint":
            found = arrivals(line.command, line.said, more, rehearsed.out)
            assert not all(tally.right for tally in found), line.command
    silent = {
        line.command
        for line in counted
        if not all(
            tally.right
            for tally in arrivals(
                line.command,
                replace(line.said, notes=""),
                rehearsed.miniatures[line.dataset],
                rehearsed.out,
            )
        )
    }
    assert {command.option("--store") for command in silent} == {
        "ego4d.zarr",  # whose files hold queries without text
        "youtube.zarr",
        "official-youtube.zarr",  # whose files hold videos of no split
    }


def with_more(held: Held) -> Held:
    """Return files that hold a query more, of a video more, in every split and domain."""
    kinds = {(each.split, each.domain) for each in held.queries if not each.left_out}
    more = [Query(f"lost{number}", "lost", *kind) for number, kind in enumerate(sorted(kinds))]
    return Held({**held.frames, "lost": 9}, [*held.queries, *more], held.num_moments)
