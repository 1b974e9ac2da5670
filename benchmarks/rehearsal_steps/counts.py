"""What arrived of a dataset's files in stores, runs and predictions, held against the files."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from r2t.store import FeatureStore
from r2t.store.errors import StoreError
from r2t.train.model.official import TEMPERATURE
from rehearsal_steps.commands import Command, Said
from rehearsal_steps.files import Held, Miniature, Query


@dataclass(frozen=True)
class Tally:
    """How many of something arrived, of how many there are; `said` are left out with a message."""

    noun: str
    arrived: int
    held: int
    said: int = 0

    @property
    def right(self) -> bool:
        """Whether all arrived, but for what a message says was left out."""
        return self.arrived + self.said == self.held

    def __str__(self) -> str:
        left_out = f", {self.said} left out with a message" if self.said else ""
        wrong = "" if self.right else " WRONG"
        return f"{self.arrived}/{self.held} {self.noun}{left_out}{wrong}"


@dataclass(frozen=True)
class Case:
    """A command that is over, the folder it ran in, and what the files it was about hold.

    `queries` are those that it should bring along, where it chooses by domain or split.
    """

    command: Command
    said: Said
    out: Path
    held: Held
    queries: tuple[Query, ...]

    def path(self, option: str) -> Path:
        """Return the file or folder that an option names."""
        return self.out / str(self.command.option(option))


def arrivals(command: Command, said: Said, dataset: Miniature, out: Path) -> list[Tally]:
    """Count what a command brought along; nothing of commands that only compute scores."""
    held = dataset.released if "official" in str(command) else dataset.raw
    held = dataset.variants.get(str(command.option("--store")), held)
    domain = command.option("--domain")
    queries = tuple(
        each for each in held.queries if not each.left_out and domain in (None, each.domain)
    )
    count = _COUNTS.get(command.name)
    if count is None:
        return []
    try:
        return list(count(Case(command, said, out, held, queries)))
    except (OSError, StoreError):  # of a command that did not come so far
        return [Tally("results", 0, 1)]


def _count_store(case: Case) -> Iterator[Tally]:
    """Count queries whose videos are there too."""
    store, held, notes = FeatureStore.open(str(case.path("--store"))), case.held, case.said.notes
    lengths = store.lengths()
    known = [video for video in held.frames if video in lengths]
    unasked = {each.video for each in held.queries if each.left_out}.difference(known)
    line = "".join(each for each in notes.splitlines() if each.startswith("left out"))
    told = sum(video in line for video in unasked.intersection(held.frames))
    yield Tally("videos", len(known), len(held.frames), told)
    yield Tally("frames", sum(lengths[v] for v in known), sum(held.frames[v] for v in known))
    arrived = {
        (row.query_id, row.video_id, row.split)
        for row in store.annotations()
        if row.video_id in lengths
    }
    given = {(each.query_id, each.video, each.split) for each in held.queries}
    phrases = {each.left_out for each in held.queries if each.left_out}
    told = sum(_number(rf"([\d,]+) [a-z ]+ {re.escape(phrase)}", notes) for phrase in phrases)
    yield Tally("queries", len(arrived & given), len(given), told)


def _count_training(case: Case) -> Iterator[Tally]:
    text = (case.path("--out") / "config.json").read_text(encoding="utf-8")
    trained_on = json.loads(text)["trained_on"]
    for split in ("train", "val"):
        count = sum(each.split == split for each in case.queries)
        yield Tally(f"{split} queries", trained_on[f"num_{split}_queries"], count)


def _count_answers(case: Case) -> Iterator[Tally]:
    if case.command.option("--checkpoint") is None:
        return
    split = case.command.option("--split") or "val"
    parts = ("eval", split, case.command.option("--domain"))
    path = case.path("--checkpoint") / "-".join(filter(None, parts)) / "predictions.jsonl"
    queries = [each for each in case.queries if each.split == split]
    yield _answers("answers", path.read_text(encoding="utf-8"), queries)


def _count_archive(case: Case) -> Iterator[Tally]:
    with zipfile.ZipFile(case.out / case.command.words[1]) as archive:
        for split in ("val", "test"):
            text = archive.read(f"hl_{split}_submission.jsonl").decode()
            queries = [each for each in case.queries if each.split == split]
            yield _answers(f"answers of {split}", text, queries)


def _answers(noun: str, text: str, queries: Iterable[Query]) -> Tally:
    """Count the queries that predictions answer; a row too many is as wrong as one that lacks."""
    rows = [json.loads(line) for line in text.splitlines()]
    answered = {(str(row.get("qid", row["vid"])), row["vid"]) for row in rows}
    given = {(each.query_id, each.video) for each in queries}
    surplus = len(rows) - len(answered & given)
    return Tally(noun, len(answered & given) + surplus, len(given))


def _count_parameters(case: Case) -> Iterator[Tally]:
    state = torch.load(case.out / case.command.words[1], weights_only=True)["state_dict"]
    count = sum(tensor.numel() for name, tensor in state.items() if name != TEMPERATURE)
    yield Tally("parameters", _number(r"([\d,]+) parameters", case.said.answer), count)


def _count_checked(case: Case) -> Iterator[Tally]:
    answer = case.said.answer
    yield Tally("videos", _number(r"([\d,]+) videos?\b", answer), len(case.held.frames))
    yield Tally("queries", _number(r"([\d,]+) quer", answer), len(case.queries))
    yield Tally("moments", _number(r"([\d,]+) moments?\b", answer), case.held.num_moments)


def _number(pattern: str, text: str) -> int:
    """Add up a number wherever a text says it."""
    return sum(int(found.replace(",", "")) for found in re.findall(pattern, text))


_COUNTS: dict[str, Callable[[Case], Iterator[Tally]]] = {
    "extract": _count_store,
    "store import": _count_store,
    "train": _count_training,
    "eval": _count_answers,
    "submission": _count_archive,
    "import-checkpoint": _count_parameters,
    "data check": _count_checked,
}
