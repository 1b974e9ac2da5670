"""A page as a file: where it may be written, what it says of itself, and the page of one video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from r2t.cli.answers import FrameStrip
from r2t.cli.pages.report import query_entry, render_page
from r2t.cli.pages.report_videos import (
    FILE_POLICY,
    data_url,
    file_source,
    note_bare_names,
    strip_image,
)
from r2t.cli.shared import human_bytes, note
from r2t.store.errors import ConfigError
from r2t.store.files import write_whole
from r2t.store.json_lines import as_utf8
from r2t.store.wording import counted
from r2t.train import model


def write_video_report(
    path: Path,
    video: Path,
    query: str,
    grounding: model.Grounding,
    strip: FrameStrip,
    answered_by: Mapping[str, str],
    *,
    top: int,
    verdict: str | None = None,
) -> None:
    """Write the page of one video and one query, with its `top` best moments and who answers."""
    name = as_utf8(video.name)
    entry = query_entry(
        grounding, query_id="query", video_id=name, query=query, top=top, verdict=verdict
    )
    shown = {
        "seconds": round(grounding.duration_seconds, 3),
        "strip": data_url(strip_image(strip)),
        "source": file_source(video, path),
    }
    data: dict[str, Any] = {
        "title": name,
        "facts": page_facts(answered_by),
        "summary": None,
        "tables": [],
        "videos": {name: shown},
        "queries": [entry],
    }
    write_page(path, data, FILE_POLICY)
    note_bare_names([video], path)


def require_page_path(path: Path) -> None:
    """Raise `ConfigError` if no page can be written there, before work is spent on it."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path}: a report is a web page; give a name that ends in .html")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: the folder {path.parent} does not exist")


def write_page(path: Path, data: Mapping[str, Any], media_sources: Sequence[str]) -> None:
    """Write a page, whole or not at all, and say where it is."""
    page = render_page(data, title=f"{data['title']} - r2t", media_sources=media_sources)
    write_whole(path, page)
    queries = counted(len(data["queries"]), "query")
    note(f"report: {path} ({queries}, {human_bytes(len(page))})")


def page_facts(given: Mapping[str, str]) -> list[list[str]]:
    """Return what a page says of itself: what is given, and when and by what it was made."""
    made = datetime.now().strftime("%Y-%m-%d %H:%M")
    facts = {**given, "made": f"{made} by r2t {version('r2-tuning')}"}
    return [[name, value] for name, value in facts.items()]
