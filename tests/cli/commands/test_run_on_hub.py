"""A run on a hub: pushed, asked where it is, pulled; and what is no run is refused."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hub_server import Hub, Repository
from tiny_config import tiny_config
from toy_store import make_store
from typer.main import get_command
from typer.testing import CliRunner

from r2t.cli.main import app
from r2t.cli.shared.runs import HubRun, parse_run, with_runs_here
from r2t.train.model.model import R2Model
from r2t.train.run.hub_card import model_card
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import InitialWeights, TrainedOn

URL = "hf://org/run"
PLACES = {
    "model": "hf-hub:org/clip",
    "pretrained": "/home/me/clip.pt",
    "merged": ["mine/a.zarr", "https://me:word@example.org/b.zip?Signature=1"],
    "imported": {"videos": "vid", "queries": "/home/me/txt"},
    "pulled": "hf://datasets/org/feats at 1234",
}
METRICS = {"epoch": 2, "is_best": True, "metrics": {"MR-full-mAP": 41.256, "odd": None}}
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy store and, beside it, an untrained run for its features."""
    place = tmp_path_factory.mktemp("made")
    store = make_store(place / "feats.zarr")
    folder, config = RunFolder(place / "run"), tiny_config(store)
    known = TrainedOn(
        store=str(place / "feats.zarr"),
        identity=store.spec,
        content=store.content_digest(),
        provenance=PLACES,
        initial=InitialWeights(str(place / "first"), "0" * 64),
    )
    folder.claim(config, known, resume=False)
    folder.save_weights("best", R2Model(config.model))
    return place


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A run with records, and with what must stay here."""
    folder = Path(shutil.copytree(made / "run", tmp_path / "run"))
    earlier = {"epoch": 0, "is_best": True, "metrics": {"MR-full-mAP": 1.0}}
    lines = [earlier, {"epoch": 1, "is_best": False}, METRICS]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rule = {"threshold": 0.5, "store": "s3://ours/feats.zarr"}
    (folder / "presence.json").write_text(json.dumps(rule))
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events.out.tfevents.17.host.99.0").write_bytes(b"curves")
    for name in ("state.safetensors", "model.pth"):
        (folder / name).write_bytes(b"stays here")
    return folder


def run(*arguments: object) -> str:
    answer = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    return f"{answer.exit_code} {answer.stdout}{answer.stderr}"


def test_a_run_is_pushed_asked_where_it_is_and_pulled(
    hub: Hub, made: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = run("run", "push", folder, URL, "--licence", "mit")
    assert answer.startswith("0 "), answer
    names = {"README.md", "config.json", "best.safetensors", "metrics.jsonl", "presence.json"}
    assert set(hub.files("org/run")) - {".gitattributes"} == names
    hub.requests.clear()
    assert "0 of them" in run("run", "push", folder, URL)  # the licence is the card's
    assert hub.count("POST", "/commit/") == 0
    assert run("run", "push", folder, URL, "--tensorboard").startswith("0 ")
    assert set(hub.files("org/run")) - {".gitattributes"} - names == {
        "tensorboard/events.out.tfevents.17.0"
    }

    parameters = {"checkpoint": parse_run(URL)}
    with_runs_here(parameters)
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    question = ("eval", "--store", made / "feats.zarr", "--split", "val", "--device", "cpu")
    answer = run(*question, "--checkpoint", URL)
    assert answer.startswith("0 "), answer
    assert "mAP" in answer
    assert "the run is on a hub, so no files are written" in answer
    assert hub.requests == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    answer = run("run", "pull", URL, tmp_path / "pulled")
    assert answer.startswith("0 "), answer
    assert {path.name for path in (tmp_path / "pulled").iterdir()} == names
    for name in names - {"config.json", "presence.json"}:
        assert (tmp_path / "pulled" / name).read_bytes() == (folder / name).read_bytes()
    config, known = RunFolder(folder).load_config()
    told = RunFolder(tmp_path / "pulled").load_config()
    assert told == (
        config,
        replace(
            known,
            store="feats.zarr",
            initial=InitialWeights("first", "0" * 64),
            provenance={
                **PLACES,
                "pretrained": "clip.pt",
                "merged": ["a.zarr", "b.zip"],
                "imported": {"videos": "vid", "queries": "txt"},
            },
        ),
    )
    sent = b"".join((tmp_path / "pulled" / name).read_bytes() for name in names)
    for secret in (str(made), "/home/me", "me:word", "Signature=", "ours"):
        assert secret.encode() not in sent
    assert "give a new folder" in run("run", "pull", URL, tmp_path / "pulled")


def test_a_pull_that_was_broken_off_mixes_no_commits(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    assert run("run", "push", folder, URL, "--licence", "MIT").startswith("0 ")
    left = tmp_path / "pulled.pull" / "ready"
    left.mkdir(parents=True)
    (left / "presence.json").write_text("{}")
    files = hub.files("org/run")
    hub.repository("org/run").add({n: c for n, c in files.items() if n != "presence.json"})
    assert run("run", "pull", URL, tmp_path / "pulled").startswith("0 ")
    assert not (tmp_path / "pulled" / "presence.json").exists()


def test_the_card_says_what_the_records_say(folder: Path) -> None:
    card = model_card(folder, URL, "MIT")
    assert "| MR-full-mAP | 41.26 |" in card
    assert "Best epoch: 3 of 3." in card
    assert "so these scores are optimistic" in card
    assert "CLIP (random)" in card
    assert "sha256:" in card
    assert card.startswith('---\nlibrary_name: "r2t"\nlicense: "mit"\n')
    (folder / "metrics.jsonl").unlink()
    assert "no record of scores" in model_card(folder, URL, "MIT")
    spec = RunFolder(folder).load_spec()
    assert spec.weights_sha256 in card


def test_without_a_licence_nothing_is_sent(hub: Hub, folder: Path) -> None:
    assert "add --licence" in run("run", "push", folder, URL)
    assert hub.requests == []


def test_what_people_wrote_into_a_card_stays(hub: Hub, folder: Path) -> None:
    (folder / "README.md").write_text("my own words")
    assert run("run", "push", folder, URL, "--licence", "MIT").startswith("0 ")
    card = hub.files("org/run")["README.md"]
    assert card == (folder / "README.md").read_bytes()
    assert b"my own words\n\n<!-- made by r2t run push" in card
    hub.repository("org/run").add({**hub.files("org/run"), "README.md": card + b"and theirs"})
    answer = run("run", "push", folder, URL)
    assert answer.startswith("2 ")
    assert "differ in what people wrote" in answer
    (folder / "README.md").unlink()
    assert run("run", "push", folder, URL, "--licence", "MIT").startswith("0 ")
    card = hub.files("org/run")["README.md"]
    assert b"my own words" in card
    assert card.endswith(b"and theirs\n")


def test_what_is_no_run_is_refused_before_a_licence_is_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    answer = run("run", "push", tmp_path, URL)
    assert answer.startswith("2 ")
    assert "holds no training run, it lacks config.json" in answer
    answer = run("run", "push", folder / "best.safetensors", URL)
    assert "best.safetensors is a file; give the folder that r2t train wrote" in answer


def test_another_model_is_not_replaced(hub: Hub, folder: Path) -> None:
    hub.repositories["org/run"] = Repository()
    hub.repository("org/run").add({"config.json": b"{}", "model.safetensors": b"bert"})
    assert "holds something else" in run("run", "push", folder, URL, "--licence", "MIT")
    assert hub.files("org/run")["config.json"] == b"{}"


def test_what_is_no_run_is_refused(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("org/run", "org/other", "org/gated"):
        hub.repositories[name] = Repository(is_gated=name == "org/gated")
        hub.repository(name).add({"model.pth": b"pickle", "config.json": b"{}"})
    question = ("search", "a ball", "--store", tmp_path / "feats.zarr")
    told = {
        "hf://org/other": "holds no run: it lacks best.safetensors",
        "hf://org/absent": "there is no hf://org/absent",
        "hf://org/gated": "is gated",
        "hf://datasets/org/x": "a run is a model",
        "hf://org": "give hf://",
    }
    for url, reason in told.items():
        answer = run(*question, "--checkpoint", url)
        assert answer.startswith("2 ")
        assert reason in answer
    monkeypatch.setattr("r2t.cli.shared.runs._MOST_RECORD_BYTES", 1)
    hub.repository("org/run").add({"best.safetensors": b"", "config.json": b"{}"})
    assert "more than the 1" in run("run", "pull", URL, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_every_command_that_takes_a_run_takes_one_of_a_hub() -> None:
    found: dict[str, bool] = {}
    for command in commands(get_command(app)):
        hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
        for option in command.params:
            if option.opts[-1] in ("--checkpoint", "--init"):
                (info,) = hints[option.name].__metadata__
                found[command.name] = info.parser is parse_run
    assert found.pop("calibrate") is False  # it writes into the run
    assert found.keys() >= {"predict", "search", "serve", "report", "eval", "train"}
    assert all(found.values()), found


def commands(group: Any) -> Iterator[Any]:
    for inner in group.commands.values():
        loaded = inner.load()
        yield from commands(loaded) if hasattr(loaded, "commands") else [loaded]


def test_offline_only_the_cache_is_asked(hub: Hub) -> None:
    parameters = {"checkpoint": parse_run(URL), "offline": True}
    answer = run("predict", "dog.mp4", "a ball", "--checkpoint", URL, "--offline")
    assert answer.startswith("2 ")
    assert f"offline, and {URL} is not in the cache" in answer
    assert hub.requests == []
    assert isinstance(parameters["checkpoint"], HubRun)


def test_bytes_that_are_not_what_was_pushed_are_refused(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    assert run("run", "push", folder, URL, "--licence", "MIT").startswith("0 ")
    for digest, content in hub.objects.items():
        hub.objects[digest] = content[:-1] + b"x"
    assert "not what the hub says" in run("run", "pull", URL, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    answer = run("search", "a ball", "--store", "feats.zarr", "--checkpoint", URL)
    assert "not what the hub says" in answer
    parameters = {"models": [parse_run(str(folder)), parse_run("other.jsonl")]}
    with_runs_here(parameters)
    assert parameters["models"] == [folder, Path("other.jsonl")]
