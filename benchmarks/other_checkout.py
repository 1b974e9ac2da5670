"""Programs that import r2t from another checkout, so that an earlier commit is measured as well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def output_of(links: Path, checkout: Path, command: Sequence[str]) -> str:
    """Run a Python program with its arguments; return what it prints.

    The parts lie at a checkout's top and are packages of r2t, so a link of that name is made in
    `links` for each checkout.
    """
    checkout = checkout.resolve()
    place = links / str(checkout).replace("/", "_")
    place.mkdir(exist_ok=True)
    if not (place / "r2t").exists():
        (place / "r2t").symlink_to(checkout)
    finished = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(place)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return finished.stdout
