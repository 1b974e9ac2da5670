"""The released `.npy` files in and out, and HDF5."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from features import columns, random_tokens, small_query, small_spec, write_video
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import Annotation, FeatureStore
from r2t.store.annotations import SaliencyLabels
from r2t.store.errors import AnnotationWarning, ConfigError, StoreError
from r2t.store.exchange.hdf5 import export_hdf5
from r2t.store.exchange.r2_npy import export_r2_npy, import_r2_npy, official_spec
from r2t.store.schema import UNKNOWN_WEIGHTS

SMALL = {"layers": (10, 11, 12), "num_tokens": 3, "vision_width": 8, "text_width": 6}
LENGTHS = {"-dog": 6, "cat": 151, "d.o.t": 1}


@dataclass(frozen=True)
class Released:
    """Two folders of released files, and annotations of them."""

    videos: Path
    queries: Path
    annotations: list[Annotation]

    def files(self) -> dict[str, bytes]:
        folders = (self.videos, self.queries)
        return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


@pytest.fixture
def released(tmp_path: Path) -> Released:
    folders = tmp_path / "vid", tmp_path / "txt"
    annotations: list[Annotation] = []
    for folder in folders:
        folder.mkdir()
    for number, (video_id, num_frames) in enumerate(LENGTHS.items()):
        frames = np.ascontiguousarray(random_tokens(num_frames, seed=number).swapaxes(0, 1))
        np.save(folders[0] / f"{video_id}.npy", frames)
        annotation, features = small_query(f"q{number}", video_id, seed=number)
        np.save(folders[1] / f"q{number}.npy", features.tokens.swapaxes(0, 1).copy())
        annotations.append(replace(annotation, duration_seconds=None))
    annotations[0] = replace(annotations[0], duration_seconds=12.25)
    return Released(*folders, annotations)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path / "feats.zarr", official_spec(**SMALL))


def bring_in(store: FeatureStore, released: Released, **changes: Any) -> Any:
    given = {"annotations": released.annotations, **changes}
    return import_r2_npy(store, released.videos, released.queries, **given)


def test_what_was_imported_exports_to_equal_bytes(
    store: FeatureStore, released: Released, tmp_path: Path
) -> None:
    seen: list[tuple[float, float]] = []

    def see(done: float, total: float) -> None:
        seen.append((done, total))

    report = bring_in(store, released, on_video=see)
    assert (report.num_videos, report.num_skipped, report.num_queries) == (3, 0, 3)
    assert report.failures == {}
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for number, (video_id, num_frames) in enumerate(LENGTHS.items()):
        video = store.read_video(video_id)
        assert np.array_equal(video.tokens, random_tokens(num_frames, seed=number))
        assert video.source is not None
        assert (video.source.name, video.source.decoder) == (f"{video_id}.npy", UNKNOWN_WEIGHTS)
    assert [store.read_video(v).duration_seconds for v in LENGTHS] == [12.25, 302.0, 2.0]
    assert [repr(a) for a in store.annotations()] == [repr(a) for a in released.annotations]

    again = Released(tmp_path / "out" / "vid", tmp_path / "out" / "txt", [])
    report = export_r2_npy(store, again.videos, again.queries, on_video=see)
    assert (report.num_videos, report.num_queries, report.failures) == (3, 3, {})
    assert again.files() == released.files()
    assert seen == 2 * [(1, 3), (2, 3), (3, 3)]

    (again.videos / "cat.npy").unlink()
    report = export_r2_npy(store, again.videos, again.queries)
    assert (report.num_videos, report.num_skipped, report.num_queries) == (1, 2, 0)
    assert again.files() == released.files()


@pytest.mark.parametrize("stored", ["s30-d52-cam-002", "s30-d52"])
def test_tacos_goes_in_and_out_under_its_official_names(
    store: FeatureStore, released: Released, tmp_path: Path, stored: str
) -> None:
    official = tmp_path / "official"
    official.mkdir()
    frames = (released.videos / "-dog.npy").read_bytes()
    (official / f"{stored}.npy").write_bytes(frames)
    (released.queries / "s30-d52_0.npy").write_bytes((released.queries / "q0.npy").read_bytes())
    row = replace(released.annotations[0], query_id="s30-d52_0", video_id="s30-d52")
    given = replace(released, videos=official, annotations=[row])
    if stored == row.video_id:
        report = bring_in(store, given)
    else:
        with pytest.warns(AnnotationWarning, match=f"'s30-d52' is taken for '{stored}'"):
            report = bring_in(store, given)
    assert (report.num_videos, report.num_queries, report.failures) == (1, 1, {})
    (annotation,) = store.annotations()
    assert annotation.video_id == stored
    assert store.read_video(stored).duration_seconds == row.duration_seconds
    out = tmp_path / "out"
    assert export_r2_npy(store, out / "vid", out / "txt").failures == {}
    assert {path.name: path.read_bytes() for path in (out / "vid").iterdir()} == {
        "s30-d52-cam-002.npy": frames
    }
    assert [path.name for path in (out / "txt").iterdir()] == ["s30-d52_0.npy"]


def test_the_imported_identity_says_what_is_not_known(store: FeatureStore) -> None:
    assert store.spec.weights_sha256 == UNKNOWN_WEIGHTS == "r2-npy"
    official = official_spec()
    assert (official.model, official.vision_layers) == ("ViT-B-32-quickgelu", (9, 10, 11, 12))
    assert official.frame_bytes() == 307_200
    with pytest.raises(StoreError, match="weights_sha256"):
        FeatureStore.create(store.location, replace(store.spec, weights_sha256="ab"))


def test_an_import_resumes(store: FeatureStore, released: Released) -> None:
    (released.videos / "cat.npy").rename(released.videos / "cat.later")
    assert bring_in(store, released).num_videos == 2  # and the query of the third waits for it
    (released.videos / "cat.later").rename(released.videos / "cat.npy")
    for part in Path(store.location, "parts", "index").glob("*-*"):  # as if the run had been killed
        part.rename(Path(store.location).with_name(part.name))
    store = FeatureStore.open(store.location)
    report = bring_in(store, released)
    assert (report.num_videos, report.num_skipped, report.num_queries) == (1, 2, 1)
    assert report.complete
    assert sorted(store.videos["video_id"]) == sorted(LENGTHS)


def save(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, random_tokens(2))
    return stream.getvalue()


def nan_at_the_end(shape: tuple[int, ...]) -> bytes:
    values = np.zeros(shape, np.float16)
    values[-1, ..., -1] = np.nan
    return save(values)


GOOD = random_tokens(4).swapaxes(0, 1)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "objects": (save(np.array([{}, 1], dtype=object)), "cannot be read as an array"),
    "archive": (archive(), "archive"),
    "empty file": (b"", "cannot be read"),
    "text": (b"hello", "cannot be read"),
    "truncated": (save(GOOD)[:-9], "cannot be read"),
    "header only": (save(GOOD)[:20], "cannot be read"),
    "huge shape": (
        save(GOOD).replace(b"(4, 3, 3, 8), }", b"(4, 3, 3, 10**9)}"),
        "cannot be read",
    ),
    "many frames": (
        save(GOOD).replace(b"(4, 3, 3, 8), }      ", b"(4000000, 3, 3, 8), }"),
        "canno",
    ),
    "float32": (save(GOOD.astype(np.float32)), r"float32.*expected float16"),
    "big endian": (save(GOOD.astype(">f2")), r">f2|float16.*expected"),
    "no frames": (save(GOOD[:0]), "expected float16"),
    "other layers": (save(GOOD[:, :2]), r"\[4, 2, 3, 8\], expected float16"),
    "scalar": (save(np.float16(1)), "expected float16"),
    "nan": (nan_at_the_end((152, 3, 3, 8)), "NaN or infinity"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_named_and_do_not_stop_the_rest(
    store: FeatureStore, released: Released, content: bytes, message: str
) -> None:
    bad = released.videos / "bad.npy"
    bad.write_bytes(content)
    query = released.queries / "q1.npy"
    query.write_bytes(content)
    report = bring_in(store, released)
    assert set(report.failures) == {str(bad), str(query)}
    with pytest.raises(ValueError, match=message):
        raise ValueError(report.failures[str(bad)])
    assert (report.num_videos, report.num_queries) == (3, 2)
    assert not store.has_video("bad")


def test_missing_queries_and_ids_that_cannot_be_files_are_named(
    store: FeatureStore, released: Released
) -> None:
    rows = [*released.annotations]
    rows += [replace(rows[1], query_id=query_id) for query_id in ("q9", "../q0")]
    report = bring_in(store, released, annotations=rows)
    assert "No such file" in report.failures[str(released.queries / "q9.npy")]
    assert len(report.failures) == 2
    assert "cannot be a file's name" in report.failures[f"{released.queries}/../q0.npy"]


def test_nothing_to_import_is_an_error(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \.npy files"):
        import_r2_npy(store, tmp_path, tmp_path, [])


def test_a_wrong_frame_rate_is_noticed(store: FeatureStore, released: Released) -> None:
    rows = [replace(row, duration_seconds=6.0) for row in released.annotations[:1]]
    with pytest.warns(AnnotationWarning, match=r"1 video,.*-dog \(6 frames: 12 s, not 6 s\)"):
        report = bring_in(store, released, annotations=rows)
    assert report.num_videos == 3


def test_a_frame_rate_for_each_video(released: Released, tmp_path: Path) -> None:
    spec = official_spec(**SMALL, frame_rate="per-video")
    store = FeatureStore.create(tmp_path / "per-video.zarr", spec)
    labels = SaliencyLabels(np.zeros((6, 1), np.float32), 12.25 / 6, lowest=-1.0, highest=1.0)
    rows = [replace(released.annotations[0], saliency=labels), *released.annotations[1:]]
    report = bring_in(store, released, annotations=rows)
    assert store.read_video("-dog").frame_rate_fps == 6 / 12.25
    assert (report.num_videos, report.without_rate) == (1, ("cat", "d.o.t"))
    assert (set(report.failures), report.num_queries) == (set(), 1)
    assert (report.missing, report.num_withheld_queries) == (("cat", "d.o.t"), 2)
    labels = SaliencyLabels(np.zeros((7, 1), np.float32), 1.75, lowest=-1.0, highest=1.0)
    rows = [replace(released.annotations[0], saliency=labels)]
    with pytest.warns(AnnotationWarning, match="1 of 1 video; .* with 6 frames for 7 clips"):
        bring_in(FeatureStore.create(tmp_path / "other.zarr", spec), released, annotations=rows)
    with pytest.raises(ConfigError, match="no annotation says how long"):
        bring_in(store, released, annotations=released.annotations[1:])


def test_eight_bit_features_export_within_half_a_step(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec(dtype="int8"))
    tokens = random_tokens(151)
    with store.writer() as writer:
        write_video(writer, "dog", tokens)
        write_video(writer, "a/b", tokens[:, :2])
    report = export_r2_npy(store, tmp_path / "vid", tmp_path / "txt")
    assert list(report.failures) == [f"{tmp_path}/vid/a/b.npy"]
    assert report.num_videos == 1
    exported = np.load(tmp_path / "vid" / "dog.npy").swapaxes(0, 1)
    assert exported.dtype == np.float16
    step = np.ptp(tokens.astype(np.float32), axis=(1, 2))[:, None, None] / 255
    assert (np.abs(exported - tokens.astype(np.float32)) <= step / 2 + 2e-3).all()


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_hdf5_holds_what_the_store_holds(tmp_path: Path, dtype: str) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec(dtype=dtype))
    annotation, features = small_query("q/1", "a/b")
    with store.writer() as writer:
        write_video(writer, "a/b", random_tokens(151))
        writer.add_queries(*columns((annotation, features)))
    path = tmp_path / "new" / "feats.h5"
    assert export_hdf5(store, path).num_videos == 1
    opened: Any = h5py.File(path)
    with opened as file:
        assert json.loads(file.attrs["identity"]) == store.spec.to_dict()
        video, expected = file["videos/a%2Fb"], store.read_video("a/b")
        assert np.array_equal(video["tokens"][...], expected.tokens)
        assert video["tokens"].dtype == dtype
        assert video.attrs["digest"] == store.videos["digest"][0]
        assert video.attrs["video_id"] == "a/b"
        if expected.scale is not None:
            assert np.array_equal(video["scale"][...], expected.scale)
        query = file["queries/q%2F1"]
        assert np.array_equal(query["tokens"][...], features.tokens)
        assert query["moments"][...].tolist() == [[1.0, 3.5]]
        assert (query.attrs["query"], query.attrs["duration_seconds"]) == ("a dog runs", 12.25)
        assert query["saliency"].shape == (3, 2)
        assert query["saliency"].attrs["highest"] == 4.0
    with pytest.raises(ConfigError, match="there already"):
        export_hdf5(store, path)


_EXPORT_ON_FULL_DISKS = """
import sys
from pathlib import Path
from features import full_disk
from r2t.store import FeatureStore
from r2t.store.errors import StoreError
from r2t.store.exchange.hdf5 import export_hdf5

