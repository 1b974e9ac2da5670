"""Serving the page of `r2t serve` to this machine alone.

The page loads nothing from elsewhere: a content security policy forbids it, fonts are the system's,
and Gradio's analytics, sharing and run history are off. Requests that name another host are
refused, so that a page on the web cannot reach this one through a name of its own, and so are those
of other pages (`guard`).
"""

# pyright: reportUnknownMemberType=false
# Gradio adds the events of its components while the program runs.

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr
from gradio.themes import Default
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from r2t.cli.pages.guard import OriginMiddleware, UploadLimitMiddleware
from r2t.cli.pages.uploads import Uploads

FONTS = ("system-ui", "sans-serif")
# Where the theme's own texts have too little contrast: the colours of assets/timeline.css.
LEGIBLE: dict[str, Any] = {
    f"{name}{scheme}": colour
    for names, colours in (
        (("body_text_color_subdued", "input_placeholder_color"), ("#5b636b", "#a3abb3")),
        (("button_primary_background_fill",), ("#c24e17", "#c24e17")),
        (("button_primary_background_fill_hover",), ("#a33f10", "#a33f10")),
    )
    for name in names
    for scheme, colour in zip(("", "_dark"), colours, strict=True)
}
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)


class PolicyMiddleware:
    """Sends the content security policy with every response."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request as ASGI wants it."""

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self._app(scope, receive, send_with_policy)


def launch(
    blocks: gr.Blocks, uploads: Uploads, *, port: int, max_upload_bytes: int, max_total_bytes: int
) -> str:
    """Serve the page on this machine alone, in the background; return its address."""
    assets = files("r2t.cli.pages") / "assets"

    def read(*names: str) -> str:
        return "\n".join((assets / name).read_text(encoding="utf-8") for name in names)

    style, script = read("timeline.css", "serve.css"), read("timeline.js", "serve.js")
    hosts = ["127.0.0.1", "localhost"]
    blocks.queue(default_concurrency_limit=1, max_size=32, api_open=False)
    _, address, _ = blocks.launch(
        server_name="127.0.0.1",
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        show_error=True,
        max_file_size=max_upload_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        theme=Default(font=FONTS, font_mono=("ui-monospace", "monospace")).set(**LEGIBLE),
        head=f"<style>{style}</style><script>{script}</script>",
        app_kwargs={
            "docs_url": None,
            "redoc_url": None,
            "middleware": [
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                Middleware(OriginMiddleware),
                Middleware(UploadLimitMiddleware, uploads=uploads, max_bytes=max_total_bytes),
                Middleware(PolicyMiddleware),
            ],
        },
    )
    return address
