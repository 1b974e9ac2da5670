"""A store on a hub: pushed, read where it is, pulled; what is broken off goes on, and is whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from features import random_tokens, write_video
from hub_server import TOKEN, Hub, Repository
from typer.testing import CliRunner

from r2t.cli.commands.store.store import app
from r2t.store import FeatureStore
from r2t.store.card import CardTexts, write_card
from r2t.store.change import pack_store, pack_zip_set
from r2t.store.check.verify import verify_store
from r2t.store.errors import ConfigError, CorruptFeatureError, ServerError, StoreError
from r2t.store.format.canonical_json import sealed
from r2t.store.share import pull_store, push_store
from r2t.store.share.push import UNFINISHED_ZIPS
from r2t.store.sources.hub import HubPlace, explained_hub_error

URL = "hf://datasets/org/feats"
ONE_VIDEO = 1  # a byte more would be needed for a second one
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*redirects requests to localhost"),
]


def run(*arguments: object) -> str:
    answer = CliRunner().invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False
    )
    return f"{answer.exit_code} {answer.stdout}{answer.stderr}"


def test_a_store_is_pushed_read_where_it_is_and_pulled(
    hub: Hub, store: Path, tmp_path: Path
) -> None:
    content = FeatureStore.open(store).content_digest()
    answer = run("push", store, URL, "--json")
    assert answer.startswith("0 "), answer
    assert json.loads(answer[2:])["content"] == content
    assert {"README.md", "croissant.json", "r2t-zips.json"} < set(hub.files())
    assert b"license" in hub.files()["README.md"]
    for sent in (*hub.files().values(), *hub.objects.values()):
        assert b"/home/me" not in sent
    assert FeatureStore.open(URL).provenance["merged"] == ["a.zarr"]
    hub.requests.clear()
    found = FeatureStore.open(URL)
    # The commit; no plain store; the manifest; the first zip, passed on to where it lies.
    assert len(hub.requests) == 5
    assert found.content_digest() == content
    local = FeatureStore.open(store)
    for video_id in local:
        np.testing.assert_array_equal(
            found.read_video(video_id).tokens, local.read_video(video_id).tokens
        )
    answer = run("pull", URL, tmp_path / "pulled.zarr", "--json")
    assert answer.startswith("0 "), answer
    assert verify_store(tmp_path / "pulled.zarr").faults == ()
    assert FeatureStore.open(tmp_path / "pulled.zarr").content_digest() == content
    assert {path.name for path in tmp_path.iterdir()} == {"feats.zarr", "pulled.zarr"}
    assert hub.authorizations == {"127.0.0.1": {f"Bearer {TOKEN}"}}


def test_where_a_zip_lies_is_asked_once_and_again_when_that_has_expired(
    hub: Hub, store: Path
) -> None:
    report = push_store(store, URL, max_bytes=ONE_VIDEO)
    found = FeatureStore.open(URL)

    def read() -> tuple[int, int]:
        hub.requests.clear()
        for video_id in found:
            found.read_video(video_id)
        return hub.count("GET", "/resolve/"), hub.count("GET", "/cdn/")

    num_videos = len(found)
    assert report.num_zips == num_videos + 1
    asked, ranges = read()
    assert (asked, ranges > num_videos) == (num_videos, True)
    asked, ranges = read()
    assert (asked, ranges > 0) == (0, True)
    hub.signature += 1
    asked, refused = read()
    assert (asked, refused) == (num_videos, ranges + num_videos)  # each is refused once
    assert read() == (0, ranges)
    hub.gets_left = 0
    with pytest.raises(ServerError, match="access denied"):
        found.read_video("cat")
    assert hub.authorizations == {"127.0.0.1": {f"Bearer {TOKEN}"}}


def test_nothing_that_is_packed_tells_where_files_lay(store: Path, tmp_path: Path) -> None:
    (archive,) = pack_store(store, tmp_path / "feats.zip").archives
    pack_zip_set(store, tmp_path / "set")
    for path in (archive, *(tmp_path / "set").iterdir()):
        assert b"/home/me" not in path.read_bytes()
    for place in (archive, tmp_path / "set"):
        assert FeatureStore.open(place).provenance["merged"] == ["a.zarr"]
    assert FeatureStore.open(store).provenance["merged"] == ["/home/me/secret/a.zarr"]


def test_a_plain_folder_that_others_sent_is_read_and_pulled(
    hub: Hub, store: Path, tmp_path: Path
) -> None:
    files = [path for path in store.rglob("*") if path.is_file()]
    repository = hub.repositories["datasets/org/feats"] = Repository()
    repository.add({path.relative_to(store).as_posix(): path.read_bytes() for path in files})
    content = FeatureStore.open(store).content_digest()
    assert FeatureStore.open(URL).content_digest() == content
    report = pull_store(URL, tmp_path / "pulled.zarr")
    assert report.content == content
    pulled = FeatureStore.open(tmp_path / "pulled.zarr")
    assert pulled.provenance["merged"] == [f"{URL}@{report.commit}"]
    assert verify_store(tmp_path / "pulled.zarr").faults == ()


def test_the_same_store_again_sends_nothing_and_a_longer_one_what_is_new(
    hub: Hub, store: Path
) -> None:
    first = push_store(store, URL, max_bytes=ONE_VIDEO)
    assert (first.num_zips, first.num_new) == (4, 4)
    before = hub.files()
    hub.requests.clear()
    assert push_store(store, URL, max_bytes=ONE_VIDEO).commit == first.commit
    assert hub.count("PUT") == hub.count("POST", "/commit/") == 0
    with FeatureStore.open(store).writer() as writer:
        write_video(writer, "new", random_tokens(3, seed=9))
    second = push_store(store, URL)  # of another size: what is there stays
    assert (second.num_zips, second.num_new) == (5, 2)
    index = {name for name in before if name.startswith("index-")}
    assert set(before) - set(hub.files()) == index
    assert verify_store(URL).faults == ()


def test_a_push_that_was_broken_off_goes_on(
    hub: Hub, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2t.store.share.push._ZIPS_PER_COMMIT", 1)
    hub.puts_left = 2
    with pytest.raises(ServerError, match=r"hub cannot be used: .*the storage is away.*again"):
        push_store(store, URL, max_bytes=ONE_VIDEO)
    assert UNFINISHED_ZIPS in hub.files()
    with pytest.raises(StoreError, match="no Zarr v3 group"):
        FeatureStore.open(URL)
    hub.puts_left = None
    hub.requests.clear()
    report = push_store(store, URL, max_bytes=ONE_VIDEO)
    assert (report.num_zips, report.num_new, hub.count("PUT")) == (4, 2, 2)
    assert UNFINISHED_ZIPS not in hub.files()
    assert [path.name for path in store.parent.iterdir()] == ["feats.zarr"]
    assert verify_store(URL).faults == ()


def test_a_pull_that_was_broken_off_goes_on(hub: Hub, store: Path, tmp_path: Path) -> None:
    push_store(store, URL, max_bytes=ONE_VIDEO)
    into = tmp_path / "pulled.zarr"
    hub.gets_left = 2  # the first zip, and one with a video
    with pytest.raises(ServerError, match="refuses"):
        pull_store(URL, into)
    assert len(FeatureStore.open(into).videos) == 1
    hub.gets_left = None
    hub.requests.clear()
    report = pull_store(URL, into)
    assert (report.num_videos, report.num_present) == (2, 1)
    assert hub.count("GET", "/cdn/") == 2
    assert verify_store(into).faults == ()
    assert not into.with_name("pulled.zarr.pull").exists()


def test_bytes_that_are_not_what_was_pushed_are_refused(
    hub: Hub, store: Path, tmp_path: Path
) -> None:
    push_store(store, URL, max_bytes=ONE_VIDEO)
    zips = sorted(name for name in hub.files() if name.startswith("videos-"))
    files = dict(hub.files())
    swapped = {**files, zips[0]: files[zips[1]]}
    hub.repository().add(swapped)
    with pytest.raises(CorruptFeatureError, match=f"{zips[0]} is another zip"):
        pull_store(URL, tmp_path / "a.zarr")
    with pytest.raises(CorruptFeatureError, match=f"{zips[0]} is another zip"):
        list(verify_all(URL))
    hub.repository().add({name: files[name] for name in files if name != zips[1]})
    with pytest.raises(ServerError, match=f"there is no {zips[1]}"):
        pull_store(URL, tmp_path / "b.zarr")
    hub.repository().add(files)
    for digest, content in hub.objects.items():  # the hub's disk is damaged
        if content == files[zips[2]]:
            hub.objects[digest] = content[:-1] + b"x"
    with pytest.raises(ServerError, match="not what the hub says"):
        pull_store(URL, tmp_path / "c.zarr")


def verify_all(url: str) -> list[object]:
    store = FeatureStore.open(url)
    return [store.read_video(video_id) for video_id in store]


def test_a_manifest_of_another_hand_is_refused(hub: Hub, store: Path, tmp_path: Path) -> None:
    push_store(store, URL)
    files = dict(hub.files())
    values = json.loads(files["r2t-zips.json"])
    values["videos"][0]["name"] = "../../slip.zip"
    manifest = json.dumps(sealed(values, "manifest_digest")).encode()
    hub.repository().add({**files, "r2t-zips.json": manifest})
    with pytest.raises(CorruptFeatureError, match=r"slip\.zip"):
        pull_store(URL, tmp_path / "sub" / "pulled.zarr")
    hub.repository().add({"r2t-zips.json": b"{}"})
    with pytest.raises(CorruptFeatureError, match="no manifest"):
        FeatureStore.open(URL)


def test_a_manifest_of_any_size_is_not_fetched(
    hub: Hub, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_store(store, URL)
    for module in ("pull", "push"):
        monkeypatch.setattr(f"r2t.store.share.{module}.MAX_READ_BYTES", 100)
    hub.requests.clear()
    for act in (lambda: pull_store(URL, tmp_path / "p.zarr"), lambda: push_store(store, URL)):
        with pytest.raises(StoreError, match=r"r2t-zips\.json has .* bytes, more than the 100"):
            act()
    assert hub.count("GET", "r2t-zips.json") == 0


def test_a_link_where_a_pull_would_keep_its_zips_is_not_followed(
    hub: Hub, store: Path, tmp_path: Path
) -> None:
    push_store(store, URL)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "p.zarr.pull").symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreError, match="is not this user's own folder"):
        pull_store(URL, tmp_path / "p.zarr")
    assert list((tmp_path / "theirs").iterdir()) == []


def test_a_revision_stays_what_it_was(hub: Hub, store: Path, tmp_path: Path) -> None:
    first = push_store(store, URL)
    hub.repository().tags["v1"] = first.commit
    opened = FeatureStore.open(URL)
    with FeatureStore.open(store).writer() as writer:
        write_video(writer, "new", random_tokens(3, seed=9))
    push_store(store, URL)
    assert "new" in FeatureStore.open(URL)
    assert "new" not in FeatureStore.open(f"{URL}@v1")
    opened.read_video("cat")  # of the commit that it was opened at
    assert pull_store(f"{URL}@v1", tmp_path / "old.zarr").content == first.content


def test_who_pushes_meanwhile_is_noticed(
    hub: Hub, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_store(store, URL)
    with FeatureStore.open(store).writer() as writer:
        write_video(writer, "new", random_tokens(3, seed=9))
    from r2t.store.share.commits import HubRepository

    send = HubRepository.send

    def interfere(self: HubRepository, path: Path, name: str) -> None:
        hub.repository().add({**hub.files(), "README.md": b"another"})
        send(self, path, name)

    monkeypatch.setattr(HubRepository, "send", interfere)
    with pytest.raises(ServerError, match=r"412|commit has happened"):
        push_store(store, URL)
    assert hub.files()["README.md"] == b"another"


def test_refusals_say_what_to_do_and_show_no_token(
    hub: Hub, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["datasets/org/gated"] = Repository(is_gated=True)
    hub.repositories["datasets/org/secret"] = Repository(is_private=True)
    hub.repositories["datasets/org/other"] = Repository()
    for name in ("gated", "secret", "other"):
        hub.repository(f"datasets/org/{name}").add({"hello.txt": b""})
    told = {
        "gated": r"org/gated is gated: accept its conditions at http\S+/datasets/org/gated",
        "absent": "there is no hf://datasets/org/absent, or it is private",
        "other@v9": "no such revision",
        "other": r"no Zarr v3 group|holds no store",
    }
    for name, reason in told.items():
        for act in (FeatureStore.open, lambda url: pull_store(url, store.with_name("p.zarr"))):
            with pytest.raises(StoreError, match=reason) as caught:
                act(f"hf://datasets/org/{name}")
            assert TOKEN not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ServerError, match="or it is private"):
        FeatureStore.open("hf://datasets/org/secret")
    with pytest.raises(ServerError, match="log in") as caught:
        push_store(store, URL)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StoreError, match="HF_HUB_OFFLINE is set"):
        FeatureStore.open(URL)


def test_no_signature_of_an_address_is_shown() -> None:
    url = "https://s3.example/a.zip?X-Amz-Signature=secret&part=1"
    error = OSError(f"Server error '500' for url '{url}'\nFor url: {url} (is it there?)")
    told = str(explained_hub_error(HubPlace.parse(URL), error))
    assert "for url 'https://s3.example/a.zip?…'" in told
    assert "(is it there?)" in told
    assert "secret" not in told


def test_a_repository_of_something_else_stays_as_it_is(hub: Hub, store: Path) -> None:
    repository = hub.repositories["datasets/org/feats"] = Repository()
    raw = {"README.md": b"raw videos", "videos-part1.zip": b"1", "index-of-all.zip": b"2"}
    repository.add(raw)
    with pytest.raises(StoreError, match=r"holds something else, such as index-of-all\.zip"):
        push_store(store, URL)
    assert hub.files() == raw
    repository.add({"README.md": b"new"})
    push_store(store, URL)
    repository.add({**hub.files(), **raw})
    with FeatureStore.open(store).writer() as writer:
        write_video(writer, "new", random_tokens(3, seed=9))
    push_store(store, URL)
    assert raw.keys() <= hub.files().keys()


def test_what_people_wrote_into_the_readme_there_stays(hub: Hub, store: Path) -> None:
    hub.repositories["datasets/org/feats"] = Repository()
    hub.repository().add({"README.md": b"---\nlicense: mit\nlanguage: de\n---\nFilmed in Graz."})

    def readme() -> str:
        return hub.files()["README.md"].decode()

    def edit(text: str) -> None:
        hub.repository().add({**hub.files(), "README.md": text.encode()})

    push_store(store, URL)
    first = readme()
    assert first.startswith("---\nlicense: mit\nlanguage: de\npretty_name:")
    assert first.index("Filmed in Graz.") < first.index("# CLIP features of 3 videos")
    assert push_store(store, URL).commit == hub.repository().commits[-1][0]
    assert readme() == first
    edit(f"{first}\nAsk Ada first.")
    with FeatureStore.open(store).writer() as writer:
        write_video(writer, "new", random_tokens(3, seed=9))
    write_card(store)
    push_store(store, URL)
    text = readme()
    assert "CLIP features of 4 videos" in text
    assert "# CLIP features of 3 videos" not in text
    assert text.index("Filmed in Graz.") < text.index("# CLIP") < text.index("Ask Ada first.")
    for wrong, reason in (
        (text.replace("license: mit", "license: apache-2.0"), "states the licence apache-2.0"),
        (text.replace("# CLIP", "# My CLIP"), "somebody changed what lies between the marks"),
    ):
        edit(wrong)
        hub.requests.clear()
        with pytest.raises(StoreError, match=reason):
            push_store(store, URL)
        assert (hub.count("PUT"), readme()) == (0, wrong)


def test_a_readme_that_is_kept_here_is_sent_until_somebody_edits_the_one_there(
    hub: Hub, store: Path
) -> None:
    readme = store / "README.md"
    for words in ("Filmed in Graz.", "Filmed in Linz."):
        readme.write_text(readme.read_text().replace("Filmed in Graz.", "") + words)
        write_card(store)
        push_store(store, URL)
        assert hub.files()["README.md"] == readme.read_bytes()
    edited = hub.files()["README.md"] + b"Ask Ada."
    hub.repository().add({**hub.files(), "README.md": edited})
    with pytest.raises(StoreError, match="differ in what people wrote"):
        push_store(store, URL)
    readme.write_bytes(edited)
    push_store(store, URL)
    assert b"Ask Ada." in hub.files()["README.md"]
    hub.repository().add({**hub.files(), "croissant.json": b"{}"})
    with pytest.raises(StoreError, match=r"croissant\.json was not written by"):
        push_store(store, URL)


def test_what_the_hub_would_leave_out_is_not_promised(hub: Hub, store: Path) -> None:
    hub.repositories["datasets/org/feats"] = Repository()
    hub.repository().add({".gitignore": b"*.zip"})
    with pytest.raises(StoreError, match=r"\.gitignore there names videos-.*\.zip"):
        push_store(store, URL)
    assert hub.files().keys() == {".gitignore"}


def test_a_licence_is_asked_for(hub: Hub, store: Path) -> None:
    write_card(store, CardTexts())
    answer = run("push", store, URL)
    assert answer.startswith("2 ")
    assert "add --licence CC-BY-4.0" in answer
    assert run("push", store, URL, "--licence", "CC BY").startswith("2 ")
    assert hub.requests == []
    assert run("push", store, URL, "--licence", "cc-by-4.0").startswith("0 ")
    assert b'license: "cc-by-4.0"' in hub.files()["README.md"]
    assert "CC-BY-4.0" in run("info", store)


def test_only_places_of_the_hub_are_taken(store: Path) -> None:
    for url in (
        "hf://org",
        "hf://datasets/org",
        "hf://datasets/org/../x",
        "hf://spaces/org/x",
        "hf://org/na me",
        "hf://datasets/org/x@",
        "https://huggingface.co/datasets/org/x",
    ):
        with pytest.raises(ConfigError, match="hf://"):
            HubPlace.parse(url)
    for url in ("hf://org/feats", f"{URL}/sub"):
        with pytest.raises(StoreError, match="a store"):
            push_store(store, url)
    place = HubPlace.parse("hf://datasets/org/x@refs/pr/1/a/b.zip")
    assert (place.revision, place.path) == ("refs/pr/1", "a/b.zip")
    assert str(place) == "hf://datasets/org/x@refs/pr/1/a/b.zip"
