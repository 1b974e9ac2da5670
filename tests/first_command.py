"""What README's commands give a stranger: its first one in a plain environment, on the built wheel.

    python3 tests/first_command.py [FOLDER]   # a new folder outside the checkout; .ci/run does this
    python3 tests/first_command.py --test     # prints README's test command, for .ci/run to run

The tests run with the test extra, whose packages bring others along, and from the checkout, where
every file lies; neither is what `pip install` gives. So the first command runs here as README has
it, with the wheel in place of the checkout. Then every command explains itself, the main ones work
on the demo's files, and each extra is installed alone on top, in environments that share the plain
one's files by hard links.

Needs nothing but Python and pip.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from documents import ROOT, blocks_of

# What each extra is for, as a program that fails without it.
EXTRAS = {
    "cloud": (
        "from r2t.store.errors import ServerError\n"
        "from r2t.store.feature_store import FeatureStore\n"
        "import os; os.environ.update(AWS_ENDPOINT_URL='http://127.0.0.1:9')\n"
        "try: FeatureStore.open('s3://bucket/feats.zarr')\n"
        "except ServerError as error: print(error)"
    ),
    "http": (
        "import fsspec; fsspec.get_filesystem_class('https')\n"
        "from r2t.store.errors import ServerError\n"
        "from r2t.store.feature_store import FeatureStore\n"
        "try: FeatureStore.open('http://127.0.0.1:9/feats.zarr')\n"
        "except ServerError as error: print(error)"
    ),
    "serve": "import r2t.cli.pages.serve",
}
NUM_VIDEOS = 8


def readme_command(part: str) -> str:
    """Return the one block of README that holds a part."""
    (found,) = [block.text for block in blocks_of(ROOT / "README.md") if part in block.text]
    return found.strip()


def build_wheel(folder: Path) -> Path:
    """Build from a copy, since a build folder left in the checkout would be packed as well."""
    source = folder / "source"
    left = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "r2t-demo")
    shutil.copytree(ROOT, source, ignore=left)
    run(f"python3 -m pip wheel --quiet --no-deps -w {folder} {source}", folder)
    shutil.rmtree(source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(command: str, folder: Path, environment: Path | None = None) -> str:
    """Run a line of shell as somebody in a folder would; show it, and end where it fails."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if environment is not None:
        variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
        variables["VIRTUAL_ENV"] = str(environment)
    print(f"$ {command}", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.rstrip().split("\n")
    shown = lines if done.returncode else lines[-3:]
    print("\n".join(f"    {line}" for line in shown), flush=True)
    print(f"    [{done.returncode} after {time.monotonic() - began:.0f} s]", flush=True)
    if done.returncode:
        sys.exit(f"failed: {command}")
    return done.stdout


def explain_every_command(folder: Path, environment: Path) -> None:
    """Ask each command for its help."""
    program = (
        "from typer.main import get_command\n"
        "from r2t.cli.main import app\n"
        "def show(command, name):\n"
        "    print(name)\n"
        "    for child, inner in getattr(command, 'commands', {}).items():\n"
        "        show(inner.load(), name + ' ' + child)\n"
        "show(get_command(app), 'r2t')"
    )
    names = run(f'python -c "{program}"', folder, environment).split("\n")
    for name in filter(None, names):
        run(f"{name} --help > /dev/null", folder, environment)


def use_the_main_commands(folder: Path, environment: Path) -> None:
    """Go the way of README with a few of the demo's videos."""
    few = folder / "few"
    few.mkdir()
    rows = (folder / "r2t-demo/videos/test.jsonl").read_text(encoding="utf-8").split("\n")
    annotations = [json.loads(row) for row in rows if row]
    chosen = sorted({row["vid"] for row in annotations})[:NUM_VIDEOS]
    for video in chosen:
        shutil.copy(folder / f"r2t-demo/videos/{video}.mp4", few)
    with (few / "moments.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("video", "query", "start", "end"))
        for row in annotations:
            if row["vid"] in chosen:
                table.writerows((row["vid"], row["query"], *w) for w in row["relevant_windows"])
    sentence = annotations[0]["query"]
    for command in (
        "r2t extract --videos few --store few.zarr --model r2t-demo --fps 1 --offline",
        "r2t train --store few.zarr --out runs/few --epochs 1 --batch-size 8 --hidden-width 16",
        "r2t eval --store few.zarr --checkpoint runs/few --split train",
        f'r2t predict --checkpoint runs/few few/{chosen[0]}.mp4 "{sentence}" --plot few.png',
        f'r2t search --store few.zarr --checkpoint runs/few "{sentence}"',
        f'r2t predict few/{chosen[0]}.mp4 "{sentence}" --model r2t-demo --fps 1 --plot frozen.png',
        f'r2t search --store few.zarr "{sentence}" --offline',
        f"r2t highlights few/{chosen[0]}.mp4 --length 10s --model r2t-demo --fps 1 --out reel.mp4",
        "r2t store info few.zarr",
        "r2t store verify few.zarr",
    ):
        run(command, folder, environment)


def add_one_extra(extra: str, wheel: Path, plain: Path, folder: Path) -> None:
    """Install an extra on top of the plain environment, whose files are linked, and use it."""
    environment = folder / f"with-{extra}"
    run(f"python3 -m venv --without-pip {environment}", folder)
    (packages,) = plain.glob("lib/python*/site-packages")
    target = environment / packages.relative_to(plain)
    shutil.rmtree(target)
    shutil.copytree(packages, target, copy_function=os.link)
    run(f"python -m pip install --quiet '{wheel}[{extra}]'", folder, environment)
    run(f'python -c "{EXTRAS[extra]}"', folder, environment)
    shutil.rmtree(environment)


def main(folder: Path) -> None:
    """Do all of it in a folder."""
    wheel = build_wheel(folder)
    install, ask = readme_command("pip install .\n").splitlines()
    assert install.endswith("pip install ."), install
    assert ask.startswith("r2t predict "), ask
    plain = folder / ".venv"
    run(install.replace("pip install .", f"pip install --quiet {wheel}"), folder)
    run(readme_command("r2t demo\n"), folder, plain)
    explain_every_command(folder, plain)
    use_the_main_commands(folder, plain)
    for extra in EXTRAS:
        add_one_extra(extra, wheel, plain, folder)


if __name__ == "__main__":
    if sys.argv[1:] == ["--test"]:
        print(readme_command(".[test]"))
    elif sys.argv[1:]:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="r2t-plain-") as name:
            main(Path(name))
