"""Keys, region and endpoint of an AWS profile: `~/.aws/credentials` and `~/.aws/config`.

obstore knows the environment and the services that give a machine its role, but no profiles. Those
that hold keys are read here; those that say how to get keys (SSO, roles, a program) need boto3,
which is used if it is installed.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from r2t.store.errors import StoreError
from r2t.store.wording import named

if TYPE_CHECKING:
    from obstore.store import S3Credential

_HOW_KEYS_ARE_HAD = ("role_arn", "sso_session", "sso_start_url", "credential_process")
_KEYS_ARE_KEPT = timedelta(minutes=5)  # then read again: other programs renew them in the file


@dataclass(frozen=True)
class AwsProfile:
    """What a profile says; `credentials` is asked again whenever what it gave has expired."""

    credentials: Callable[[], S3Credential] | None = None
    region: str | None = None
    endpoint: str | None = None


def aws_profile(environment: Mapping[str, str] = os.environ) -> AwsProfile:
    """Return the profile that AWS_PROFILE names, or `default`; an empty one if there is none.

    Raises `StoreError` if the one named does not exist, or needs boto3 where that is missing.
    """
    wanted = environment.get("AWS_PROFILE")
    name = wanted or "default"
    values = _values(name, environment)
    if values is None:
        if wanted:
            known = named(sorted(_sections(environment))) or "none"
            raise StoreError(f"AWS_PROFILE is {wanted!r}, but the profiles are: {known}")
        return AwsProfile()
    return AwsProfile(
        _credentials(name, values, environment), values.get("region"), values.get("endpoint_url")
    )


def _credentials(
    name: str, values: Mapping[str, str], environment: Mapping[str, str]
) -> Callable[[], S3Credential] | None:
    if any(each in values for each in _HOW_KEYS_ARE_HAD):
        if find_spec("boto3") is None:
            raise StoreError(
                f"the AWS profile {name!r} says how to get keys instead of holding them, which "
                "needs boto3: `pip install boto3`, or put the keys into the environment: "
                f'`eval "$(aws configure export-credentials --profile {name} --format env)"`'
            )
        return _from_boto3(name)
    if "aws_access_key_id" not in values or "aws_secret_access_key" not in values:
        return None

    def read() -> S3Credential:
        now = _values(name, environment) or {}
        return {
            "access_key_id": now.get("aws_access_key_id", ""),
            "secret_access_key": now.get("aws_secret_access_key", ""),
            "token": now.get("aws_session_token"),
            "expires_at": datetime.now(UTC) + _KEYS_ARE_KEPT,
        }

    return read


def _from_boto3(name: str) -> Callable[[], S3Credential]:
    import boto3  # pyright: ignore[reportMissingTypeStubs]
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider(boto3.Session(profile_name=name), ttl=_KEYS_ARE_KEPT)
    except Exception as error:  # each way to keys has its own
        raise StoreError(f"the AWS profile {name!r} gives no keys: {error}") from error


def _fault(error: configparser.Error) -> str:
    """Say what is wrong with a file, and in which line, without the line itself."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} stands before any section"
    if isinstance(error, configparser.ParsingError):
        return f"line {error.errors[0][0]} is no setting"
    return f"line {getattr(error, 'lineno', '?')} repeats a section or a setting"


def _values(name: str, environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return what both files say of a profile; the file with the credentials prevails."""
    return _sections(environment).get(name)


def _sections(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    profiles: dict[str, dict[str, str]] = {}
    for variable, usual in (
        ("AWS_CONFIG_FILE", "~/.aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ):
        path = Path(environment.get(variable, usual)).expanduser()
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeError) as error:
            raise StoreError(f"cannot read AWS profiles from {path}: {error}") from error
        except configparser.Error as error:
            # Not what it says nor where it comes from: both quote the line, which may hold a key.
            raise StoreError(
                f"cannot read AWS profiles from {path}: {_fault(error)}; it consists of sections "
                "such as [default], each with lines such as `region = eu-north-1`"
            ) from None
        for section in parser.sections():
            kind, _, name = section.rpartition(" ")
            if kind in ("", "profile"):
                profiles.setdefault(name.strip("\"'"), {}).update(parser[section])
    return profiles
