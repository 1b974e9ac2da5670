"""Found moments as files for other programs: clips and subtitles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import r2t.extract.video
from r2t.cli.answers.no_moment import nothing_found
from r2t.cli.shared import note, progress_bar
from r2t.store.errors import ConfigError
from r2t.store.files import write_whole
from r2t.train import model


def cut_moments(
    pool: r2t.extract.video.DecodePool, video: Path, grounding: model.Grounding, out: Path, top: int
) -> None:
    """Cut the best moments out of a video, under a progress bar; say so if there are none."""
    if nothing := nothing_found(grounding):
        note(f"nothing is cut: {nothing}")
        return
    cut_spans(pool, video, [(start, end) for start, end, _ in grounding.found(top).tolist()], out)


def cut_spans(
    pool: r2t.extract.video.DecodePool,
    video: Path,
    spans: Sequence[tuple[float, float]],
    out: Path,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Cut spans of seconds out of a video, under a progress bar."""
    with progress_bar("seconds cut", round(sum(end - start for start, end in spans))) as show_done:
        for path in pool.cut(
            video,
            spans,
            out,
            metadata=metadata,
            on_seconds=lambda done, total: show_done(round(done), round(total)),
        ):
            note(f"cut: {path}")


def write_subtitles(grounding: model.Grounding, query: str, path: Path, top: int) -> None:
    """Write the best moments as SubRip subtitles; say so if there are none."""
    if nothing := nothing_found(grounding):
        note(f"no subtitles are written: {nothing}")
        return
    write_whole(path, subtitles(grounding, query, top))
    note(f"subtitles: {path}")


def subtitles(grounding: model.Grounding, query: str, top: int) -> str:
    """Return the best moments as SubRip subtitles, in time order."""
    rows: list[list[float]] = grounding.found(top).tolist()
    ranked = enumerate(rows, start=1)
    text = " ".join(query.split())  # a blank line would end the subtitle
    caveat = f"; {grounding.caveat}" if grounding.caveat else ""
    blocks = [
        f"{place}\n{_clock(start)} --> {_clock(end)}\n{text}\n"
        f"moment {rank}, score {score:.3f}{caveat}\n"
        for place, (rank, (start, end, score)) in enumerate(
            sorted(ranked, key=lambda entry: entry[1]), start=1
        )
    ]
    return "\n".join(blocks)


def require_subtitle_path(path: Path) -> None:
    """Raise `ConfigError` if no subtitles can be written there, before work is spent on it."""
    if path.suffix.lower() != ".srt":
        raise ConfigError(f"{path}: subtitles are written as .srt")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist")


def _clock(seconds: float) -> str:
    thousandths = round(1000 * seconds)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{rest:03d}"
