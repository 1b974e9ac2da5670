"""An answer in a terminal: the best moments, and the saliency over time."""

from __future__ import annotations

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

import r2t.train.model
from r2t.cli.answers.curves import highest_of_parts
from r2t.cli.answers.no_moment import nothing_found
from r2t.cli.shared import cell, minutes, span

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 60


def grounding_table(
    grounding: r2t.train.model.Grounding, video: str, query: str, top: int
) -> Group:
    """Lay out the best moments, and the saliency over time."""
    title = Text.assemble((query, "bold"), f"  in {video}")
    table = Table()
    table.add_column("", justify="right")
    table.add_column("moment", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("score", justify="right")
    for rank, (start, end, score) in enumerate(grounding.found(top).tolist(), start=1):
        table.add_row(str(rank), cell(span(start, end)), f"{end - start:.1f}", f"{score:.3f}")
    curve = sparkline(grounding.saliency, SPARK_COLUMNS)
    end = minutes(grounding.duration_seconds)
    axis = f"0:00{end:>{max(len(end) + 1, len(curve) - 4)}}"
    peak = int(grounding.saliency.argmax())
    peak_time = minutes((peak + 0.5) / grounding.frame_rate_fps)
    saliency = Text.assemble(
        ("saliency", "bold"), f", highest at {peak_time}\n", (curve, "cyan"), f"\n{axis}"
    )
    caveat = [Text(grounding.caveat, style="yellow")] if grounding.caveat else []
    nothing = nothing_found(grounding)
    return Group(title, table if nothing is None else nothing, saliency, *caveat)


def sparkline(scores: np.ndarray, num_columns: int) -> str:
    """Draw scores as blocks from the lowest to the highest, each column by the highest in it."""
    columns = highest_of_parts(scores, num_columns).tolist()
    low, high = min(columns), max(columns)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((score - low) * scale)] for score in columns)
