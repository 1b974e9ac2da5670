"""What two stores differ in is told by their digests, and by nothing that says less."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from features import (
    columns,
    pack,
    random_embeddings,
    random_tokens,
    small_query,
    small_spec,
    write_video,
)
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import EmbeddingSpec, FeatureStore, QueryFeatures
from r2t.store.change.compact import compact_store
from r2t.store.change.remove import remove_videos
from r2t.store.change.rewrite import change_queries
from r2t.store.check.diff import diff_stores
from r2t.store.content import Changes, StoreContent


def make(path: Path, seeds: dict[str, int], **spec: object) -> Path:
    """Write a store of these videos, with a query of each."""
    store = FeatureStore.create(path, small_spec(**spec), {"made_by": path.stem})
    with store.writer() as writer:
        for video_id, seed in seeds.items():
            write_video(writer, video_id, random_tokens(3, seed=seed))
        writer.add_queries(*columns(*(small_query(f"q-{each}", each) for each in seeds)))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "feats.zarr", {"cat": 0, "dog": 1})


def test_a_store_equals_itself_however_it_is_kept(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(path, tmp_path / "copy.zarr"))
    with FeatureStore.open(copy).writer() as writer:
        writer.add_queries(*columns(small_query("more", "dog")))
    remove_videos(copy, [], query_ids=["more"])
    compact_store(copy)
    for other in (path, copy, pack(path, tmp_path / "feats.zip")):
        found = diff_stores(path, other)
        assert found.equal
        assert not found.provenance
        assert not found.recorded


def add(path: Path) -> None:
    with FeatureStore.open(path).writer() as writer:
        write_video(writer, "cow", random_tokens(3, seed=5))
        writer.add_queries(*columns(small_query("q-cow", "cow"), small_query("q2", "dog")))


def replace_video(path: Path) -> None:
    remove_videos(path, ["dog"], keep_queries=True)
    with FeatureStore.open(path).writer() as writer:
        write_video(writer, "dog", random_tokens(3, seed=5))


@pytest.mark.parametrize(
    ("change", "videos", "queries"),
    [
        (add, Changes(added=("cow",)), Changes(added=("q-cow", "q2"))),
        (
            lambda path: remove_videos(path, ["dog"]),
            Changes(removed=("dog",)),
            Changes(removed=("q-dog",)),
        ),
        (replace_video, Changes(changed=("dog",)), Changes()),
        (
            lambda path: change_queries(path, [small_query("q-cat", "cat", text="other words")]),
            Changes(),
            Changes(changed=("q-cat",)),
        ),
    ],
)
def test_what_was_done_is_told(
    path: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    videos: Changes,
    queries: Changes,
) -> None:
    before = Path(shutil.copytree(path, tmp_path / "before.zarr"))
    earlier = FeatureStore.open(before).content()
    change(path)
    found = diff_stores(before, path)
    assert (found.videos, found.queries, found.equal) == (videos, queries, False)
    assert not found.identity
    assert not found.embedding
    now = FeatureStore.open(path).content()
    for one, other in ((now, earlier), (now.abridged(), earlier.abridged())):
        changes = one.changes_since(other)
        assert (changes.videos, changes.queries) == (videos, queries)
    answer = CliRunner().invoke(app, ["diff", str(before), str(path), "--json"])
    assert answer.exit_code == 1
    assert tuple(json.loads(answer.stdout)["videos"]["added"]) == videos.added
    shown = CliRunner().invoke(app, ["diff", str(before), str(path)])
    assert shown.exit_code == 1
    for name in (*videos.added, *videos.changed, *queries.removed):
        assert name in shown.stdout


def test_how_features_were_made(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    store = FeatureStore.create(
        other, small_spec(model="another"), {"made_by": "hand"}, embedding=EmbeddingSpec(width=5)
    )
    with store.writer() as writer:
        write_video(writer, "cat", random_tokens(3), embedding=random_embeddings(3))
        annotation, features = small_query("q-cat", "cat")
        embedded = QueryFeatures("q-cat", features.tokens, random_embeddings(1)[0])
        writer.add_queries([annotation], [embedded])
    found = diff_stores(path, other)
    assert found.identity == {"model": ("small", "another")}
    assert found.embedding["width"] == (None, 5)
    assert found.provenance["made_by"] == ("feats", "hand")
    assert (found.videos, found.queries.changed) == (Changes(removed=("dog",)), ())


def test_provenance_alone_is_no_difference(path: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other.zarr", {"cat": 0, "dog": 1})
    found = diff_stores(path, other)
    assert found.equal
    assert found.provenance["made_by"] == ("feats", "other")
    answer = CliRunner().invoke(app, ["diff", str(path), str(other)])
    assert answer.exit_code == 0
    assert "equal" in answer.stderr + answer.stdout
    assert CliRunner().invoke(app, ["diff", str(path), str(tmp_path / "none")]).exit_code == 2


def test_changes_are_said_in_one_line() -> None:
    before = StoreContent({"a": "1", "b": "2"}, {"q": "1"})
    after = StoreContent({"b": "3", **{f"c{number}": "1" for number in range(7)}}, {"q": "1"})
    assert str(after.changes_since(before)) == (
        "7 videos added (c0, c1, c2, c3, c4 and 2 more), 1 video changed (b), 1 video removed (a)"
    )
    assert not before.changes_since(before)
    assert str(before.changes_since(before)) == "nothing"
