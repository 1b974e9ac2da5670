"""TVSum's ydata-tvsum50.mat, whose scores are per frame.

A clip takes the score of its middle frame, as in tvsum_anno.json. The file gives seconds and frames
but no rate, so a video whose two durations disagree may get one clip more than there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import SaliencyLabels, Split
from r2t.store.datasets.fields import LABELLED_CLIP_SECONDS, MAX_CLIPS, MAX_SECONDS, check_text
from r2t.store.datasets.formats import AnnotationFormat, FileStart
from r2t.store.datasets.reading import Located, ReadReport
from r2t.store.datasets.splits import TVSUM_SPLITS, split_of
from r2t.store.datasets.whole_videos import MAX_FRAMES, check_title, whole_video_annotation
from r2t.store.errors import AnnotationError
from r2t.store.wording import counted

_MAGIC = b"MATLAB "
_FIELDS = ("video", "category", "title", "length", "nframes", "user_anno")


class TVSumMat(AnnotationFormat):
    """A MATLAB 7.3 file, which is HDF5: a struct a video."""

    name = "TVSum's .mat"
    suffixes = (".mat",)
    is_text = False
    has_published_splits = True

    def recognises(self, start: FileStart) -> bool:
        return start.content.startswith(_MAGIC)

    def read(self, path: Path, text: str, default: Split, report: ReadReport) -> Located:
        listed = split_of(TVSUM_SPLITS)
        try:
            with h5py.File(path, "r") as file:
                for where, struct in _structs(path, file):
                    video_id = check_text(_text(struct["video"]), f"{where}, video")
                    split = listed.get(video_id)
                    if split is None:
                        report.add("video", "in no split of the dataset (left out)")
                        continue
                    duration = float(_array(struct["length"], where).item())
                    saliency = _saliency(struct, duration, where)
                    title = check_title(_text(struct["title"]), f"{where}, title", report)
                    domain = check_text(_text(struct["category"]), f"{where}, category")
                    annotation = whole_video_annotation(
                        video_id, title, saliency, split, domain, duration
                    )
                    yield where, annotation
        except AnnotationError:
            raise
        except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise AnnotationError(f"{path} is not a readable TVSum .mat file: {error}") from error


def _structs(path: Path, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each video's datasets; a MATLAB struct array is a column of references per field."""
    table = file["tvsum50"]
    for index in range(table["video"].shape[0]):
        where = f"{path}, video {index + 1}"
        yield where, {key: file[table[key][index, 0]] for key in _FIELDS}


def _array(dataset: Any, where: str) -> NDArray[np.float64]:
    if dataset.size > 20 * MAX_FRAMES or dataset.dtype.kind not in "fiu":
        raise AnnotationError(f"{where}: an array of {dataset.size} {dataset.dtype} values")
    return np.asarray(dataset[()], dtype=np.float64)


def _text(dataset: Any) -> str:
    """Decode a text: one byte of its UTF-8 per character, quoted if it holds a comma."""
    if dataset.size > 10_000 or dataset.dtype != np.uint16 or (dataset[()] > 255).any():
        raise AnnotationError(f"{dataset.name} is not a MATLAB text")
    text = bytes(dataset[()].ravel().astype(np.uint8)).decode()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _saliency(struct: dict[str, Any], duration: float, where: str) -> SaliencyLabels:
    scores = _array(struct["user_anno"], where)  # [annotators, frames]
    num_clips = int(duration / LABELLED_CLIP_SECONDS) if 0 < duration <= MAX_SECONDS else 0
    if scores.ndim != 2 or not 0 < num_clips <= min(MAX_CLIPS, scores.shape[1]):
        raise AnnotationError(f"{where}: scores {scores.shape} for a video of {duration:g} s")
    frames_per_second = float(_array(struct["nframes"], where).item()) / duration
    middle = ((2 * np.arange(num_clips) + 1) * frames_per_second).astype(np.int64)
    if middle[-1] >= scores.shape[1]:
        raise AnnotationError(
            f"{where}: scores of {counted(scores.shape[1], 'frame')} end before the video"
        )
    clips = scores[:, middle].T.astype(np.float32)
    return SaliencyLabels(clips, LABELLED_CLIP_SECONDS, lowest=1.0, highest=5.0)
