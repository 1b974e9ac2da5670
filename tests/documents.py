"""The commands and programs of the documents: found, held against the command line, and run.

    python tests/documents.py [FILE…]        # as `make docs-check` does

Each document runs in a folder of its own, block after block, as a reader would type it, and
`AT_A_TIME` of them at once. `WORLD` says what lies in that folder; `STAND_INS` what is put in place
of CLIP's weights and of hours of training. A block that cannot run here has a comment before it,
`<!-- not run: why -->`, and is listed; its commands and options are checked all the same, by
tests/test_documents.py.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
TOP_FOLDERS = "store|extract|train|cli|tests|benchmarks|docs|\\.github|\\.ci"
WORLD = "videos/ with 12 small videos and moments.csv; dog.mp4, one of them under another name"
STAND_INS = {
    "extract": "--model r2t-demo --fps 1 --offline",
    "highlights": "--model r2t-demo --offline",
    "train": "--epochs 1 --batch-size 8 --hidden-width 16",
}
AT_A_TIME = 2
_PATH = re.compile(rf"(?:{TOP_FOLDERS})/[\w./-]*|[\w.-]+\.(?:py|toml|cff|yml)")
_NAME = re.compile(r"(r2t(?:\.\w+)+)(?:\(.*\))?")
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of one document, with its line and why it is not run, if so."""

    path: Path
    line: int
    kind: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        """Where the block is, for messages."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """Return the `sh` and `python` blocks of a document in order."""
    content = path.read_text(encoding="utf-8")
    blocks: list[Block] = []
    previous = ""
    lines = iter(enumerate(content.split("\n"), start=1))
    for number, line in lines:
        if line.startswith("```"):
            kind, body = line[3:].strip(), []
            for _, inner in lines:
                if inner.startswith("```"):
                    break
                body.append(inner)
            reason = _NOT_RUN.search(previous)
            if kind in ("sh", "python"):
                why = reason[1] if reason else None
                blocks.append(Block(path, number, kind, "\n".join(body) + "\n", why))
        if line.strip():
            previous = line
    return blocks


def commands_of(text: str) -> Iterator[list[str]]:
    """Yield the words of every `r2t` command in shell text."""
    for line in text.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()<>"):
                if words[:1] == ["r2t"]:
                    yield words[1:]
                words = []
            else:
                words.append(word)


def broken_references(path: Path) -> list[str]:
    """Return what a document or program names in backticks that does not exist.

    Checked are paths within the repository, names of its files, and names of the form `r2t.a.b`.
    """
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    wrong: list[str] = []
    for text in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose):
        if found := _NAME.fullmatch(text):
            known = exists(found[1])
        elif path.suffix == ".md" and _PATH.fullmatch(text):
            known = (ROOT / text).exists() if "/" in text else text in file_names()
        else:
            continue
        wrong += [] if known else [text]
    return wrong


@cache
def file_names() -> set[str]:
    """Return the names of the repository's files, without their folders."""
    folders = [ROOT / name for name in TOP_FOLDERS.replace("\\", "").split("|")]
    return {each.name for folder in folders for each in folder.rglob("*")} | set(os.listdir(ROOT))


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something that one has."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        owner, _, field = name.rpartition(".")  # a field without a default
        return owner.count(".") > 1 and exists(owner) and field in _fields(owner)
    return True


def _fields(name: str) -> Collection[str]:
    return getattr(pkgutil.resolve_name(name), "__dataclass_fields__", ())


def prepare(folder: Path) -> None:
    """Lay out what the documents' readers have: see `WORLD`."""
    from r2t.extract.demo.world import Split, make_world

    counts: dict[Split, int] = {"train": 8, "val": 2, "test": 2}
    videos = folder / "videos"
    with (folder / "rows.csv").open("w", encoding="utf-8") as table:
        table.write("video,query,start,end,split\n")
        for split, count in counts.items():
            made = make_world(videos, num_videos=count, seed=0, split=split)
            for line in made.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                for start, end in row["relevant_windows"]:
                    table.write(f"{row['vid']}.mp4,{row['query']},{start},{end},{split}\n")
            made.unlink()
    (folder / "rows.csv").rename(videos / "moments.csv")
    shutil.copy(next(videos.glob("*-test-*.mp4")), folder / "dog.mp4")


def _script(block: Block) -> str:
    """Return a block as the shell should run it, with the stand-ins at the ends of its commands."""
    text = block.text.replace("\\\n", " ")
    for name, options in STAND_INS.items():
        text = re.sub(
            rf"^(r2t {name}\b[^#|&;\n]*?)(\s*(?:[#|&;].*)?)$", rf"\1 {options}\2", text, flags=re.M
        )
    return text


def run_document(path: Path, world: Path) -> tuple[list[str], str]:
    """Run a document's blocks in a copy of the world; return what failed, and what there is to say.

    Only the first failure: what follows builds on it.
    """
    said: list[str] = []
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory(prefix="r2t-docs-") as name:
        folder = shutil.copytree(world, name, dirs_exist_ok=True)
        for block in blocks_of(path):
            if block.not_run is not None:
                said.append(f"not run  {block.place}: {block.not_run}")
                continue
            shell = ["bash", "-euo", "pipefail", "-c", _script(block)]
            command = shell if block.kind == "sh" else [sys.executable, "-c", block.text]
            began = time.monotonic()
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            state = "ran    " if done.returncode == 0 else "FAILED "
            said.append(f"{state}  {block.place} in {time.monotonic() - began:.0f} s")
            if done.returncode:
                said.append(f"{_script(block)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
                return [block.place], "\n".join(said)
    return [], "\n".join(said)


def run_documents(paths: list[Path]) -> list[str]:
    """Run documents, some at a time; tell of each when it is done, and return what failed."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="r2t-docs-world-") as name:
        prepare(Path(name))
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            longest_first = sorted(paths, key=lambda path: -len(blocks_of(path)))
            running = [pool.submit(run_document, path, Path(name)) for path in longest_first]
            for each in as_completed(running):
                failed, said = each.result()
                failures += failed
                print(said, end="\n" if said else "", flush=True)
    return failures


def main(paths: list[Path]) -> int:
    """Run documents; return the exit status."""
    print(f"in each folder: {WORLD}")
    for name, options in STAND_INS.items():
        print(f"stand-in: r2t {name} … {options}")
    failures = [
        f"{path.name}: `{each}` does not exist"
        for path in paths
        for each in broken_references(path)
    ]
    failures += run_documents([path.resolve() for path in paths])
    print(f"{len(failures)} failed{': ' if failures else ''}{', '.join(failures)}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main([Path(each) for each in sys.argv[1:]] or list(DOCUMENTS)))
