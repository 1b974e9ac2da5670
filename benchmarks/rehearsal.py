"""Do the commands of docs/reproducing.md work on the paper's files, from end to end?

Makes miniature copies of the six datasets and runs every command of the document as it stands, in
the order in which it stands there, from videos to the server's archive and from released features.
What is put in place of CLIP's weights and of hours of training is printed first. Videos are plain
shades of their real lengths; features, weights and other methods' predictions are made up.

    python benchmarks/rehearsal.py [--annotations DIR] [--out DIR] [--videos N]
        [--only WORD …] [--here]

--annotations is a folder of qvhighlights/highlight_{train,val,test}_release.jsonl,
charades/charades_sta_{train,test}.txt and charades_{train,test}_release.jsonl (the official
charades_{train,test}.jsonl), tacos/tacos_{train,val,test}_release.jsonl and original_test.json,
youtube/youtube_anno.json, tvsum/tvsum_anno.json and ydata-tvsum50.mat. Without it, files written by
hand with their names and oddities are used; of Ego4D-NLQ they always are. --only takes the commands
with one of these words, such as tacos. Each runs in a process of its own, as a reader runs it; with
--here all run in this one, which takes a fifth of the time. Prints for every command what it said
and how much arrived of what the files hold; the exit status is 1 if a command failed, or if
something is missing and no message says so.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rehearsal_steps.commands import (
    Carrier,
    Command,
    Said,
    carry_out_apart,
    carry_out_here,
    rehearse,
)
from rehearsal_steps.counts import Tally, arrivals
from rehearsal_steps.files import Miniature
from rehearsal_steps.highlights import tvsum, youtube
from rehearsal_steps.media import CLIP_FOLDER, SIZES, make_media, write_predictions
from rehearsal_steps.moments import charades, ego4d, qvhighlights, tacos
from rehearsal_steps.samples import write_samples

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "reproducing.md"
STAND_INS = {"extract": f"--model {CLIP_FOLDER} --offline", **SIZES}


@dataclass(frozen=True)
class Line:
    """One command: of which dataset, what it said, what arrived."""

    dataset: str
    command: Command
    said: Said
    tallies: Sequence[Tally]

    @property
    def right(self) -> bool:
        """Whether the command did what it should."""
        return self.said.status == 0 and all(tally.right for tally in self.tallies)


def prepare(annotations: Path | None, out: Path, num_videos: int) -> list[Miniature]:
    """Lay out all that the document's reader has, in a new folder."""
    if annotations is None:
        annotations = out / "samples"
        write_samples(annotations)
    builders = (qvhighlights, charades, tacos, ego4d, youtube, tvsum)
    miniatures = [builder(annotations, out, num_videos) for builder in builders]
    make_media(out, miniatures)
    held = miniatures[0].raw
    for seed, (name, split) in enumerate(
        (
            ("hl_val_submission.jsonl", "val"),
            ("hl_test_submission.jsonl", "test"),
            ("mine.jsonl", "val"),
            ("theirs.jsonl", "val"),
        )
    ):
        queries = [query for query in held.queries if query.split == split]
        write_predictions(out / name, queries, held, seed)
    return miniatures


def carry_out(
    out: Path,
    miniatures: Sequence[Miniature],
    carrier: Carrier = carry_out_apart,
    wanted: Callable[[Command], bool] = lambda command: True,
) -> Iterator[Line]:
    """Run the document's commands in a prepared folder, and count what arrives."""
    for command, said in rehearse(DOCUMENT, out, STAND_INS, carrier, wanted):
        miniature = next(
            (each for each in miniatures if any(word in str(command) for word in each.words)), None
        )
        if miniature is None:
            raise SystemExit(f"{command.place}: {command} is of none of the datasets")
        yield Line(miniature.name, command, said, arrivals(command, said, miniature, out))


def summary(line: Line) -> str:
    """Return what a command said as one line: its answer and its warnings, else its last note."""
    notes = line.said.notes.strip().splitlines()
    answer = [each for each in line.said.answer.splitlines() if re.search(r"\w", each)]
    told = [
        each
        for each in notes
        if re.match(r"warning|note|error|failed|not stored|annotated|left out", each)
    ]
    scores = [each for each in answer if re.search(r"\d\.\d", each)]
    if line.command.name == "eval" and scores:
        told.insert(0, f"scores: {scores[0]}")
    elif answer:
        told.insert(0, answer[-1])
    elif notes and not told:
        told.append(notes[-1])
    return "; ".join(" ".join(each.split()) for each in told) or "nothing"


def table(lines: Sequence[Line]) -> str:
    """Return a Markdown table of all commands."""
    rows = ["| dataset | command | exit | arrived | said |", "| --- | --- | --- | --- | --- |"]
    for line in lines:
        cells = (
            line.dataset,
            f"{line.command.name} {' '.join(_subject(line.command))}",
            str(line.said.status),
            "; ".join(map(str, line.tallies)) or "-",
            summary(line),
        )
        rows.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(rows)


def _subject(command: Command) -> list[str]:
    """Return the options that tell one of a dataset's commands from the others."""
    names = ("--store", "--checkpoint", "--split", "--domain", "--predictions", "--out")
    return [value for name in names if (value := command.option(name))] or list(
        command.words[len(command.name.split()) :][:2]
    )


def main() -> int:
    """Rehearse, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--annotations", type=Path, help="the released files, by dataset")
    parser.add_argument("--out", type=Path, help="a new folder, to keep everything in")
    parser.add_argument("--videos", type=int, default=3, help="of a split or domain, at least")
    parser.add_argument("--only", nargs="*", default=(), help="words of commands to run")
    parser.add_argument("--here", action="store_true", help="run all commands in this process")
    options = parser.parse_args()
    carrier = carry_out_here if options.here else carry_out_apart

    def is_wanted(command: Command) -> bool:
        return not options.only or any(word in str(command) for word in options.only)

    with tempfile.TemporaryDirectory(prefix="r2t-rehearsal-") as name:
        out = Path(name) if options.out is None else options.out
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            parser.error(f"--out {out} is not empty")
        for command, extra in STAND_INS.items():
            print(f"stand-in: r2t {command} … {extra}")
        miniatures = prepare(options.annotations, out, options.videos)
        for each in miniatures:
            hours = float(sum(each.seconds.values())) / 3600
            print(f"{each.name}: {len(each.seconds)} videos of {hours:.2f} h", flush=True)
        lines: list[Line] = []
        for line in carry_out(out, miniatures, carrier, is_wanted):
            lines.append(line)
            state = "" if line.right else "WRONG "
            print(f"{state}{line.said.seconds:6.1f} s  r2t {line.command}", flush=True)
            with (out / "transcript.txt").open("a", encoding="utf-8") as transcript:
                transcript.write(f"$ r2t {line.command}\n{line.said.answer}{line.said.notes}")
                transcript.write(f"[exit status {line.said.status}]\n\n")
    print(table(lines))
    wrong = [line for line in lines if not line.right]
    print(f"{len(lines)} commands, {len(wrong)} of them wrong")
    for line in wrong:
        print(f"wrong: {line.command.place}: r2t {line.command}: {summary(line)}")
    return bool(wrong) or not lines


if __name__ == "__main__":
    sys.exit(main())
