"""The pages of README, docs/ and the Python API, whose reference is made of the docstrings.

    python tests/reference.py        # as `make reference` does; needs the `docs` extra

mkdocstrings reads the sources without importing them. What a door offers is what its `__init__`
imports for type checkers, so each page names that. A reference that leads nowhere fails the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

from documents import DOCUMENTS, ROOT

from r2t.store.lazy import offered_names

PARTS = ("store", "extract", "train", "cli")
WORK = ROOT / ".cache" / "reference"
# What somebody who writes Python uses, in the order of the menu. Other doors serve the parts.
DOORS = (
    "r2t.store",
    "r2t.store.errors",
    "r2t.store.datasets",
    "r2t.store.check",
    "r2t.store.change",
    "r2t.store.exchange",
    "r2t.extract",
    "r2t.extract.demo",
    "r2t.train",
    "r2t.train.model",
    "r2t.train.run",
    "r2t.train.grounding",
    "r2t.train.metrics",
)
_PLACE_OR_NAME = re.compile(
    r'<h\d id="(?P<place>r2t\.[\w.]+)"'
    r"|(?<!<pre>)<code>(?P<name>[A-Za-z_][\w.]*)(?:\(\))?</code>(?!</a>)"
)


def offered(door: str) -> list[str]:
    """Return the names that a door offers; none for a module, which offers all that it defines."""
    init = ROOT.joinpath(*door.split(".")[1:], "__init__.py")
    return list(offered_names(init.read_text(encoding="utf-8"))) if init.exists() else []


def lay_out(work: Path) -> None:
    """Put the sources and the pages where mkdocs.yml looks for them."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "parts" / "r2t").mkdir(parents=True)
    for part in PARTS:
        (work / "parts" / "r2t" / part).symlink_to(ROOT / part)
    pages = work / "pages"
    (pages / "reference").mkdir(parents=True)
    others = (ROOT / "CITATION.cff", ROOT / "docs" / "images", ROOT / "docs" / "pages.css")
    for document in (*DOCUMENTS, *others):
        place = pages / document.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(document)
    seen: set[str] = set()
    for door in DOORS:
        names = [name for name in offered(door) if (name not in seen)]
        seen.update(names)
        members = f"    options:\n      members: [{', '.join(names)}]\n" if names else ""
        page = f"# {door}\n\n::: {door}\n{members}"
        (pages / "reference" / f"{door}.md").write_text(page, encoding="utf-8")
    menu = [
        "README.md",
        {"Documents": [str(path.relative_to(ROOT)) for path in DOCUMENTS[1:]]},
        {"Python API": [f"reference/{door}.md" for door in DOORS]},
    ]
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (work / "mkdocs.yml").write_text(f"{settings}nav: {json.dumps(menu)}\n", encoding="utf-8")


def link_names(site: Path) -> None:
    """Make links of the names in backticks that have a place in the reference."""
    texts = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    places = {
        found["place"]: page
        for page, text in texts.items()
        for found in _PLACE_OR_NAME.finditer(text)
        if found["place"]
    }
    for page, text in texts.items():
        page.write_text(_linked(text, page.parent, places), encoding="utf-8")


def _linked(text: str, folder: Path, places: dict[str, Path]) -> str:
    """Return a page with links to where its names are described, seen from its folder."""
    here = ""

    def link(found: re.Match[str]) -> str:
        nonlocal here
        if found["place"]:
            here = found["place"]
            return found[0]
        place = find_place(found["name"], here, places)
        if place in (None, here):
            return found[0]
        return f'<a href="{os.path.relpath(places[place], folder)}#{place}">{found[0]}</a>'

    return _PLACE_OR_NAME.sub(link, text)


def find_place(name: str, here: str, places: Container[str]) -> str | None:
    """Return the place of a name: in what speaks of it, beside that, in full, or at a door.

    A plain word is not looked for at the doors, since it may be an argument.
    """
    scopes = [here, here.rpartition(".")[0], ""]
    if not (name.isalpha() and name.islower()):
        scopes += DOORS
    full = (f"{scope}.{name}" if scope else name for scope in scopes)
    return next((each for each in full if each in places), None)


def main() -> int:
    """Build the pages; return the exit status."""
    lay_out(WORK)
    # Not --quiet, with which --strict counts no warnings.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*command, "--config-file", str(WORK / "mkdocs.yml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout, end="")
        return 1
    link_names(WORK / "site")
    print(f"{(WORK / 'site').relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
