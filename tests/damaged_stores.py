"""Ways to damage a store, each with the lines that `verify` must print of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from features import columns, random_tokens, small_query, small_spec, write_video

from r2t.store import FeatureStore
from r2t.store.format.layout import node_name

LONG = "-x y"  # a video of three shards
TOKENS = {"dog": random_tokens(5, seed=1), LONG: random_tokens(301, seed=2)}


def make_store(path: Path, **changes: Any) -> FeatureStore:
    """Write two videos and two queries."""
    store = FeatureStore.create(path, small_spec(**changes))
    with store.writer() as writer:
        for video_id, tokens in TOKENS.items():
            write_video(writer, video_id, tokens)
        writer.add_queries(*columns(small_query("q1"), small_query("q2", LONG, seed=1)))
    return store


def shard(path: Path, run: int = 1, video_id: str = LONG) -> Path:
    """Return a shard file of a video."""
    return path / "videos" / node_name(video_id) / "tokens" / "c" / "0" / str(run) / "0" / "0"


def part(path: Path, kind: str) -> Path:
    """Return the only part of a kind."""
    (found,) = path.joinpath("parts", kind).glob("*-*")
    return found


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a node's metadata."""
    metadata = json.loads(path.read_bytes())
    change(metadata)
    path.write_text(json.dumps(metadata))


