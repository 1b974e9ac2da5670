"""`r2t extract` as it is typed: what it prints, and its exit status."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import typer
from barcode_videos import write_two_streams
from features import unpack_version_1
from s3_server import s3_server
from typer.testing import CliRunner
from video_server import video_server

from r2t.cli.commands.extract.extract import extract
from r2t.store.check.verify import verify_store
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import FeatureSpec
from r2t.store.sources import retries

app = typer.Typer()
app.command()(extract)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one video of three seconds and an annotation of it."""
    folder = tmp_path / "videos"
    folder.mkdir()
    with av.open(str(folder / "wall.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(4))
        stream.width, stream.height = 64, 48
        for shade in range(12):
            picture = np.full((48, 64, 3), 10 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    write_annotations(folder / "queries_val.jsonl", "wall")
    return folder


def write_annotations(path: Path, video_id: str) -> None:
    row = {
        "qid": 7,
        "query": "a wall grows brighter",
        "duration": 3,
        "vid": video_id,
        "relevant_windows": [[0, 2]],
    }
    path.write_text(json.dumps(row) + "\n")


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    # Nothing but an exit may leave a command: a traceback would be a defect.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_becomes_a_store_and_a_second_run_skips_it(
    folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "feats.zarr"
    command = ("--videos", folder, "--model", clip_folder, "--store", store, "--fps", 1)
    status, out, err = run(*command, "--layers", "3,4", "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert (answer["done"], answer["num_frames"], answer["num_new_queries"]) == (["wall"], 3, 1)
    assert answer["complete"] is True
    assert answer["bottleneck"] in answer["stages"]
    assert [stage["num_frames"] for stage in answer["stages"].values()] == [3, 3, 3]
    assert all(stage["frames_per_second"] > 0 for stage in answer["stages"].values())
    opened = FeatureStore.open(store)
    assert opened.spec.vision_layers == (3, 4)
    assert opened.annotations("val")[0].query_id == "7"
    assert opened.provenance["pretrained"] == "folder"
    assert opened.provenance["model"] == str(clip_folder)
    status, out, err = run(*command, "--layers", 2)
    assert status == 0
    assert "0 extracted, 1 skipped (stored already); 0 new queries, 1 stored already" in out
    status, _, err = run(*command, "--layers", 3)
    assert status == 2
    assert f"--layers (vision): [3, 4] in {store}, [2, 3, 4] in this extraction" in err


def test_random_weights_are_recorded_as_such(
    folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    store = tmp_path / "feats.zarr"
    video = folder / "wall.mp4"
    status, out, err = run(
        "--videos", video, "--model", clip_folder, "--pretrained", "none", "--store", store
    )
    assert status == 0, err
    assert "1 new query" in out  # the annotations beside the one video are found
    provenance = FeatureStore.open(store).provenance
    assert provenance["pretrained"] == "none"
    assert "random weights" in provenance["warning"]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("options", "choice", "taken"),
    [(("--fps", 1), "best", 1), (("--preset", "charades"), "first", 0)],
)
def test_a_preset_takes_the_first_of_several_streams_and_says_so(
    clip_folder: Path, tmp_path: Path, options: tuple[object, ...], choice: str, taken: int
) -> None:
    video = write_two_streams(tmp_path / "two.mkv", default=1)
    command = ("--videos", video, "--model", clip_folder, "--store", tmp_path / "feats.zarr")
    status, _, err = run(*command, *options)
    assert status == 0, err
    assert err.count(f"of its 2 video streams, stream {taken} is taken: the {choice}") == 1
    store = FeatureStore.open(tmp_path / "feats.zarr")
    assert store.provenance["stream_choice"] == choice
    assert store.video_row("two").decoder.endswith(f", stream {taken}")
    assert store.spec.frame_rate == 1
    # No part of the identity: the other rule may add to the same store.
    other = ("--preset", "charades") if choice == "best" else ("--fps", 1)
    assert run(*command, *other)[0] == 0


def test_failures_are_named_and_give_status_1(
    folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    write_annotations(folder / "extra.jsonl", "absent")
    command = ("--videos", folder, "--model", clip_folder, "--store", tmp_path / "feats.zarr")
    command += ("--annotations", f"train={folder / 'extra.jsonl'}", "--json")
    status, out, err = run(*command)
    assert status == 1
    assert "failed: broken: " in err
    assert "annotated, but there is no such video: absent" in err
    answer = json.loads(out)
    assert list(answer["failed"]) == ["broken"]
    assert answer["missing_videos"] == {"absent": 1}
    assert answer["num_withheld_queries"] == 1
    status, out, err = run(*command)
    assert status == 1
    assert "add --retry-failed to try them again: broken" in err
    assert "failed: broken: " not in err
    status, _, err = run(*command, "--retry-failed")
    assert status == 1
    assert "failed: broken: " in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--videos", "nowhere"], "there is no such folder or video"),
        (["--videos", "."], "it holds no videos"),
        (["--videos", "moments.csv"], "give it as --annotations"),
        (["--model", "ViT-B-31"], "did you mean ViT-B-32"),
        (["--pretrained", "missing.safetensors"], "no weight file missing.safetensors"),
        (["--layers", "5"], "last 1 to 4"),
        (["--memory-limit", "0.1GB"], "a decoder needs at least 0.5 GB"),
        (["--dask", "local:many"], "give local:N with N workers"),
        (["--only", "nobody"], "there is no video nobody among the 1 found"),
        (["--shard", "0/8"], "shards are counted from 1"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--annotations", "nothing.jsonl"], "nothing.jsonl"),
        (["--annotations", "dev=nothing.jsonl"], "is none of train, val, test"),
        (["--store", "https://example.org/feats.zarr"], "local disk"),
    ],
)
def test_what_cannot_be_met_is_one_line_and_status_2(
    folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    Path("moments.csv").touch()
    defaults = {"--videos": str(folder), "--model": str(clip_folder)}
    for name, value in defaults.items():
        if name not in options:
            options = [*options, name, value]
    status, out, err = run(*options)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert not Path("feats.zarr").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dask", "local:many"], "give local:N with N workers"),
        (["--dask", "tcp://127.0.0.1:9"], "cannot be reached"),
        (["--store", "https://example.org/feats.zarr"], "local disk"),
    ],
)
def test_places_are_refused_before_clip_is_loaded(
    options: list[str],
    message: str,
    folder: Path,
    clip_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded first")

    monkeypatch.setattr("r2t.extract.clip.clip.FrozenClip.load", load)
    status, _, err = run("--videos", folder, "--model", clip_folder, *options)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 1}, "--fps: 0.5 in {store}, 1.0 in this extraction"),
        ({"dtype": "int8"}, "--dtype: 'float16' in {store}, 'int8' in this extraction"),
        ({"model": "ViT-B-32-quickgelu"}, "--model: 'r2t-demo' in {store}, 'ViT-B-32-quickgelu'"),
        ({"store": "{folder}"}, "is no Zarr v3 group"),
        ({"store": "{old}"}, "has format version 1, which is only read; `r2t store upgrade"),
    ],
)
def test_a_store_made_otherwise_is_refused_before_clip_is_downloaded(
    options: dict[str, object],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded first")

    monkeypatch.setattr("r2t.extract.clip.clip.FrozenClip.load", load)
    spec = FeatureSpec(
        model="r2t-demo",
        weights_sha256="0" * 64,
        vision_layers=(5, 6),
        text_layers=(5, 6),
        frame_rate=0.5,
        num_tokens=17,
        vision_width=128,
        text_width=64,
        image_size=64,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    names = {"store": "store", "old": "float16.zarr", "folder": folder.name}
    places = {key: str(tmp_path / name) for key, name in names.items()}
    FeatureStore.create(places["store"], spec)
    unpack_version_1(tmp_path)
    given = {"model": "r2t-demo", "store": "{store}"} | options
    words = [f"--{name}={str(value).format(**places)}" for name, value in given.items()]
    status, _, err = run("--videos", folder, *words)
    assert status == 2
    assert message.format(**places) in err


def test_the_command_runs_as_a_program(folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    program = (
        "import typer; from r2t.cli.commands.extract.extract import extract; typer.run(extract)"
    )
    command = [sys.executable, "-c", program, "--videos", str(folder), "--model", str(clip_folder)]
    finished = subprocess.run(
        [*command, "--store", str(tmp_path / "feats.zarr")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert "1 extracted; 1 new query" in finished.stdout
    assert len(finished.stdout.splitlines()) == len(finished.stderr.splitlines()) == 1
    assert "bound by " in finished.stderr


class TestDryRun:
    def test_tells_frames_bytes_and_time_and_writes_nothing(
        self, folder: Path, clip_folder: Path, tmp_path: Path
    ) -> None:
        store = tmp_path / "feats.zarr"
        command = ("--videos", folder, "--model", clip_folder, "--store", store, "--fps", 1)
        status, out, err = run(*command, "--dry-run", "--json")
        assert status == 0, err
        assert not store.exists()
        plan = json.loads(out)
        assert (plan["num_videos"], plan["num_frames"], plan["num_queries"]) == (1, 3, 1)
        embeddings = 3 * 16 * 2
        assert plan["num_bytes"] == 4 * 3 * 5 * 32 * 2 + embeddings
        assert plan["seconds"] >= plan["encode_seconds"] > 0
        tiers = {
            (tier["num_layers"], tier["cls_only"], tier["dtype"]): tier["num_bytes"]
            for tier in plan["tiers"]
        }
        half, whole = (tiers[number, False, "float16"] - embeddings for number in (2, 4))
        assert half * 2 == whole == plan["num_bytes"] - embeddings
        assert tiers[1, True, "int8"] == 3 * 32 + 2 * 4 * 32 + embeddings

        assert run(*command)[0] == 0
        chunks = store.glob("videos/*/*/c/**/*")
        written = sum(file.stat().st_size for file in chunks if file.is_file())
        assert plan["num_bytes"] <= written <= plan["num_bytes"] + 200  # the shard's index
        status, out, _ = run(*command, "--dry-run")
        assert status == 0
        assert "0 videos" in out
        assert "0 queries (about 0 B); 1 stored already" in out
        assert "← this extraction" in out
        status, _, err = run(*command, "--dry-run", "--layers", 3)
        assert status == 2
        assert "--layers (vision)" in err

    def test_names_what_would_fail(self, folder: Path, clip_folder: Path, tmp_path: Path) -> None:
        (folder / "broken.mp4").write_bytes(b"no video")
        for name in ("broken", "missing"):  # the first cannot be read, the second is not there
            text = (folder / "queries_val.jsonl").read_text()
            row = text.replace("wall", name).replace("7", f'"of {name}"', 1)
            (folder / f"{name}_val.jsonl").write_text(row)
        command = ("--videos", folder, "--model", clip_folder, "--store", tmp_path / "feats.zarr")
        status, out, err = run(*command, "--dry-run")
        assert status == 1
        assert "; 1 query (about" in out
        assert "1 video," in out
        assert "would fail: broken: " in err


def test_only_the_named_videos_are_extracted(
    folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    for name in ("second", "third"):
        (folder / f"{name}.mp4").write_bytes((folder / "wall.mp4").read_bytes())
    chosen = tmp_path / "ids.txt"
    chosen.write_text("third\n\nwall\n")
    command = ("--videos", folder, "--model", clip_folder, "--store", tmp_path / "feats.zarr")
    status, out, err = run(*command, "--only", chosen, "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert sorted(answer["done"]) == ["third", "wall"]
    assert answer["num_new_queries"] == 1
    status, out, err = run(*command, "--only", "second", "--json")
    assert (status, json.loads(out)["done"], json.loads(out)["missing_videos"]) == (
        0,
        ["second"],
        {},
    )
    status, _, err = run(*command, "--only", "second", "--only", "fourth", "--only", "fifth")
    assert status == 2
    assert "there is no video fourth, fifth among the 3 found" in err


def test_shards_fill_one_store_as_one_run_does(
    folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    names = ["wall", *(f"wall{number}" for number in range(5))]
    for name in names[1:]:
        shutil.copy(folder / "wall.mp4", folder / f"{name}.mp4")
    rows = [f"{name}.mp4,a wall {number},0,1" for number, name in enumerate([*names, "absent"])]
    (folder / "queries_val.jsonl").unlink()
    (folder / "rows.csv").write_text("\n".join(["video,query,start,end", *rows]) + "\n")
    command = ("--videos", folder, "--model", clip_folder, "--store", tmp_path / "feats.zarr")
    status, out, err = run(*command, "--shard", "1/2", "--dry-run", "--json")
    share = json.loads(out)["num_videos"]
    assert (status, 0 < share < 6) == (0, True)
    assert f"shard 1/2: {share} of 6 videos; of 2 shards" in err
    answers: list[dict[str, Any]] = []
    for number in (1, 2):
        _, out, err = run(*command, "--shard", f"{number}/2", "--json")
        answers.append(json.loads(out))
    assert len(answers[0]["done"]) == share
    assert sorted(name for each in answers for name in each["done"]) == sorted(names)
    assert [name for each in answers for name in each["missing_videos"]] == ["absent"]
    assert sum(each["num_new_queries"] for each in answers) == 6
    store = FeatureStore.open(tmp_path / "feats.zarr")
    assert sorted(store.videos["video_id"]) == sorted(names)
    assert sorted(each.video_id for each in store.annotations()) == sorted(names)
    status, out, _ = run(*command, "--json")
    answer = json.loads(out)
    assert (answer["done"], answer["num_new_queries"], status) == ([], 0, 1)  # "absent" is missing


@pytest.mark.filterwarnings("default")
def test_videos_behind_urls_are_fetched_and_gone_afterwards(
    folder: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2t.store.sources.retries._FIRST_PAUSE_SECONDS", 0.001)
    scratch = tmp_path / "scratch"
    store, list_file = tmp_path / "feats.zarr", tmp_path / "urls.txt"
    (tmp_path / "rows.csv").write_text("video,query,start,end\nwall.mp4,a wall,0,1\n")
    with video_server(folder / "wall.mp4") as served:
        for name in ("paper.mp4", "other.mp4", "short.mp4"):
            served.files[name] = served.files["wall.mp4"]
        host = served.url.removeprefix("http://")
        list_file.write_text(
            f"http://me:secret@{host}/whole/wall.mp4?key=secret\n{served.url}/page/paper.mp4\n"
            f"{served.url}/cut/other.mp4\n{served.url}/short/short.mp4\n"
        )
        command = ("--videos", list_file, "--model", clip_folder, "--store", store, "--fps", 1)
        command += ("--annotations", tmp_path / "rows.csv", "--scratch", scratch)
        status, out, err = run(*command, "--dry-run", "--json")
        plan = json.loads(out)
        assert (status, plan["num_videos"], plan["num_frames"]) == (1, 2, 6)
        status, out, err = run(*command, "--json")
        answer = json.loads(out)
        assert status == 1
        assert sorted(answer["done"]) == ["other", "wall"]
        assert answer["num_new_queries"] == 1
        assert "sent a page, not a video" in answer["failed"]["paper"]
        assert f"{served.url}/short/short.mp4" in answer["failed"]["short"]
    assert list(scratch.iterdir()) == []
    opened = FeatureStore.open(store)
    row = opened.video_row("wall")
    video = (folder / "wall.mp4").read_bytes()
    assert (row.source_name, row.source_bytes) == ("wall.mp4", len(video))
    assert row.source_sha256 == hashlib.sha256(video).hexdigest()
    tokens = opened.read_video("wall").tokens
    np.testing.assert_array_equal(opened.read_video("other").tokens, tokens)
    assert run("--videos", folder, *command[2:])[0] == 0  # the same video, from the folder
    np.testing.assert_array_equal(FeatureStore.open(store).read_video("wall").tokens, tokens)
    quarantine = (tmp_path / "feats.zarr.quarantine.jsonl").read_text()
    assert quarantine.count("video_id") == 2
    kept = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert "secret" not in f"{out}{err}{quarantine}"
    assert b"secret" not in kept
    assert b"127.0.0.1" not in kept


def test_a_preset_is_a_frame_rate(folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    command = ("--videos", folder, "--model", clip_folder, "--store", tmp_path / "feats.zarr")
    assert run(*command, "--preset", "charades")[0] == 0
    assert FeatureStore.open(tmp_path / "feats.zarr").spec.frame_rate == 1.0
    status, _, err = run(*command, "--preset", "charades", "--fps", 2)
    assert status == 2
    assert "--preset charades means 1.0 frames a second, but --fps is 2: give only one" in err


@pytest.mark.stress
def test_killed_extractions_are_completed_by_the_next(
    folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """Kill the command five times, each time later, then let it end."""
    for number in range(12):
        shutil.copy(folder / "wall.mp4", folder / f"wall{number}.mp4")
    store = tmp_path / "feats.zarr"
    command = [sys.executable, "-m", "r2t.cli", "extract", "--videos", folder, "--store", store]
    command += ["--model", clip_folder, "--layers", "2", "--fps", "1"]
    num_killed, seconds = 0, 1.0
    whole: set[str] = set()
    while True:
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=None if num_killed == 5 else seconds)
            if num_killed == 5:
                break
            seconds *= 0.7  # it was quicker than the signal
            shutil.rmtree(store)
            whole = set()
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            num_killed, seconds = num_killed + 1, seconds + 0.7
            if store.exists():
                opened = FeatureStore.open(store)
                names = [f"wall{number}" for number in range(12)]
                there = {name for name in names if opened.has_video(name)}
                assert whole <= there
                whole = there
                for name in there:
                    assert opened.read_video(name).num_frames == 3
    assert process.returncode == 0
    assert verify_store(store).faults == ()
    assert len(FeatureStore.open(store).videos) == 13


def test_one_video_is_extracted_with_its_own_rows(
    folder: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "more.csv").write_text("video;query;start;end\nwall.mp4;a;0;1\nother;b;0;1\n")
    (folder / "rows.xlsx").write_bytes(b"PK")
    monkeypatch.chdir(folder)
    options = ("--model", clip_folder, "--store", tmp_path / "feats.zarr")
    status, out, err = run("--videos", "wall.mp4", *options)
    assert status == 0, err
    assert "2 new queries" in out
    assert "1 query of other videos than wall.mp4 left out" in err
    assert "passed over: rows.xlsx: a spreadsheet: save it as CSV" in err
    # The video lies here, and is no list of ids.
    status, _, err = run("--videos", ".", "--only", "wall.mp4", *options)
    assert status == 0, err
    status, _, err = run("--videos", ".", "--only", "Wall", *options)
    assert (status, "Wall (there is 'wall', spelled differently)" in err) == (2, True)


def test_a_store_in_a_bucket_when_the_credentials_expire_meanwhile(
    folder: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.001)
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = f"{server.url}/feats.zarr"
        command = ("--videos", folder, "--model", clip_folder, "--store", store, "--fps", 1)
        status, out, err = run(*command, "--dry-run", "--json")
        assert (status, json.loads(out)["free_bytes"]) == (0, None), err
        shutil.copy(folder / "wall.mp4", folder / "another.mp4")
        (folder / "broken.mp4").write_bytes(b"no video")
        server.fault = lambda request: "expired token" if "tokens/c" in request.key else None
        status, _, err = run(*command)
        assert status == 2
        assert "the credentials have expired" in err
        assert "Traceback" not in err
        server.fault = lambda _: None
        status, out, err = run(*command)
        assert status == 1, err  # one of the files is none
        assert "2 extracted, 1 failed; 1 new query" in out
        assert f"{store}.quarantine.jsonl" in err
        status, out, err = run(*command)
        assert "0 extracted, 2 skipped (stored already), 1 passed over (failed before)" in out
        assert sorted(FeatureStore.open(store)) == ["another", "wall"]
        assert verify_store(store).faults == ()
