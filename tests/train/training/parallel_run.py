"""What each process of `test_processes` runs: training on the tiny store, stopped if asked."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import torch
from tiny_config import undisturbed_config

from r2t.store import FeatureStore
from r2t.train.training.execution import Execution
from r2t.train.training.fit import split_annotations, train_model
from r2t.train.training.processes import joined


def main(store: FeatureStore, folder: Path, stop_after: int) -> None:
    """Train; the last process is asked to stop after so many steps, 0 for never."""
    torch.set_num_threads(1)
    with joined("auto" if torch.cuda.is_available() else "cpu") as (processes, device):
        steps = 0

        def on_step(done: float, total: float) -> None:
            nonlocal steps
            steps += 1
            if steps == stop_after and processes.rank == processes.size - 1:
                signal.raise_signal(signal.SIGTERM)

        execution = Execution(device=torch.device(device), processes=processes, on_step=on_step)
        try:
            train_model(
                undisturbed_config(store),
                store,
                split_annotations(store),
                folder,
                execution=execution,
            )
        except KeyboardInterrupt:
            assert stop_after


if __name__ == "__main__":
    main(FeatureStore.open(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
