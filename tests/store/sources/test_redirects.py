"""Which redirections are followed, and to which addresses."""

from __future__ import annotations

import pytest

from r2t.store.errors import ServerError, ServerWarning
from r2t.store.sources.redirects import RedirectRules, RefusedError


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0", "017700000001", "127.0.0.1."])
def test_an_address_in_short_is_refused(host: str) -> None:
    """Aiohttp before 3.13 connects to it without asking its resolver."""
    with pytest.raises(RefusedError, match="no address as it is written in full"):
        RedirectRules("https://hub.example/x").judge_literal(f"http://{host}/x")


@pytest.mark.parametrize("target", ["http://hub.example/x", "file:///etc/passwd", "ftp://a/b"])
def test_a_safe_connection_leads_to_safe_ones_alone(target: str) -> None:
    url = "https://hub.example/feats.zip"
    with pytest.raises(ServerError, match="only https is"):
        RedirectRules(url).followed(url, url, target)
    with pytest.warns(ServerWarning, match=r"hub\.example redirects requests to store\.example"):
        found = RedirectRules(url).followed(url, url, "https://store.example/a%2Fb?sign=%3D c")
    assert found == "https://store.example/a%2Fb?sign=%3D%20c"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "224.0.0.1"),
        *(
            "::1",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "::7f00:1",
            "64:ff9b:1::1",
        ),
    ],
)
def test_a_name_that_turns_private_is_refused(address: str) -> None:
    public = RedirectRules("https://hub.example/x")
    public.judge("hub.example", ["93.184.216.34"])
    public.judge("store.example", ["2606:2800:220:1::1"])
    for host, addresses in (
        ("hub.example", [address]),
        ("store.example", ["93.184.216.34", address]),
    ):
        with pytest.raises(RefusedError, match="private"):
            public.judge(host, addresses)
    with pytest.raises(RefusedError, match="private"):
        RedirectRules("https://hub.example/x").judge("hub.example", ["93.184.216.34", address])
    own = RedirectRules("http://nas.local/x")
    own.judge("nas.local", [address])
    own.judge("other.local", ["192.168.0.7"])