def flip(file: Path, place: int) -> None:
    """Flip one bit of one byte, counted from the end if `place` is negative."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def _flip_text_of_a_query(path: Path) -> None:
    file = part(path, "queries") / "texts" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes().replace(b"a dog runs", b"a cat runs", 1))


def _pad(shard: Path) -> None:
    """Put bytes between the chunks and the index, which takes 16 bytes a layer and a checksum."""
    data = shard.read_bytes()
    shard.write_bytes(data[:-52] + b"junk" + data[-52:])


def _put_nan(path: Path) -> None:
    data = bytearray(shard(path).read_bytes())
    data[0:2] = b"\xff\x7f"
    shard(path).write_bytes(data)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte of tokens": (
        lambda path: flip(shard(path), 100),
        r"video: videos/-x%20y: the stored bytes have the digest sha256:.* was committed with",
    ),
    "NaN in tokens": (_put_nan, r"video: videos/-x%20y: .*NaN or infinity"),
    "flipped byte of a shard's index": (
        lambda path: flip(shard(path), -10),
        r"video: videos/-x%20y: .*fails its checksum",
    ),
    "truncated chunk": (
        lambda path: os.truncate(shard(path), 1000),
        r"video: videos/-x%20y: .*shorter than \d+ bytes",
    ),
    "bytes that nothing points at": (
        lambda path: _pad(shard(path)),
        r"video: videos/-x%20y/tokens/c/0/1/0/0: has \d+ bytes, expected \d+",
    ),
    "deleted shard": (
        lambda path: shard(path).unlink(),
        r"video: videos/-x%20y: .*/1/0/0 is missing",
    ),
    "deleted metadata": (
        lambda path: (path / "videos" / "dog" / "zarr.json").unlink(),
        r"uncommitted: videos/dog: is no node of a video",
    ),
    "deleted video": (
        lambda path: shutil.rmtree(path / "videos" / "dog"),
        r"gone: parts/index/.*: names the video 'dog', which is not there",
    ),
    "deleted index": (
        lambda path: shutil.rmtree(part(path, "index")),
        r"not-indexed: videos/dog: is committed, but no index part names it",
    ),
    "digest that lost": (
        lambda path: edit(
            path / "videos" / "dog" / "zarr.json", lambda node: node["attributes"].pop("digest")
        ),
        r"uncommitted: videos/dog: has no digest",
    ),
    "duration that changed": (
        lambda path: edit(
            path / "videos" / "dog" / "zarr.json",
            lambda node: node["attributes"].update(duration_seconds=99.0),
        ),
        r"attributes: videos/dog: duration_seconds 99.0, an index part recorded 10.0",
    ),
    "a source that changed": (
        lambda path: edit(
            path / "videos" / "dog" / "zarr.json",
            lambda node: node["attributes"]["source"].update(name="cat.mp4"),
        ),
        r"attributes: videos/dog: source_name 'cat.mp4', an index part recorded 'dog.mp4'",
    ),
    "frame rate that no frame has": (
        lambda path: edit(
            path / "videos" / "dog" / "zarr.json",
            lambda node: node["attributes"].update(frame_rate_fps=3.0),
        ),
        r"attributes: videos/dog: frame_rate_fps 3.0, an index part recorded 0.5",
    ),
    "number of frames that does not fit": (
        lambda path: edit(
            path / "videos" / "dog" / "zarr.json",
            lambda node: node["attributes"].update(num_frames=4),
        ),
        r"attributes: videos/dog: num_frames 4, an index part recorded 5",
    ),
    "renamed node": (
        lambda path: (path / "videos" / "dog").rename(path / "videos" / "cat"),
        r"video: videos/cat: holds the video 'dog', whose place is another",
    ),
    "video that changed and was committed again": (
        lambda path: _replace_video(path),
        r"stale-index: parts/index/.*: says of the video 'dog': digest 'sha256:",
    ),
    "flipped byte of an index": (
        lambda path: flip(part(path, "index") / "numbers" / "c" / "0" / "0", 8),
        r"part: parts/index/.*: the stored columns have the digest",
    ),
    "truncated column": (
        lambda path: os.truncate(part(path, "queries") / "moments" / "c" / "0" / "0", 8),
        r"part: parts/queries/.*moments",
    ),
    "flipped byte of a query's tokens": (
        lambda path: flip(part(path, "queries") / "tokens" / "c" / "0" / "0" / "0", 5),
        r"query: parts/queries/.*: query 'q1', .*: its content has the digest",
    ),
    "another sentence": (
        _flip_text_of_a_query,
        r"query: parts/queries/.*: query 'q1', .*: its content",
    ),
    "deleted column": (
        lambda path: shutil.rmtree(part(path, "queries") / "texts"),
        r"part: parts/queries/.*texts",
    ),
    "metadata of an array that a part repeats otherwise": (
        lambda path: edit(
            part(path, "queries") / "moments" / "zarr.json",
            lambda node: node.update(fill_value=1.0),
        ),
        r"part: parts/queries/.*: its zarr.json does not repeat what moments/zarr.json says",
    ),
    "deleted group": (
        lambda path: (path / "parts" / "queries" / "zarr.json").unlink(),
        r"group: parts/queries: is missing",
    ),
    "metadata of a group that is no JSON": (
        lambda path: (path / "videos" / "zarr.json").write_text('{"node_type" "group"}'),
        r"group: videos: is missing, or its zarr.json is missing or damaged",
    ),
    "empty metadata of a group": (
        lambda path: (path / "parts" / "index" / "zarr.json").write_text(""),
        r"group: parts/index: is missing, or its zarr.json is missing or damaged",
    ),
    "link in place of a group's metadata": (
        lambda path: _link(path / "parts" / "queries" / "zarr.json"),
        r"group: parts/queries: is missing, or its zarr.json is missing or damaged",
    ),
    "foreign file in the store": (
        lambda path: (path / "notes.txt").write_text("hello"),
        r"foreign: notes.txt: the format has no place",
    ),
    "foreign file among the videos": (
        lambda path: (path / "videos" / ".DS_Store").write_text("hello"),
        r"foreign: videos/.DS_Store: is no node of a video",
    ),
    "foreign file in a video": (
        lambda path: (path / "videos" / "dog" / "tokens" / "old.npy").write_text("hello"),
        r"foreign: videos/dog/tokens/old.npy",
    ),
    "foreign file in a part": (
        lambda path: (part(path, "queries") / "tokens" / "x").write_text("hello"),
        r"foreign: parts/queries/.*/tokens/x",
    ),
    "link out of the store": (
        lambda path: _link(shard(path)),
        r"link: videos/-x%20y/tokens/c/0/1/0/0: is a symbolic link",
    ),
}


def _replace_video(path: Path) -> None:
    other = FeatureStore.create(path.with_name("other.zarr"), FeatureStore.open(path).spec)
    with other.writer() as writer:
        write_video(writer, "dog", random_tokens(5, seed=9))
    shutil.rmtree(path / "videos" / "dog")
    shutil.copytree(path.with_name("other.zarr") / "videos" / "dog", path / "videos" / "dog")


def _link(file: Path) -> None:
    elsewhere = next(each for each in file.parents if each.suffix == ".zarr").with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
