"""What obstore's errors mean, and what to do about each.

obstore has few kinds of errors and puts everything else into their text: a sentence with the
status and the answer of the service, then a dump of its own structures.
"""

from __future__ import annotations

import re

from r2t.store.errors import ServerError, in_one_line
from r2t.store.sources.http import CONNECT_SECONDS, IDLE_SECONDS
from r2t.store.sources.retries import BusyError, TransientError

REQUEST_SECONDS = 600.0
"""How long a request may take with its answer, of 256 MB at most."""

SILENCE = (
    f"the service took no connection for {CONNECT_SECONDS:g} s, sent nothing for "
    f"{IDLE_SECONDS:g} s, or was not done after {REQUEST_SECONDS:g} s; try again later"
)
_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,40})</Region>")
_REASON = re.compile(r'error: "([^"\n]{1,200})"|error: (\w+),')
# What a machine in a cloud asks for the credentials of its role.
_ROLE = re.compile(
    r"Error performing (GET|PUT) https?://"
    r"(169\.254\.|metadata\.google\.internal|[^/ ]+/latest/(api/token|meta-data))"
)
_BUSY = {"SlowDown", "ServiceUnavailable", "ServerBusy", "TooManyRequests", "RequestLimitExceeded"}
_BUSY_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504)

_CREDENTIALS = {
    "s3": (
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a public bucket set "
        "AWS_SKIP_SIGNATURE=true"
    ),
    "gs": (
        "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS; for "
        "a public bucket set GOOGLE_SKIP_SIGNATURE=true"
    ),
    "az": (
        "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN; for a public container set "
        "AZURE_SKIP_SIGNATURE=true"
    ),
}
_ABSENT = "there is no such bucket; check its name, and the endpoint if it is not the usual one"
_EXPIRED = "the credentials have expired; get new ones, then run the same command again"
_UNKNOWN_KEY = "the service does not know these credentials; check them, and the endpoint"
_SKEWED = "the clock of this machine is wrong by minutes, so that requests are refused; set it"
_FULL = "the service takes no more: a quota is used up; raise it, or make room"
_REDIRECTED = (
    "the answer sends the request elsewhere and does not say where, as a proxy or a login "
    "page of a network may; the service itself does not. Check the network, and"
)
_ENDPOINTS = {
    "gs": "GOOGLE_BASE_URL if it is set",
    "az": "the account's name, and AZURE_STORAGE_ENDPOINT if it is set",
}
_UNCONDITIONAL = (
    "the service does not offer what was asked for; one without conditional PUTs can serve a "
    "store, but none can be written there"
)
_ADVICE = {
    "NoSuchBucket": _ABSENT,
    "ContainerNotFound": _ABSENT,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _UNKNOWN_KEY,
    "AuthenticationFailed": _UNKNOWN_KEY,
    "RequestTimeTooSkewed": _SKEWED,
    "RequestExpired": _SKEWED,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "AccountQuotaExceeded": _FULL,
    "NotImplemented": _UNCONDITIONAL,
}


def explained(name: str, error: Exception, has_answered: bool) -> Exception:
    """Return what an error of a request for `name` means, in the terms of `ask_with_retries`.

    `has_answered` says whether the service has answered before, so that credentials were found.
    """
    if isinstance(error, ConnectionError):  # our own: the body has not the length that was said
        return TransientError(str(error))
    text = str(error)
    sentence = text.split("\n\nDebug source")[0]
    found, status = _CODE.search(sentence), _STATUS.search(sentence)
    code = found[1] if found else ""
    if code in _ADVICE:
        return ServerError(f"{name}: {_ADVICE[code]} ({code})")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(name)
    if _ROLE.search(sentence):
        if has_answered:
            return TransientError(f"no new credentials; {_CREDENTIALS[_provider(name)]}")
        return no_credentials(name)
    if "BareRedirect" in text and _provider(name) != "s3":
        return ServerError(f"{name}: {_REDIRECTED} {_ENDPOINTS[_provider(name)]}")
    if _is_of_another_region(text, code):
        return _wrong_region(name, sentence)
    return _by_status(name, int(status[1]) if status else 0, code, text)


def no_credentials(name: str) -> ServerError:
    """Return the error where neither the environment nor the machine has credentials."""
    return ServerError(f"{name}: no credentials; {_CREDENTIALS[_provider(name)]}")


def ended_before(error: Exception) -> bool:
    """Whether an object ends before the range that was asked for."""
    status = _STATUS.search(str(error))
    return status is not None and status[1] == "416"


def lacks_reason(error: Exception) -> bool:
    """Whether a request without a body was refused, so that only another one tells the reason."""
    status = _STATUS.search(str(error))
    return status is not None and status[1] in ("400", "401", "403")


def is_conflict(error: Exception) -> bool:
    """Whether a condition was not judged, because another request is at work on the same key."""
    status = _STATUS.search(str(error))
    return status is not None and status[1] == "409"


def _by_status(name: str, status: int, code: str, text: str) -> Exception:
    said = f"the service answers {status} {code}".strip()
    if status == 401:
        return ServerError(f"{name}: {said}: {_CREDENTIALS[_provider(name)]}")
    if status == 403:
        return PermissionError(said)
    if code in _BUSY or status in (429, 503):
        return BusyError(said)
    if status in _BUSY_STATUSES:
        return TransientError(said)
    if status == 501:
        return ServerError(f"{name}: {_UNCONDITIONAL} ({said})")
    if status == 507:
        return ServerError(f"{name}: {_FULL} ({said})")
    if "NotPartial" in text:
        return ServerError(f"{name}: the service does not support range requests")
    if "kind: Timeout" in text:
        return TimeoutError(name)
    reason = _REASON.search(text)
    detail = f": {reason[1] or reason[2]}" if reason else ""
    words = in_one_line(Exception(text.split("\n\nDebug source")[0]))
    if "HTTP error" in words:
        return TransientError(words.rpartition("HTTP error: ")[2] + detail)
    return ServerError(f"{name}: {words}")


def _is_of_another_region(text: str, code: str) -> bool:
    codes = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraint")
    return "BareRedirect" in text or code.startswith(codes)


def _wrong_region(name: str, sentence: str) -> ServerError:
    found = _REGION.search(sentence)
    bucket = name.split("://")[-1].split("/")[0]
    advice = (
        f"set AWS_REGION={found[1]}"
        if found
        else f"set AWS_REGION to its own; `curl -sI https://{bucket}.s3.amazonaws.com` names it "
        "(x-amz-bucket-region)"
    )
    return ServerError(f"{name}: the bucket is in another region than the one asked; {advice}")


def _provider(name: str) -> str:
    scheme = name.split("://")[0].lower()
    return "gs" if scheme.startswith("g") else "az" if scheme.startswith("a") else "s3"
