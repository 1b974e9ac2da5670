"""Is reading, checking and joining annotations linear in their number, and how fast is it?

Writes tables and JSON lines of simulated rows, five sentences a video, and takes each step of
`r2t data check` and of what `r2t extract` does before it decodes, beside Python's own csv or json
alone. Seconds are of the processor, so that other programs disturb less; every file is read once.

    python benchmarks/annotations_scale.py [--rows 10000 100000 1000000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from r2t.extract.queries import find_rewordings, without_repetitions
from r2t.store.datasets.checks import (
    check_against_videos,
    check_annotations,
    read_leniently,
)
from r2t.store.datasets.registry import read_annotations
from r2t.store.video_names import VideoNames, match_videos

ROWS_PER_VIDEO = 5
SECONDS = 150.0


def write_table(path: Path, num_rows: int) -> None:
    """Write rows as a spreadsheet saves them."""
    with path.open("w", encoding="utf-8") as file:
        file.write("video,query,start,end\n")
        for row in range(num_rows):
            start = row % 50
            file.write(f"v{row // ROWS_PER_VIDEO}.mp4,a person does {row},{start}.5,{start + 7}\n")


def write_lines(path: Path, num_rows: int) -> None:
    """Write rows in QVHighlights' form."""
    with path.open("w", encoding="utf-8") as file:
        for row in range(num_rows):
            fields = {
                "qid": row,
                "query": f"a person does {row}",
                "vid": f"v{row // ROWS_PER_VIDEO}",
                "duration": SECONDS,
                "relevant_windows": [[row % 50, row % 50 + 7]],
            }
            file.write(json.dumps(fields) + "\n")


def steps(folder: Path, num_rows: int) -> dict[str, float]:
    """Return the rows a second of each step."""
    table, lines = folder / "rows.csv", folder / "rows.jsonl"
    write_table(table, num_rows)
    write_lines(lines, num_rows)
    found: dict[str, float] = {}

    def take(name: str, step: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = step()
        found[name] = num_rows / (time.process_time() - began)
        return result

    with table.open(newline="", encoding="utf-8") as file:
        take("csv alone", lambda: list(csv.DictReader(file)))
    with lines.open(encoding="utf-8") as file:
        take("json alone", lambda: [json.loads(line) for line in file])
    take("read JSON lines", lambda: read_annotations(lines))
    rows = take("read table", lambda: read_annotations(table))
    located = take("read table leniently", lambda: read_leniently(table)).located
    names = [f"v{number}" for number in range(-(-num_rows // ROWS_PER_VIDEO))]
    take("check rows", lambda: list(check_annotations(located, 0.5)))
    there: dict[str, float | str] = dict.fromkeys(names, SECONDS)
    take("check against videos", lambda: list(check_against_videos(located, there)))
    absent: dict[str, float | str] = {f"other {name}": SECONDS for name in names}
    take("… none of which is there", lambda: list(check_against_videos(located, absent)))
    take("match videos", lambda: match_videos(rows, VideoNames(names)))
    given = take("find repetitions", lambda: without_repetitions(rows))
    stored = {each.query_id: each for each in given[::2]}
    take("find rewordings", lambda: find_rewordings(stored, given[1:], given[1:]))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table: a row for each step, a column for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="Where to write; by default a temporary one.")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        columns = {num_rows: steps(Path(folder), num_rows) for num_rows in options.rows}
    first = next(iter(columns.values()))
    print(f"{'thousand rows a second, of':30}" + "".join(f"{n:>12,}" for n in columns))
    for step in first:
        print(f"{step:30}" + "".join(f"{each[step] / 1000:12.0f}" for each in columns.values()))


if __name__ == "__main__":
    main()
