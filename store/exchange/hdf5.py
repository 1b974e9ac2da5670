"""A store as one HDF5 file, for tools that read nothing else."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from io import FileIO
from pathlib import Path
from typing import Any, cast

import h5py  # pyright: ignore[reportMissingTypeStubs]

from r2t.store.annotations import Annotation
from r2t.store.errors import ConfigError
from r2t.store.exchange.r2_npy import TransferReport
from r2t.store.feature_store import FeatureStore
from r2t.store.files import appearing
from r2t.store.format import MAX_SHARD_FRAMES, TokenLayout, node_name, storage_errors
from r2t.store.progress import OnProgress, no_progress

_open = cast("Any", h5py).File


def export_hdf5(
    store: FeatureStore, path: Path, *, on_video: OnProgress = no_progress
) -> TransferReport:
    """Write a store into one HDF5 file, as it is stored.

    `videos/<node>` holds `tokens` [layers, frames, tokens, width], with `scale` and `offset` if
    they are eight-bit; `queries/<node>` holds `tokens` [layers, words, text_width], `moments`
    [n, 2] in seconds and `saliency` [clips, annotators]. Where the store has embeddings, a video
    has `embedding` [frames, embedding_width] and a query `embedding` [embedding_width]. Attributes
    say the rest.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already: give a new file")
    rows = store.video_rows()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as unfinished, _writing(unfinished) as (file, sink):
            file.attrs["identity"] = json.dumps(store.spec.to_dict())
            if store.embedding is not None:
                file.attrs["embedding"] = json.dumps(asdict(store.embedding))
            for number, row in enumerate(rows, start=1):
                group = file.create_group(f"videos/{node_name(row.video_id)}")
                group.attrs.update(asdict(row))
                _write_video(store, row.video_id, row.num_frames, group)
                sink.require()
                on_video(number, len(rows))
            annotations = store.annotations()
            for annotation in annotations:
                group = file.create_group(f"queries/{node_name(annotation.query_id)}")
                _write_query(store, annotation, group)
                sink.require()
    return TransferReport(len(rows), 0, len(annotations), {})


class _Sink:
    """A file that keeps the first error of the disk to itself and then takes anything.

    HDF5 ends the whole process where the disk refuses what it writes on closing.
    """

    def __init__(self, path: Path) -> None:
        self._file = FileIO(path, "w+")
        self.error: OSError | None = None
        self.seek, self.tell = self._file.seek, self._file.tell
        self.read, self.readinto = self._file.read, self._file.readinto
        self.close = self._file.close

    def require(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: memoryview) -> int:
        rest = memoryview(data).cast("B")
        try:
            while len(rest) and self.error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        pass


@contextmanager
def _writing(path: Path) -> Generator[tuple[Any, _Sink]]:
    """Yield an HDF5 file, and what it is written to."""
    sink = _Sink(path)
    try:
        with _open(sink, "w") as file:
            yield file, sink
    except Exception:
        sink.require()  # HDF5 complains of what it then does not find
        raise
    finally:
        sink.close()
    sink.require()


def _write_video(store: FeatureStore, video_id: str, num_frames: int, group: Any) -> None:
    layout = TokenLayout.of(store.spec, num_frames)
    chunks = (1, min(num_frames, MAX_SHARD_FRAMES), layout.tokens, layout.width)
    tokens = group.create_dataset("tokens", layout.shape, layout.dtype, chunks=chunks)
    embeddings: Any = None
    if store.embedding is not None:
        shape = (num_frames, store.embedding.width)
        embeddings = group.create_dataset("embedding", shape, "<f2")
    for frames in layout.shards():
        video = store.read_video(video_id, frames=frames)
        tokens[:, frames] = video.tokens
        if video.embedding is not None:
            embeddings[frames] = video.embedding
            group.attrs["embedding_from"] = video.embedding_from
        if frames.start == 0 and video.scale is not None and video.offset is not None:
            group["scale"], group["offset"] = video.scale, video.offset


def _write_query(store: FeatureStore, annotation: Annotation, group: Any) -> None:
    features = store.read_query(annotation.query_id)
    group["tokens"] = features.tokens
    if features.embedding is not None:
        group["embedding"] = features.embedding
    group["moments"] = annotation.moments
    for name in ("query_id", "video_id", "query", "split", "domain", "duration_seconds"):
        if getattr(annotation, name) is not None:
            group.attrs[name] = getattr(annotation, name)
    if annotation.saliency is not None:
        labels = group.create_dataset("saliency", data=annotation.saliency.scores)
        for name in ("clip_seconds", "lowest", "highest"):
            labels.attrs[name] = getattr(annotation.saliency, name)
