"""The tree of rooms and the picture of who imports whom, as the documents have them.

    python tests/house.py    # writes both into the documents; tests/test_documents.py compares

A room's line is the first of its `__init__`. An arrow leads from a room to one that it imports.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PARTS = ("cli", "extract", "train", "store")
TREE = ROOT / "docs" / "where-is-what.md"
GRAPH = ROOT / "docs" / "design.md"
Module = tuple[str, ...]


def tree() -> str:
    """Return a line for each room, with its sentence."""
    doors = [each for part in PARTS for each in sorted((ROOT / part).rglob("__init__.py"))]
    rows: list[tuple[str, str]] = []
    for door in doors:
        folder = door.parent.relative_to(ROOT)
        sentence = ast.get_docstring(ast.parse(door.read_text(encoding="utf-8"))) or ""
        rows.append(("  " * (len(folder.parts) - 1) + f"{folder.name}/", sentence.split("\n")[0]))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {sentence}" for name, sentence in rows)


def graph() -> str:
    """Return the rooms and their imports as a Mermaid flow chart."""
    lines = ["flowchart TD"]
    arrows: set[tuple[str, str]] = set()
    for part in PARTS:
        imports = {
            path.relative_to(ROOT).with_suffix("").parts: {
                module for module in _imported(path) if module[0] == part
            }
            for path in (ROOT / part).rglob("*.py")
            if path != ROOT / part / "__init__.py"  # what a part offers is its rooms'
        }
        nodes = {module: _node(module, imports) for module in imports}
        lines += [f"  subgraph {part}"]
        lines += [f"    {node}[{node.split('_')[1]}]" for node in sorted(set(nodes.values()))]
        lines += ["  end"]
        arrows |= {
            (nodes[here], _node(there, imports)) for here in imports for there in imports[here]
        }
    lines += [f"  {here} --> {there}" for here, there in sorted(arrows) if here != there]
    lines += ["  cli ==> extract & train", "  extract & train ==> store"]
    return "\n".join(lines)


def _node(module: Module, imports: dict[Module, set[Module]]) -> str:
    """Return a module's room; of those in none, "top" lies above rooms and "base" below them."""
    part = module[0]
    if _is_room(module):
        return f"{part}_{module[1]}"
    seen: set[Module] = set()
    waiting = [module]
    while waiting:
        here = waiting.pop()
        if _is_room(here):
            return f"{part}_top"
        seen.add(here)
        waiting += imports.get(here, set()) - seen
    return f"{part}_base"


def _is_room(module: Module) -> bool:
    return len(module) > 1 and ROOT.joinpath(*module[:2]).is_dir()


def _imported(path: Path) -> Iterator[Module]:
    """Yield the modules of ours, and the rooms, that a file imports or names for later."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("r2t."):
            module = tuple((node.module or "").split(".")[1:])
            for alias in node.names:
                inner = ROOT.joinpath(*module, alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield (*module, alias.name) if is_module else module
        elif isinstance(node, ast.Constant) and re.fullmatch(r"r2t(\.\w+)+", str(node.value)):
            yield tuple(str(node.value).split(".")[1:])


def with_block(text: str, kind: str, block: str) -> str:
    """Return a document with its one fenced block of a kind replaced."""
    changed, count = re.subn(
        rf"(?<=^```{kind}\n).*?(?=^```$)", lambda _: f"{block}\n", text, flags=re.M | re.S
    )
    assert count == 1, f"{count} blocks of {kind}"
    return changed


if __name__ == "__main__":
    for path, kind, block in ((TREE, "tree", tree()), (GRAPH, "mermaid", graph())):
        written = with_block(path.read_text(encoding="utf-8"), kind, block)
        path.write_text(written, encoding="utf-8")
