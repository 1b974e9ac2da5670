"""Fine-tuning: the weights of another run that a new one begins with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from r2t.store.errors import ConfigError
from r2t.store.files import write_whole
from r2t.train.run.run_folder import CONFIG, INITIAL, WEIGHTS, RunFolder
from r2t.train.run.trained_on import InitialWeights


def take_initial(folder: RunFolder, run: Path | None, *, resume: bool) -> InitialWeights | None:
    """Copy the best weights of a run into a new one; return their origin, None without any.

    A run that is resumed has them, and its record, already: where `run` is, or whether it is still
    there, does not matter then, but other weights than those are refused.
    """
    if (folder.path / CONFIG).exists():
        _, trained_on = folder.load_config()
        if resume and run is not None:
            _require_same_beginning(folder, trained_on.initial, run)
        return trained_on.initial if resume else None
    if run is None:
        return None
    RunFolder(run).load_model("best")  # refuses what is no run, or damaged
    content = (run / WEIGHTS).read_bytes()
    folder.path.mkdir(parents=True, exist_ok=True)
    write_whole(folder.path / INITIAL, content)
    return InitialWeights(str(run), hashlib.sha256(content).hexdigest())


def _require_same_beginning(folder: RunFolder, recorded: InitialWeights | None, run: Path) -> None:
    weights = run / WEIGHTS
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    if recorded is not None and digest in (None, recorded.sha256):
        return
    began = "random weights" if recorded is None else f"the weights of {recorded.run}"
    raise ConfigError(
        f"{folder.path} began with {began}, which are not those of {run}: resume it without "
        "these, or choose another folder"
    )
