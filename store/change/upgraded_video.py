"""One video of a store of format version 1 made ready for version 2, and checked before that.

Readers of version 1 see it as before: the embeddings lie beside its tokens, and they pass over the
attributes that they do not know.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2t.store.check import check_stored_video
from r2t.store.errors import R2TError
from r2t.store.feature_store import FeatureStore
from r2t.store.features import QueryFeatures, VideoFeatures
from r2t.store.files import commit_folder, write_whole
from r2t.store.format import (
    EMBEDDING,
    EMBEDDING_DIGEST,
    EMBEDDING_FROM,
    VIDEO_DIMENSIONS,
    TokenLayout,
    VideoRow,
    attributes_of,
    embedding_digest,
    is_sealed_video,
    node_name,
    open_group,
    read_embedding,
    require_group,
    seal_attributes,
    write_embedding,
)
from r2t.store.schema import FORMAT_VERSION, UNKNOWN_WEIGHTS, EmbeddingSpec
from r2t.store.sources import StoreRoot


@dataclass(frozen=True)
class Embedder:
    """What makes the embeddings of a video's frames, or of a sentence, from stored tokens.

    Of a video it is given the last layer alone, some frames at a time, by several threads.
    """

    spec: EmbeddingSpec
    embed: Callable[[VideoFeatures | QueryFeatures], NDArray[np.float16]]


@dataclass(frozen=True)
class VideoUpgrade:
    """Makes videos ready; called from several threads. `work` is a folder on the store's disk."""

    root: StoreRoot
    path: Path
    work: Path
    store: FeatureStore
    embedder: Embedder | None

    def make_ready(self, row: VideoRow) -> str | None:
        """Make the video of an index row ready, unless it is; return what is wrong with it.

        Raises `OSError` where the disk refuses.
        """
        node = node_name(row.video_id)
        try:
            if self._is_ready(node, row.num_frames):
                return None
            checked = check_stored_video(self.root, node)
            if checked.row is None:
                return checked.faults[0].detail
            if differing := row.differing(checked.row):
                return f"the index says another {', '.join(differing)} than the video"
            self._seal(node, row)
        except R2TError as error:
            return str(error)
        return None

    def _is_ready(self, node: str, num_frames: int) -> bool:
        group = require_group(self.root.group, f"videos/{node}")
        attributes = attributes_of(group)
        if not is_sealed_video(attributes):
            return False
        if self.embedder is None:
            return EMBEDDING_DIGEST not in attributes
        if self.root.spec.weights_sha256 == UNKNOWN_WEIGHTS:
            return False  # nothing tells which CLIP made what lies there
        with suppress(R2TError):
            spec, frames = self.embedder.spec, range(num_frames)
            values, _ = read_embedding(group, attributes, spec, num_frames, frames)
            return embedding_digest(values) == attributes[EMBEDDING_DIGEST]
        return False

    def _seal(self, node: str, row: VideoRow) -> None:
        """Add the embeddings first and the digest of the attributes last, each by a rename."""
        folder = self.path / "videos" / node
        recorded: Mapping[str, str] = {}
        if self.embedder is not None:
            recorded = self._write_embedding(folder, self._embeddings(row, self.embedder))
        upgrade_metadata(folder, recorded, beside=self.work)
        if self.embedder is None:
            discard(folder / EMBEDDING, self.work)

    def _embeddings(self, row: VideoRow, embedder: Embedder) -> NDArray[np.float16]:
        last = slice(self.root.spec.num_layers - 1, None)
        shards = TokenLayout.of(self.root.spec, row.num_frames).shards()
        pieces = [
            embedder.embed(self.store.read_video(row.video_id, layers=last, frames=frames))
            for frames in shards
        ]
        return np.concatenate(pieces)

    def _write_embedding(self, folder: Path, values: NDArray[np.float16]) -> Mapping[str, str]:
        stage = self.work / uuid.uuid4().hex
        recorded = write_embedding(open_group(str(stage), "w-"), values, "tokens")
        discard(folder / EMBEDDING, self.work)
        commit_folder(stage / EMBEDDING, folder / EMBEDDING)
        shutil.rmtree(stage)
        return recorded


def upgrade_metadata(
    folder: Path, embedding: Mapping[str, str], *, beside: Path | None = None
) -> None:
    """Let the metadata of a whole video of format version 1 be that of version 2.

    Its dimensions get their names, and its attributes their digest, last. `embedding` is what the
    attributes are to say of embeddings: nothing of such as an unfinished upgrade has made. New
    files are prepared in the folder `beside`, by default in their own.
    """
    for name, dimensions in VIDEO_DIMENSIONS.items():
        file = folder / name / "zarr.json"
        if name != EMBEDDING and file.exists():  # embeddings are newer than version 1
            metadata = json.loads(file.read_bytes())
            named = {**metadata, "dimension_names": dimensions}
            write_whole(file, json.dumps(named, indent=2), beside=beside)
    file = folder / "zarr.json"
    metadata = json.loads(file.read_bytes())
    kept = {
        name: value
        for name, value in metadata["attributes"].items()
        if name not in (EMBEDDING_DIGEST, EMBEDDING_FROM)
    }
    metadata["attributes"] = seal_attributes({**kept, **embedding}, FORMAT_VERSION)
    write_whole(file, json.dumps(metadata, indent=2), beside=beside)


def discard(place: Path, work: Path) -> None:
    """Take a folder out of a store by a rename and remove it, if it is there."""
    doomed = work / uuid.uuid4().hex
    with suppress(FileNotFoundError):
        os.rename(place, doomed)
        shutil.rmtree(doomed)
