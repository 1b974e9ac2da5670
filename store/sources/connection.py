"""Connecting to a bucket: which one a URL names, and with whose credentials it is asked.

Where settings are taken from; the first place that has one counts:

- `s3://bucket/folder` (and `s3a://`): AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
  AWS_SESSION_TOKEN; the profile that AWS_PROFILE names, else `default`; a web identity's token
  (AWS_WEB_IDENTITY_TOKEN_FILE), a container's credentials, the role of the machine.
  AWS_REGION or AWS_DEFAULT_REGION, else the profile's, else us-east-1. AWS_ENDPOINT_URL_S3 or
  AWS_ENDPOINT_URL, else the profile's, else Amazon. AWS_SKIP_SIGNATURE=true asks without
  credentials, as for a public bucket.
- `gs://bucket/folder`: GOOGLE_APPLICATION_CREDENTIALS, what `gcloud auth application-default
  login` left, the role of the machine; GOOGLE_SKIP_SIGNATURE=true.
- `az://container/folder`, with the account in AZURE_STORAGE_ACCOUNT_NAME, or
  `abfs://container@account.dfs.core.windows.net/folder`: AZURE_STORAGE_ACCOUNT_KEY,
  AZURE_STORAGE_SAS_TOKEN, a service principal's AZURE_STORAGE_CLIENT_ID and _SECRET, the role of
  the machine; AZURE_SKIP_SIGNATURE=true.

Requests are retried in `retries`, and not a second time by obstore.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from r2t.store.errors import StoreError
from r2t.store.sources.aws_profile import aws_profile
from r2t.store.sources.bucket import Bucket
from r2t.store.sources.bucket_errors import REQUEST_SECONDS
from r2t.store.sources.http import CONNECT_SECONDS, IDLE_SECONDS
from r2t.store.wording import how_to_install

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

EXTRA = "cloud"
_KINDS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
}
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def is_bucket(url: str) -> bool:
    """Whether a URL names a place in a bucket."""
    return url.split("://")[0].lower() in _KINDS and "://" in url


def connect(url: str, environment: Mapping[str, str] = os.environ) -> Bucket:
    """Return the place in a bucket that a URL names; nothing is asked of the server yet.

    `environment` is this process's: obstore reads it itself.

    Raises:
        StoreError: obstore is not installed, the URL names no bucket, or the profile is not right.
    """
    try:
        import obstore.store as _
    except ImportError as error:
        raise StoreError(
            f"cannot open {url}: a bucket needs obstore, which is not installed; "
            f"{how_to_install(EXTRA)}"
        ) from error
    scheme, _, rest = url.partition("://")
    kind = _KINDS[scheme.lower()]
    bucket, _, folder = rest.partition("/")
    if "" in rest.rstrip("/").split("/"):
        raise StoreError(f"{url} names no place in a bucket; write {scheme}://bucket/folder")
    make = {"s3": _s3, "gs": _gs, "az": _azure}[kind]
    try:
        store = make(bucket, environment)
    except StoreError:
        raise
    except Exception as error:  # obstore has several for what it cannot make sense of
        raise StoreError(f"cannot open {url}: {str(error).splitlines()[0]}") from error
    return Bucket(url.rstrip("/"), store, folder.strip("/"))


def _s3(bucket: str, environment: Mapping[str, str]) -> S3Store:
    from obstore.store import S3Store

    given: dict[str, Any] = {}
    endpoint = _endpoint("s3", environment)
    if not _is_true(environment.get("AWS_SKIP_SIGNATURE")):
        profile = aws_profile(environment)
        if "AWS_ACCESS_KEY_ID" not in environment and profile.credentials is not None:
            given["credential_provider"] = profile.credentials
        if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & environment.keys() and profile.region:
            given["region"] = profile.region
        if endpoint is None and profile.endpoint:
            given["endpoint"] = endpoint = profile.endpoint
    return S3Store(bucket, client_options=_client(endpoint), retry_config=_retry(), **given)


def _gs(bucket: str, environment: Mapping[str, str]) -> GCSStore:
    from obstore.store import GCSStore

    endpoint = _endpoint("gs", environment)
    return GCSStore(bucket, client_options=_client(endpoint), retry_config=_retry())


def _azure(bucket: str, environment: Mapping[str, str]) -> AzureStore:
    from obstore.store import AzureStore

    container, _, host = bucket.partition("@")
    account = host.split(".")[0] or environment.get("AZURE_STORAGE_ACCOUNT_NAME")
    emulated = _is_true(environment.get("AZURE_STORAGE_USE_EMULATOR"))
    if not account and not emulated:
        raise StoreError(
            f"{container}: whose container? Set AZURE_STORAGE_ACCOUNT_NAME, or write "
            f"abfs://{container}@ACCOUNT.dfs.core.windows.net/folder"
        )
    given: dict[str, Any] = {"account_name": account} if account else {}
    endpoint = "http://127.0.0.1:10000" if emulated else _endpoint("az", environment)
    return AzureStore(container, client_options=_client(endpoint), retry_config=_retry(), **given)


def _client(endpoint: str | None) -> ClientConfig:
    return {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=IDLE_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "allow_http": (endpoint or "").lower().startswith("http://"),
    }


def _retry() -> RetryConfig:
    return {"max_retries": 0}


def _endpoint(kind: str, environment: Mapping[str, str]) -> str | None:
    return next((environment[name] for name in _ENDPOINTS[kind] if environment.get(name)), None)


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true", "yes", "on", "y")
