"""What is called damage, and what is a mistake of our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr.errors
from features import columns, random_tokens, small_query, small_spec, write_video

from r2t.store import FeatureStore, stored_tables, video_reader
from r2t.store.check import check_video
from r2t.store.check.verify import verify_store
from r2t.store.errors import AnnotationError, CorruptFeatureError, ServerError
from r2t.store.format import tables
from r2t.store.format.nodes import damage, zarr_reads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "feats.zarr"
    with FeatureStore.create(path, small_spec()).writer() as writer:
        write_video(writer, "dog", random_tokens(5))
        writer.add_queries(*columns(small_query("q1")))
    return path


def fail(error: Exception) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> Any:
        raise error

    return failing


DAMAGE: dict[str, Callable[[], object]] = {
    "a missing file": lambda: Path("/nothing/there").read_bytes(),
    "a text that is no JSON": lambda: json.loads("{"),
    "bytes that are no text": lambda: b"\xff".decode(),
    "an array of another size": lambda: np.zeros(5).reshape(2, -1),
    "metadata that zarr refuses": fail(zarr.errors.MetadataValidationError("of another kind")),
    "an annotation that cannot be": fail(AnnotationError("a moment ends before it starts")),
}


@pytest.mark.parametrize("read", DAMAGE.values(), ids=DAMAGE)
def test_what_content_makes_others_raise_is_damage(read: Callable[[], object]) -> None:
    with pytest.raises(CorruptFeatureError, match="dog is damaged"), damage("dog"):
        read()


MISTAKES = [TypeError("no"), KeyError("no"), AttributeError("no"), IndexError(3), NameError("no")]


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
def test_a_mistake_of_our_own_is_no_damage(mistake: Exception) -> None:
    with pytest.raises(type(mistake)) as raised, damage("dog"):
        raise mistake
    assert raised.value is mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
def test_what_zarr_trips_over_is_damage(mistake: Exception) -> None:
    if isinstance(mistake, NameError):
        return  # nothing that content does
    with pytest.raises(CorruptFeatureError, match="dog is damaged"), zarr_reads("dog"):
        raise mistake


def test_a_failing_server_is_no_damage() -> None:
    for turned in (damage("dog"), zarr_reads("dog")):
        with pytest.raises(ServerError, match="the server answers 500"), turned:
            raise ServerError("the server answers 500")


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
def test_mistakes_while_a_store_is_read_come_out_as_they_are(
    path: Path, monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    store = FeatureStore.open(path)
    monkeypatch.setattr(video_reader, "source_from_attributes", fail(mistake))
    monkeypatch.setattr(stored_tables, "annotation_at", fail(mistake))
    monkeypatch.setattr(stored_tables, "query_features_at", fail(mistake))
    monkeypatch.setattr(check_video, "errors_from_attributes", fail(mistake))
    monkeypatch.setattr(tables, "read_parts", fail(mistake))
    reading: list[Callable[[], object]] = [
        lambda: store.read_video("dog"),
        lambda: store.read_query("q1"),
        store.annotations,
        lambda: verify_store(path),
        lambda: FeatureStore.open(path),
    ]
    for read in reading:
        with pytest.raises(type(mistake)) as raised:
            read()
        assert raised.value is mistake


ATTRIBUTES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no length": lambda found: found.pop("num_frames"),
    "no decoder": lambda found: found.pop("decoder"),
    "a number for a source": lambda found: found.update(source=7),
    "a list for a source": lambda found: found.update(source=[]),
    "no licence in the source": lambda found: found["source"].pop("licence"),
    "a number for a licence": lambda found: found["source"].update(licence=7),
    "a number for errors": lambda found: found.update(quantization_error=7),
    "a number for those of layers": lambda found: found.update(
        quantization_error={"relative_l2_mean": 7}
    ),
}


@pytest.mark.parametrize("change", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_attributes_that_cannot_be_are_damage(
    path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    file = path / "videos" / "dog" / "zarr.json"
    metadata = json.loads(file.read_bytes())
    change(metadata["attributes"])
    file.write_text(json.dumps(metadata))
    found = [(fault.kind, fault.place) for fault in verify_store(path).faults]
    assert ("attributes", "videos/dog") in found
    shutil.rmtree(path / "parts" / "index")
    found = [(fault.kind, fault.place) for fault in verify_store(path).faults]
    assert ("video", "videos/dog") in found


@pytest.mark.parametrize("attributes", [7, [], ["digest"], "digest", None])
def test_attributes_of_another_kind_are_damage(path: Path, attributes: object) -> None:
    file = path / "videos" / "dog" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "attributes": attributes}))
    with pytest.raises((CorruptFeatureError, KeyError), match="dog"):
        FeatureStore.open(path).read_video("dog")
    assert {fault.place for fault in verify_store(path).faults} == {"videos/dog", *_index(path)}


def _index(path: Path) -> set[str]:
    """The index part, which names a video that is not there any more."""
    return {f"parts/index/{part.name}" for part in (path / "parts" / "index").glob("*-*")}
