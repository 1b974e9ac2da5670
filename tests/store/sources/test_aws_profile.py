"""Where the keys for S3 come from, and what is said where there are none."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest

from r2t.store.errors import ServerError, StoreError
from r2t.store.sources import aws_profile as module, connect
from r2t.store.sources.aws_profile import aws_profile

CONFIG = """
[default]
region = eu-west-1
s3 =
    max_concurrent_requests = 20
[profile work]
region = eu-north-1
endpoint_url = http://127.0.0.1:9
[profile login]
sso_session = corporate
[sso-session corporate]
sso_region = us-east-1
"""
CREDENTIALS = """
[default]
aws_access_key_id = mine
aws_secret_access_key = s3%cret
[work]
aws_access_key_id = theirs
aws_secret_access_key = secret
aws_session_token = token
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config").write_text(CONFIG)
    (tmp_path / "credentials").write_text(CREDENTIALS)
    return {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }


def keys(environment: dict[str, str]) -> tuple[str, str, str | None]:
    found = aws_profile(environment).credentials
    assert found is not None
    given = found()
    return given["access_key_id"], given["secret_access_key"], given.get("token")


def test_the_profile_that_is_named_counts_else_the_default(files: dict[str, str]) -> None:
    assert keys(files) == ("mine", "s3%cret", None)
    assert aws_profile(files).region == "eu-west-1"
    chosen = {**files, "AWS_PROFILE": "work"}
    assert keys(chosen) == ("theirs", "secret", "token")
    found = aws_profile(chosen)
    assert (found.region, found.endpoint) == ("eu-north-1", "http://127.0.0.1:9")


def test_keys_that_another_program_renews_are_read_again(files: dict[str, str]) -> None:
    credentials = aws_profile(files).credentials
    assert credentials is not None
    path = Path(files["AWS_SHARED_CREDENTIALS_FILE"])
    path.write_text(CREDENTIALS.replace("mine", "newer"))
    assert credentials()["access_key_id"] == "newer"


def test_a_profile_that_is_not_there_is_named_with_those_that_are(files: dict[str, str]) -> None:
    with pytest.raises(StoreError, match=r"'wrok', but the profiles are: default, login, work"):
        aws_profile({**files, "AWS_PROFILE": "wrok"})
    nowhere = dict.fromkeys(files, "/nowhere")
    assert aws_profile(nowhere) == module.AwsProfile()


def test_a_login_needs_boto3(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(StoreError, match=r"pip install boto3.*export-credentials"):
        aws_profile({**files, "AWS_PROFILE": "login"})


def test_keys_that_a_program_gives_are_had_through_boto3(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"Version": 1, "AccessKeyId": "fresh", "SecretAccessKey": "secret"}
    (tmp_path / "given.json").write_text(json.dumps(given))
    with Path(files["AWS_CONFIG_FILE"]).open("a") as config:
        config.write(f"[profile program]\ncredential_process = cat {tmp_path / 'given.json'}\n")
    for name, value in files.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert keys({**files, "AWS_PROFILE": "program"}) == ("fresh", "secret", None)
    (tmp_path / "given.json").unlink()
    with pytest.raises(StoreError, match="'program' gives no keys"):
        aws_profile({**files, "AWS_PROFILE": "program"})


def test_files_that_are_none_are_named(files: dict[str, str]) -> None:
    Path(files["AWS_CONFIG_FILE"]).write_text("region = x")
    with pytest.raises(StoreError, match=r"cannot read AWS profiles from .*config"):
        aws_profile(files)


def test_no_credentials_at_all(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in files:
        monkeypatch.setenv(name, "/nowhere")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ServerError, match=r"no credentials; set AWS_PROFILE.*AWS_SKIP_SIGNATURE"):
        connect("s3://bucket/feats.zarr").read("zarr.json")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("aws_secret_access_key = hidden", "line 1 stands before any section"),
        ("[default]\naws_secret_access_key hidden", "line 2 is no setting"),
        ("[default]\nregion = x\nregion = hidden", "line 3 repeats"),
    ],
)
def test_what_is_said_of_a_file_that_cannot_be_read_quotes_no_keys(
    files: dict[str, str], content: str, fault: str
) -> None:
    Path(files["AWS_SHARED_CREDENTIALS_FILE"]).write_text(content)
    with pytest.raises(StoreError, match=fault) as raised:
        aws_profile(files)
    assert "hidden" not in "".join(traceback.format_exception(raised.value))
