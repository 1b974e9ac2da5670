"""Features in other shapes: the released `.npy` files of R²-Tuning, in and out.

The released features are one file a video, `{vid}.npy` float16 [frames, layers, tokens, width], and
one file a query, `{qid}.npy` float16 [words, layers, text_width]; a query of YouTube Highlights and
TVSum has its video's id, and a video of TACoS has its camera in its name. Files say nothing about
the CLIP that made them, so an imported store has `UNKNOWN_WEIGHTS` where the digest of the weights
would be.

Everything is streamed: one window of frames is in memory. A file that is there is whole.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from r2t.store.annotations import Annotation
from r2t.store.check import warn_of_other_cuts
from r2t.store.errors import AnnotationWarning, ConfigError, VideoError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures, VideoSource
from r2t.store.files import appearing
from r2t.store.format import QUERIES_PER_PART, TokenLayout, storage_errors
from r2t.store.progress import OnProgress, no_progress
from r2t.store.quantize import dequantize
from r2t.store.schema import PER_VIDEO, UNKNOWN_WEIGHTS, FeatureSpec
from r2t.store.video_names import VideoNames, match_videos, name_of_features
from r2t.store.wording import counted
from r2t.store.writer import StoreWriter

"""Told how many videos are done."""

_MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did: counts, and why each file in `failures` was left out.

    `num_skipped` videos were there already; those `without_rate` have a frame rate of their own,
    which no annotation tells, and were left out. `missing` names the annotated videos that are not
    in the store, each with the one that it may be meant for; their `num_withheld_queries` were left
    out, too.
    """

    num_videos: int
    num_skipped: int
    num_queries: int
    failures: Mapping[str, str]
    without_rate: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    num_withheld_queries: int = 0

    @property
    def complete(self) -> bool:
        """Whether all that was asked for, and has a frame rate, was done."""
        return not (self.failures or self.missing)


def official_spec(
    *,
    model: str = "ViT-B-32-quickgelu",
    layers: Sequence[int] = (9, 10, 11, 12),
    frame_rate: float | Literal["per-video"] = 0.5,
    num_tokens: int = 50,
    vision_width: int = 768,
    text_width: int = 512,
) -> FeatureSpec:
    """Return the identity of the released features: CLIP ViT-B/32, its last four layers."""
    return FeatureSpec(
        model=model,
        weights_sha256=UNKNOWN_WEIGHTS,
        vision_layers=tuple(layers),
        text_layers=tuple(layers),
        frame_rate=frame_rate,
        num_tokens=num_tokens,
        vision_width=vision_width,
        text_width=text_width,
        image_size=224,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resize="ffmpeg-short-side-bicubic-centre-crop",
    )


def import_r2_npy(
    store: FeatureStore,
    videos: Path,
    queries: Path,
    annotations: Sequence[Annotation],
    *,
    on_video: OnProgress = no_progress,
) -> TransferReport:
    """Add released features to a store: all files of `videos`, and the annotated ones of `queries`.

    Videos that the store has are skipped, so the same call resumes. A video lasts as long as its
    annotations say, else as many slots as it has frames; one with a frame rate of its own that
    nobody annotated is left out, and so are queries of videos that the store lacks. Files that
    cannot be used are reported and do not stop the rest; a failing disk does.
    """
    files = sorted(videos.glob("*.npy"))
    if not files:
        raise ConfigError(f"{videos} holds no .npy files; give the folder of the videos' features")
    names = VideoNames(file.stem for file in files)
    annotations = match_videos(annotations, names)
    durations = {a.video_id: a.duration_seconds for a in annotations if a.duration_seconds}
    own_rate = store.spec.frame_rate == PER_VIDEO
    without_rate = tuple(f.stem for f in files if own_rate and f.stem not in durations)
    known = [file for file in files if not own_rate or file.stem in durations]
    if not known:
        raise ConfigError(
            "each video has its own frame rate, but no annotation says how long it lasts"
        )
    failures: dict[str, str] = {}
    num_skipped = 0
    with store.writer() as writer, _noting_odd_durations() as odd:
        for number, file in enumerate(known, start=1 + len(without_rate)):
            try:
                if store.has_video(file.stem):
                    writer.index(file.stem)
                    num_skipped += 1
                else:
                    _import_video(writer, store.spec, file, durations.get(file.stem), odd)
            except (VideoError, ConfigError) as error:
                failures[str(file)] = str(error)
            on_video(number, len(files))
        num_videos = len(known) - num_skipped - len(failures)
        there = {name: store.has_video(name) for name in {each.video_id for each in annotations}}
        usable = [each for each in annotations if there[each.video_id]]
        num_queries = 0
        for start in range(0, len(usable), QUERIES_PER_PART):
            rows = usable[start : start + QUERIES_PER_PART]
            num_queries += _import_queries(writer, store.spec, queries, rows, failures)
    missing = tuple(
        name if names.find(name) == name else names.named(name)
        for name in sorted(there)
        if not there[name]
    )
    store.refresh()
    warn_of_other_cuts(store, usable)
    num_withheld = len(annotations) - len(usable)
    return TransferReport(
        num_videos, num_skipped, num_queries, failures, without_rate, missing, num_withheld
    )


