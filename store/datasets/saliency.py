"""Readers of YouTube Highlights and TVSum: whole videos scored clip by clip.

The query is the video's title as it stands and the query id its video id; there are no moments. A
title may be empty, which is counted in the ReadReport: CLIP is then given its start and end token
alone, as the official features were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.datasets.annotation_fields import (
    MAX_CLIPS,
    MAX_SECONDS,
    Fields,
    check_sentence,
    check_text,
    parse_json,
)
from r2t.store.datasets.annotation_reading import Located, ReadReport
from r2t.store.datasets.moments import LABELLED_CLIP_SECONDS, parse_split
from r2t.store.datasets.splits import TVSUM_SPLITS, YOUTUBE_HIGHLIGHTS_SPLITS, split_of
from r2t.store.errors import AnnotationError
from r2t.store.wording import counted

_MAX_FRAMES = 10_000_000
_TVSUM_FIELDS = ("video", "category", "title", "length", "nframes", "user_anno")


def read_youtube_highlights(path: Path, text: str, default: Split, report: ReadReport) -> Located:
    """Read youtube_anno.json: video id → `match` (-1, 0 borderline, 1) of equally spaced clips.

    One released title is a blank. The clips overlap by half, yet count as duration / clips seconds
    each, the rate at which published models sample these videos.
    """
    listed = split_of(YOUTUBE_HIGHLIGHTS_SPLITS)
    for video_id, record in _records(path, text):
        split = _split(record, video_id, listed, report)
        if split is None:
            continue
        duration = _duration(record)
        match = np.array([record.numbers("match", low=-1, high=1)], dtype=np.float32).T
        if not 0 < len(match) <= MAX_CLIPS:
            raise AnnotationError(f"{record.at('match')} has {counted(len(match), 'clip')}")
        info = record.items("info")
        if len(info) < 6:
            raise AnnotationError(
                f"{record.at('info')} has {counted(len(info), 'entry')}; [5] is the title"
            )
        saliency = SaliencyLabels(match, duration / len(match), lowest=-1.0, highest=1.0)
        title = _title(info[5], f"{record.at('info')}[5]", report)
        domain = record.text("domain")
        yield record.where, _whole_video(video_id, title, saliency, split, domain, duration)


def read_tvsum_json(path: Path, text: str, default: Split, report: ReadReport) -> Located:
    """Read tvsum_anno.json: video id → `anno` [clips][annotators] of 1 to 5, clips of 2 s."""
    listed = split_of(TVSUM_SPLITS)
    for video_id, record in _records(path, text):
        split = _split(record, video_id, listed, report)
        if split is None:
            continue
        scores = record.matrix("anno", low=1, high=5).astype(np.float32)
        if not 0 < len(scores) <= MAX_CLIPS:
            raise AnnotationError(f"{record.at('anno')} has {counted(len(scores), 'clip')}")
        saliency = SaliencyLabels(scores, LABELLED_CLIP_SECONDS, lowest=1.0, highest=5.0)
        domain = record.text("domain")
        title = _title(record.value("title"), record.at("title"), report)
        duration = _duration(record)
        yield record.where, _whole_video(video_id, title, saliency, split, domain, duration)


def read_tvsum_mat(path: Path, report: ReadReport) -> Located:
    """Read TVSum's ydata-tvsum50.mat, whose scores are per frame.

    A clip takes the score of its middle frame, as in tvsum_anno.json. The file gives seconds and
    frames but no rate, so a video whose two durations disagree may get one clip more than there.
    """
    listed = split_of(TVSUM_SPLITS)
    try:
        with h5py.File(path, "r") as file:
            for where, struct in _mat_structs(path, file):
                video_id = check_text(_mat_text(struct["video"]), f"{where}, video")
                split = listed.get(video_id)
                if split is None:
                    report.add("video", "in no split of the dataset (left out)")
                    continue
                duration = float(_mat_array(struct["length"], where).item())
                saliency = _mat_saliency(struct, duration, where)
                title = _title(_mat_text(struct["title"]), f"{where}, title", report)
                domain = check_text(_mat_text(struct["category"]), f"{where}, category")
                yield where, _whole_video(video_id, title, saliency, split, domain, duration)
    except AnnotationError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise AnnotationError(f"{path} is not a readable TVSum .mat file: {error}") from error


def _mat_structs(path: Path, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each video's datasets; a MATLAB struct array is a column of references per field."""
    table = file["tvsum50"]
    for index in range(table["video"].shape[0]):
        where = f"{path}, video {index + 1}"
        yield where, {key: file[table[key][index, 0]] for key in _TVSUM_FIELDS}


def _mat_array(dataset: Any, where: str) -> NDArray[np.float64]:
    if dataset.size > 20 * _MAX_FRAMES or dataset.dtype.kind not in "fiu":
        raise AnnotationError(f"{where}: an array of {dataset.size} {dataset.dtype} values")
    return np.asarray(dataset[()], dtype=np.float64)


def _mat_text(dataset: Any) -> str:
    """Decode a text: one byte of its UTF-8 per character, quoted if it holds a comma."""
    if dataset.size > 10_000 or dataset.dtype != np.uint16 or (dataset[()] > 255).any():
        raise AnnotationError(f"{dataset.name} is not a MATLAB text")
    text = bytes(dataset[()].ravel().astype(np.uint8)).decode()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _mat_saliency(struct: dict[str, Any], duration: float, where: str) -> SaliencyLabels:
    scores = _mat_array(struct["user_anno"], where)  # [annotators, frames]
    num_clips = int(duration / LABELLED_CLIP_SECONDS) if 0 < duration <= MAX_SECONDS else 0
    if scores.ndim != 2 or not 0 < num_clips <= min(MAX_CLIPS, scores.shape[1]):
        raise AnnotationError(f"{where}: scores {scores.shape} for a video of {duration:g} s")
    frames_per_second = float(_mat_array(struct["nframes"], where).item()) / duration
    middle = ((2 * np.arange(num_clips) + 1) * frames_per_second).astype(np.int64)
    if middle[-1] >= scores.shape[1]:
        raise AnnotationError(
            f"{where}: scores of {counted(scores.shape[1], 'frame')} end before the video"
        )
    clips = scores[:, middle].T.astype(np.float32)
    return SaliencyLabels(clips, LABELLED_CLIP_SECONDS, lowest=1.0, highest=5.0)


def _records(path: Path, text: str) -> Iterator[tuple[str, Fields]]:
    videos = Fields(parse_json(text, str(path)), str(path))
    for key in videos:
        yield check_text(key, f"{path}, a video id"), videos.child(key)


def _split(
    record: Fields, video_id: str, listed: dict[str, Split], report: ReadReport
) -> Split | None:
    if "split" in record:
        return parse_split(record.value("split"), record.at("split"))
    if video_id not in listed:
        report.add("video", "in no split of the dataset (left out)")
    return listed.get(video_id)


def _title(value: object, where: str, report: ReadReport) -> str:
    title = check_sentence(value, where, empty=True)
    if not title.strip():
        report.add("title", "without a word (kept: CLIP is given its start and end token alone)")
    return title


def _duration(record: Fields) -> float:
    fps = record.number("fps", low=0.1, high=1000)
    return record.count("frames", high=_MAX_FRAMES) / fps


def _whole_video(
    video_id: str,
    title: str,
    saliency: SaliencyLabels,
    split: Split,
    domain: str,
    duration: float,
) -> Annotation:
    return Annotation(
        query_id=video_id,
        video_id=video_id,
        query=title,
        moments=np.zeros((0, 2)),
        saliency=saliency,
        split=split,
        domain=domain,
        duration_seconds=duration,
    )
