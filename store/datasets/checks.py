"""What is wrong with annotations: every finding of a file, where `read_annotations` stops at one.

Rows are read by the very readers that extraction uses, which report a bad row and go on, so what
passes here is what extraction accepts. Nothing is changed or repaired.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from r2t.store.annotations import Annotation, Split
from r2t.store.datasets.findings import Finding, Rows
from r2t.store.datasets.reading import ReadReport
from r2t.store.datasets.registry import find_format, open_annotations, split_of_stem
from r2t.store.datasets.text import marked_encoding, read_content
from r2t.store.errors import AnnotationError
from r2t.store.progress import OnProgress, no_progress
from r2t.store.video_names import VideoNames, differ_by_camera

_TOLERANCE_SECONDS = 0.5  # videos end within a frame of what files say


def read_leniently(
    path: str | Path,
    split: Split | None = None,
    on_rows: OnProgress = no_progress,
) -> Rows:
    """Read what can be read of an annotation file; raise `AnnotationError` if it cannot be opened.

    Formats with a row a line give every bad row; the others stop at their first. `on_rows` is told
    now and then how many rows of about how many have been read.
    """
    path = Path(path)
    rows = Rows()
    content = _readable(path, read_content(path), rows)
    report = ReadReport(on_bad_row=rows.complain, on_rows=on_rows)
    try:
        located, listed = _open(path, content, split, report, rows)
        for where, row in located:
            if listed or split in (None, row.split):
                rows.located.append((where, row))
            else:
                rows.located.append((where, replace(row, split=split)))
    except AnnotationError as error:
        rows.complain(str(path), error)
    rows.findings.extend(Finding("changed_on_reading", str(path), told) for told in report.told())
    return rows


def _open(
    path: Path, content: bytes, split: Split | None, report: ReadReport, rows: Rows
) -> tuple[Iterator[tuple[str, Annotation]], bool]:
    try:
        return open_annotations(path, content, split, report)
    except AnnotationError:
        if split is not None:
            raise
        try:
            split_of_stem(path)
        except AnnotationError as error:  # its name says two splits; its rows can be read
            rows.complain(str(path), error)
            return open_annotations(path, content, "train", report)
        raise


def _readable(path: Path, content: bytes, rows: Rows) -> bytes:
    """Return content that can be decoded: as UTF-8 if it is in Windows' encoding instead."""
    marked, found = marked_encoding(content), find_format(content)
    if marked is not None:
        name = "UTF-16" if marked == "utf-16" else "UTF-8"
        message = f"the file starts with a byte order mark ({name})"
        rows.findings.append(Finding("byte_order_mark", str(path), message))
    elif (found is None or found.is_text) and b"\0" not in content:
        try:
            content.decode()
        except UnicodeDecodeError as error:
            message = f"not UTF-8 (byte {error.start}), perhaps cp1252"
            rows.findings.append(Finding("encoding", str(path), message))
            return content.decode("cp1252", errors="replace").encode()
    return content


def check_annotations(
    located: Sequence[tuple[str, Annotation]], frame_rate_fps: float
) -> Iterator[Finding]:
    """Find what annotations say wrong of themselves, whatever the videos are."""
    ids: dict[str, str] = {}
    sentences: dict[tuple[str, str], str] = {}
    splits: dict[str, set[str]] = {}
    for where, row in located:
        if row.query_id in ids:
            yield Finding(
                "duplicate_id", where, f"{row.name} was already given at {ids[row.query_id]}"
            )
        elif (row.video_id, row.query) in sentences:
            earlier = sentences[row.video_id, row.query]
            yield Finding("duplicate_query", where, f"{row.query!r} was already asked at {earlier}")
        ids.setdefault(row.query_id, where)
        sentences.setdefault((row.video_id, row.query), where)
        splits.setdefault(row.video_id, set()).add(row.split)
        if not (row.query.strip() or row.is_title):
            yield Finding("empty_query", where, f"the sentence of {row.name} is empty")
        yield from _check_moments(where, row, frame_rate_fps)
    for video_id, names in splits.items():
        if len(names) > 1:
            yield Finding("two_splits", video_id, f"in {' and '.join(sorted(names))}")


def check_against_videos(
    located: Sequence[tuple[str, Annotation]], durations_seconds: Mapping[str, float | str]
) -> Iterator[Finding]:
    """Find what annotations say wrong of the videos.

    `durations_seconds` has every video of the folder: its duration, or why it cannot be decoded.
    """
    names = VideoNames(durations_seconds)
    meant: dict[str, str | None] = {}
    for where, row in located:
        told = row.video_id in meant
        video_id = meant.setdefault(row.video_id, None if told else names.find(row.video_id))
        found = None if video_id is None else durations_seconds[video_id]
        if video_id is not None and not told and differ_by_camera(row.video_id, video_id):
            yield Finding("camera_in_name", row.video_id, f"taken for the video {video_id!r}")
        if isinstance(found, float):
            yield from _check_times(where, row, found)
        elif not told and found is None:
            hint = names.hint(row.video_id)
            message = f"no video {row.video_id!r}" + (f"; {hint}" if hint else "")
            yield Finding("missing_video", where, message)
        elif not told:
            yield Finding("damaged_video", row.video_id, str(found))
    annotated = set(meant.values())
    for video_id in durations_seconds:
        if video_id not in annotated:
            yield Finding("unannotated_video", video_id, "no query asks about it")


def _check_moments(where: str, row: Annotation, frame_rate_fps: float) -> Iterator[Finding]:
    moments: list[tuple[float, float]] = [(start, end) for start, end in row.moments.tolist()]
    if not moments and row.saliency is None and row.split != "test":
        yield Finding("unlabelled", where, f"{row.query!r} has no moment")
    for start, end in moments:
        if start == end:
            yield Finding("no_length", where, f"[{start:g}, {end:g}]")
        elif end - start < 1 / frame_rate_fps:
            seconds = f"{1 / frame_rate_fps:g} s at {frame_rate_fps:g} fps"
            yield Finding(
                "too_short", where, f"[{start:g}, {end:g}]; a sampled frame lasts {seconds}"
            )
    ordered = sorted(moments)
    for (start, end), (later_start, later_end) in itertools.pairwise(ordered):
        pair = f"[{start:g}, {end:g}] and [{later_start:g}, {later_end:g}]"
        if (start, end) == (later_start, later_end):
            yield Finding("repeated_moment", where, f"[{start:g}, {end:g}]")
        elif later_start < end:
            yield Finding("overlap", where, pair)


def _check_times(where: str, row: Annotation, duration_seconds: float) -> Iterator[Finding]:
    stated = row.duration_seconds
    if stated is not None and not row.states_duration(duration_seconds):
        yield Finding(
            "wrong_duration",
            where,
            f"{row.video_id}: {stated:g} s stated, the video lasts {duration_seconds:.2f} s",
        )
    for start, end in row.moments.tolist():
        if end > duration_seconds + _TOLERANCE_SECONDS:
            yield Finding(
                "out_of_range",
                where,
                f"[{start:g}, {end:g}] of {row.video_id}, which ends at {duration_seconds:.2f} s",
            )
