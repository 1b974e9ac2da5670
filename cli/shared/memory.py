"""One line where memory runs out or a GPU fails: what was being done, and what to do."""

from __future__ import annotations

import errno
import re
import resource

from r2t.store.errors import in_one_line

_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "unable to allocate",
    "can't start new thread",
    "failed to map segment",
)
_ASKED = re.compile(r"allocate (\d+(?:\.\d+)?) (bytes|[KMGTPE]iB)\b")
_UNITS = {"bytes": 1} | {f"{letter}iB": 1024**power for power, letter in enumerate("KMGTPE", 1)}


def is_shortage(error: Exception) -> bool:
    """Whether an error says that memory ran out; torch, numpy and the system say it differently."""
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | ImportError | OSError) and any(
        sign in text for sign in _SIGNS
    )


def explain_gpu_fault(error: Exception) -> str:
    """Return the line for an error that `is_gpu_fault`; its notes say what was being done."""
    return (
        f"the GPU failed{_doing(error)}: {in_one_line(error, 100)}; what was finished is safe: run "
        "the same command again, and with --device cpu if it fails again; `r2t doctor` looks at "
        "the GPUs"
    )


def explain_shortage(error: Exception) -> str:
    """Return the line for an error that `is_shortage`; its notes say what was being done."""
    found = _ASKED.search(str(error))
    if found is None:
        asked = in_one_line(error, 100)
    else:
        asked = f"{float(found[1]) * _UNITS[found[2]] / 1e6:,.0f} MB more were asked for"
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    allowed = ""
    if limit != resource.RLIM_INFINITY:
        allowed = f" and this process may have {limit / 1e6:,.0f} MB (ulimit -v)"
    return (
        f"not enough memory{_doing(error)}: {asked}{allowed}; what was finished is safe: allow "
        "more memory, or use less at a time with a smaller --batch-size, --buffer-gb, --workers, "
        "--windows or --hidden-width, where the command has them"
    )


def _doing(error: Exception) -> str:
    return "".join(f" at the {note}" for note in getattr(error, "__notes__", [])[:1])