def export_r2_npy(
    store: FeatureStore, videos: Path, queries: Path, *, on_video: OnProgress = no_progress
) -> TransferReport:
    """Write a store's features as the released files are; eight-bit tokens become float16.

    Files that are there already are kept. A video stored as TACoS' annotations name it gets its
    camera's name, as in the released files.
    """
    failures: dict[str, str] = {}
    num_skipped = num_queries = 0
    with storage_errors(videos):
        for folder in (videos, queries):
            folder.mkdir(parents=True, exist_ok=True)
        lengths = store.lengths()
        for number, (video_id, num_frames) in enumerate(lengths.items(), start=1):
            file = _file_of(name_of_features(video_id), videos, failures)
            if file is not None and file.exists():
                num_skipped += 1
            elif file is not None:
                _export_video(store, video_id, num_frames, file)
            on_video(number, len(lengths))
        num_videos = len(lengths) - num_skipped - len(failures)
        for query_id in store.query_digests():
            file = _file_of(query_id, queries, failures)
            if file is not None and not file.exists():
                with appearing(file) as unfinished, unfinished.open("wb") as stream:
                    tokens = np.swapaxes(store.read_query(query_id).tokens, 0, 1)
                    np.save(stream, np.ascontiguousarray(tokens), allow_pickle=False)
                num_queries += 1
    return TransferReport(num_videos, num_skipped, num_queries, failures)


def _import_video(
    writer: StoreWriter, spec: FeatureSpec, file: Path, duration: float | None, odd: list[str]
) -> None:
    frames = _open_npy(file, (spec.num_layers, spec.num_tokens, spec.vision_width))
    num_frames = len(frames)
    if spec.frame_rate != PER_VIDEO:
        frame_rate_fps = float(spec.frame_rate)
    else:
        assert duration is not None, "others are left out"
        frame_rate_fps = num_frames / duration
    covered = num_frames / frame_rate_fps
    if duration is not None and abs(covered - duration) > max(2 / frame_rate_fps, 0.05 * duration):
        odd.append(
            f"{file.stem} ({counted(num_frames, 'frame')}: {covered:g} s, not {duration:g} s)"
        )
    with writer.video(
        file.stem,
        num_frames=num_frames,
        duration_seconds=covered if duration is None else duration,
        frame_rate_fps=frame_rate_fps,
        source=VideoSource(
            name=file.name, num_bytes=file.stat().st_size, sha256="", decoder=UNKNOWN_WEIGHTS
        ),
    ) as video:
        for each in TokenLayout.of(spec, num_frames).shards():
            video.append(np.swapaxes(frames[each], 0, 1))


def _import_queries(
    writer: StoreWriter,
    spec: FeatureSpec,
    folder: Path,
    annotations: Sequence[Annotation],
    failures: dict[str, str],
) -> int:
    usable: list[Annotation] = []
    features: list[QueryFeatures] = []
    for annotation in annotations:
        file = _file_of(annotation.query_id, folder, failures)
        if file is None:
            continue
        try:
            words = _open_npy(file, (spec.num_layers, spec.text_width))
            if not np.isfinite(words).all():
                raise VideoError("holds NaN or infinity")
            tokens = np.ascontiguousarray(np.swapaxes(words, 0, 1))
            features.append(QueryFeatures(annotation.query_id, tokens))
            usable.append(annotation)
        except (VideoError, ConfigError) as error:
            failures[str(file)] = str(error)
    return writer.add_queries(usable, features)


def _open_npy(file: Path, shape: tuple[int, ...]) -> NDArray[np.float16]:
    """Map a float16 array [n, *shape] into memory, whatever else the file turns out to be."""
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise VideoError(f"cannot be read as an array: {reason or error}") from error
    if not isinstance(found, np.ndarray):
        raise VideoError("is an archive of arrays, not one array")
    array = cast("NDArray[Any]", found)
    if array.dtype != np.float16 or array.shape[1:] != shape or array.ndim == 0 or not len(array):
        raise VideoError(f"is {array.dtype}{list(array.shape)}, expected float16{['n', *shape]}")
    return np.asarray(array)


def _export_video(store: FeatureStore, video_id: str, num_frames: int, file: Path) -> None:
    layout = TokenLayout.of(store.spec, num_frames)
    header = {
        "descr": "<f2",
        "fortran_order": False,
        "shape": (num_frames, layout.layers, layout.tokens, layout.width),
    }
    with appearing(file) as unfinished, unfinished.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for frames in layout.shards():
            video = store.read_video(video_id, frames=frames)
            tokens = video.tokens
            if video.scale is not None and video.offset is not None:
                tokens = dequantize(tokens, video.scale, video.offset).astype("<f2")
            stream.write(np.swapaxes(tokens, 0, 1).tobytes())


def _file_of(identifier: str, folder: Path, failures: dict[str, str]) -> Path | None:
    """Return the released file of an id, or report that the id cannot name one."""
    name = f"{identifier}.npy"
    if "/" in name or "\0" in name or len(os.fsencode(name)) > _MAX_NAME_BYTES:
        failures[f"{folder}/{name}"] = "the id cannot be a file's name"
        return None
    return folder / name


@contextmanager
def _noting_odd_durations() -> Generator[list[str]]:
    odd: list[str] = []
    yield odd
    if odd:
        warnings.warn(
            "far more or fewer frames than the annotated durations and --fps give: in "
            f"{counted(len(odd), 'video')}, such as {odd[0]}: was another rate used?",
            AnnotationWarning,
            stacklevel=2,
        )