store, out = FeatureStore.open(sys.argv[1]), Path(sys.argv[2])
export_hdf5(store, out)
num_bytes = out.stat().st_size
out.unlink()
for tenth in range(10):
    told = ""
    with full_disk(num_bytes * tenth // 10):
        try:
            export_hdf5(store, out)
        except StoreError as error:
            told = str(error)
    assert told.startswith(f"cannot write into {out}: File too large"), (tenth, told)
"""


def test_a_full_disk_ends_an_hdf5_export_in_one_error(
    store: FeatureStore, released: Released, tmp_path: Path
) -> None:
    bring_in(store, released)
    out = tmp_path / "x.h5"
    # In a process of its own: HDF5 would take this one down.
    done = subprocess.run(
        [sys.executable, "-c", _EXPORT_ON_FULL_DISKS, store.location, str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.glob("*.h5"))


@pytest.mark.parametrize("export", [export_hdf5, lambda s, p: export_r2_npy(s, p.parent, p.parent)])
def test_an_export_that_fails_leaves_no_file(
    tmp_path: Path, export: Callable[[FeatureStore, Path], object]
) -> None:
    store = FeatureStore.create(tmp_path / "feats.zarr", small_spec())
    with store.writer() as writer:
        write_video(writer, "dog", random_tokens(301))
    Path(store.location, "videos", "dog", "tokens", "c", "0", "2", "0", "0").write_bytes(b"")
    with pytest.raises(StoreError):
        export(store, tmp_path / "out" / "feats.h5")
    assert list((tmp_path / "out").iterdir()) == []


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_commands(released: Released, tmp_path: Path) -> None:
    annotations = tmp_path / "train.jsonl"
    rows = [
        {"qid": "q0", "vid": "-dog", "query": "a", "duration": 12, "relevant_windows": [[0, 4]]},
        {"qid": "q7", "vid": "cat", "query": "b", "duration": 302, "relevant_windows": [[0, 4]]},
    ]
    annotations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    feats = tmp_path / "feats.zarr"
    given = ("--videos", released.videos, "--queries", released.queries, "--store", feats)
    sizes = ("--num-tokens", 3, "--vision-width", 8, "--text-width", 6)
    asked = ("import", *given, *sizes, "--annotations", f"val={annotations}")
    result = run(*asked, "--layers", "10,11,12", "--json")
    assert result.exit_code == 1, result.output
    assert "q7.npy: cannot be read as an array: No such file" in result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["videos"], outcome["queries"], len(outcome["failures"])) == (3, 1, 1)
    assert FeatureStore.open(feats).queries["split"].tolist() == ["val"]

    out = tmp_path / "out"
    assert run("export", feats, "--out", out).exit_code == 0
    assert (out / "videos" / "cat.npy").read_bytes() == (released.videos / "cat.npy").read_bytes()
    result = run("export", feats, "--out", tmp_path / "x.h5", "--format", "hdf5")
    assert result.exit_code == 0
    assert (tmp_path / "x.h5").is_file()

    for wrong, message in (
        ((*asked, "--layers", "last"), "--layers 'last'"),
        ((*asked, "--layers", "10,11,12", "--fps", "fast"), "Invalid value for '--fps'"),
        ((*asked, "--layers", "9,10,11"), "--layers (vision): "),
        (("export", feats, "--out", out, "--format", "csv"), "must be one of r2-npy, hdf5"),
        (("import", *given[2:], "--videos", out / "no", *asked[-2:]), "there is no folder"),
    ):
        result = run(*wrong)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


def test_queries_of_videos_that_are_not_there_are_left_out_by_name(
    store: FeatureStore, released: Released
) -> None:
    (released.videos / "-dog.npy").rename(released.videos / "-dig.npy")
    dog = [row for row in released.annotations if row.video_id == "-dog"]
    report = bring_in(store, released)
    assert (report.missing, report.num_withheld_queries) == (("-dog (there is '-dig')",), len(dog))
    assert (report.failures, report.complete) == ({}, False)
    assert {row.video_id for row in store.annotations()} == {"cat", "d.o.t"}
