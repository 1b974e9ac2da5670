"""Does everything that runs on a GPU compute what the CPU computes there, and how fast?

    python benchmarks/gpu.py                          # on the first GPU, at most 400 seconds
    python benchmarks/gpu.py --only block --only ring
    python benchmarks/gpu.py --device cpu --small     # the same code on a toy, without a GPU

Needs no network and no files: stores, films and weights are made on the spot. Each section is a
process of its own, which is killed at its deadline; what it had found by then counts. Exit status 0
means that every check held, 1 that one did not or that a section ended before its end, 2 that there
is no such device. docs/gpu.md says how to read the table.

r2t is the one that is installed; if none is, it is the checkout that this file lies in.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import tomllib
from pathlib import Path

from gpu_check.runner import SECONDS, SECTIONS, Plan, run_section, run_sections
from gpu_check.table import failures, summary, to_json, write_table

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the sections one after another, print the table, return the exit status."""
    options = _options()
    if options.section:
        folder = Path(options.folder)
        run_section(options.section, options.device, folder, options.until, small=options.small)
        return 0
    missing = _missing(options.device)
    if missing:
        print(missing, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="r2t-gpu-") as scratch:
        flags = ["--device", options.device, *(["--small"] if options.small else [])]
        plan = Plan(
            command=[sys.executable, __file__, *flags],
            folder=Path(scratch),
            seconds=options.seconds,
            environment=_environment(Path(scratch)),
        )
        results = run_sections(plan, options.only or list(SECTIONS))
    if options.json:
        Path(options.json).write_text(to_json(results))
    print(write_table(results))
    print(summary(results))
    return 1 if failures(results) else 0


def _missing(device: str) -> str | None:
    """Say in one line what makes it impossible to begin, if anything does."""
    if importlib.util.find_spec("torch") is None:
        return f"{sys.executable} has no torch: install what docs/gpu.md names"
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        return f"--device {device!r}: {str(error).splitlines()[0]}; must be cuda, cuda:1 or cpu"
    if kind == "cpu":
        return None
    if kind != "cuda":
        return f"--device {device!r}: must be cuda, cuda:1 and so on, or cpu"
    count = torch.cuda.device_count()
    wanted = (torch.device(device).index or 0) + 1
    if count < wanted:
        return (
            f"--device {device!r}: torch {torch.__version__} finds {count} GPUs here; check the "
            "driver with nvidia-smi, or try the same code with --device cpu --small"
        )
    return None


def _environment(scratch: Path) -> dict[str, str]:
    """Let sections find r2t and leave the network alone; what they compile is theirs."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled"),
    }
    if _installed():
        return environment
    packages = scratch / "packages"
    packages.mkdir()
    (packages / "r2t").symlink_to(CHECKOUT)  # the parts lie at its top, and are packages of r2t
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    facts = packages / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    facts.mkdir()
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (facts / "METADATA").write_text(text)
    known = os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(packages), *([known] if known else [])])
    return environment


def _installed() -> bool:
    try:
        return importlib.util.find_spec("r2t.train") is not None
    except ModuleNotFoundError:
        return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog=f"sections: {', '.join(SECTIONS)}",
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--small", action="store_true", help="toy sizes, for a minute of a CPU")
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="may be repeated")
    parser.add_argument("--json", metavar="FILE", help="write all rows there as well")
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        help="for all sections, of which each has its share (default: %(default)g)",
    )
    for name in ("--section", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
