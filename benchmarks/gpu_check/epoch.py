"""How long an epoch of QVHighlights would take, from what the other sections measured, and why.

Reading, moving and computing overlap, so the slowest of them sets the pace.
"""

from __future__ import annotations

from gpu_check.names import COMPILED, LOOP, PINNED, step_name, way_name
from gpu_check.report import Report, Row, read_rows
from gpu_check.setting import Setting

NUM_QUERIES, REPEATS = 7218, 4  # of its training split, and passes an epoch
LOOKS = (LOOP, COMPILED, "whole", "tiled", "reference")
BYTES = {"float16": 2, "int8": 1}


def run(setting: Setting, report: Report) -> None:
    """Put together what is known; an epoch of what was not measured is left out."""
    sizes = setting.sizes
    size = max(sizes.batch_sizes)
    steps = -(-NUM_QUERIES // size) * REPEATS
    values = sizes.num_layers * sizes.num_frames * sizes.num_tokens * sizes.vision_width
    known = {
        row.name: row
        for section in ("ceilings", "ring", "steps")
        for row in read_rows(setting.folder / f"{section}.jsonl")
    }
    for look in LOOKS:
        name = step_name(look, "fp16", size)
        step = _value(known, name)
        if step is None:
            report.unavailable(f"epoch, {look}", f"the step {name!r} was not measured")
            continue
        _epoch(report, f"{look}, all on the device", steps, {"the step": step / 1000})
        for dtype, width in BYTES.items():
            num_bytes = size * values * width
            parts = {"the step": step / 1000}
            read = _value(known, f"{way_name(None, dtype, 'uniform')}: rate")
            if read is not None:
                parts["reading the store"] = num_bytes / read / 1e9
            bus = _value(known, PINNED)
            if bus is not None:
                parts["the bus"] = num_bytes / bus / 1e9
            _epoch(report, f"{look}, {dtype} from the store", steps, parts)


def _value(known: dict[str, Row], name: str) -> float | None:
    row = known.get(name)
    return None if row is None else row.value


def _epoch(report: Report, name: str, steps: int, parts: dict[str, float]) -> None:
    bound = max(parts, key=lambda part: parts[part])
    note = f"{steps} steps, bound by {bound}"
    others = [f"{part} {1000 * seconds:.1f} ms" for part, seconds in parts.items()]
    report.measure(f"epoch, {name}", steps * parts[bound], "s", f"{note}: {', '.join(others)}")
