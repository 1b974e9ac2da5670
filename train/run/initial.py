"""Fine-tuning: the weights of another run that a new one begins with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from r2t.store.errors import ConfigError
from r2t.store.files import write_whole
from r2t.train.run.checkpoint import CONFIG, INITIAL, WEIGHTS, RunFolder


def take_initial(folder: RunFolder, run: Path | None, *, resume: bool) -> dict[str, Any]:
    """Copy the best weights of a run into a new one; return their origin, as it is recorded.

    A run that is resumed has them, and its record, already: where `run` is, or whether it is still
    there, does not matter then, but other weights than those are refused.
    """
    if (folder.path / CONFIG).exists():
        _, trained_on = folder.load_config()
        recorded = trained_on.get(INITIAL)
        if resume and run is not None:
            _require_same_beginning(folder, recorded, run)
        return {INITIAL: recorded} if resume and recorded is not None else {}
    if run is None:
        return {}
    RunFolder(run).load_model("best")  # refuses what is no run, or damaged
    content = (run / WEIGHTS).read_bytes()
    folder.path.mkdir(parents=True, exist_ok=True)
    write_whole(folder.path / f"{INITIAL}.safetensors", content)
    return {INITIAL: {"run": str(run), "sha256": hashlib.sha256(content).hexdigest()}}


def _require_same_beginning(folder: RunFolder, recorded: Any, run: Path) -> None:
    weights = run / WEIGHTS
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    if isinstance(recorded, dict) and digest in (None, recorded.get("sha256")):
        return
    began = f"the weights of {recorded['run']}" if recorded else "random weights"
    raise ConfigError(
        f"{folder.path} began with {began}, which are not those of {run}: resume it without "
        "these, or choose another folder"
    )
