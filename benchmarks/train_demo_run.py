"""How was the run made that gives the first answer of `r2t demo`? Trains it and puts it in place.

Videos, features and training are those of `r2t demo` with the same numbers, so a run that the demo
has left in `--out` is taken as it is. The weights with the best validation score go to
extract/demo/run, with the scores on unseen videos and all that made them in provenance.json. To be
run again whenever the model, the demo's CLIP or its world change; a test notices.

    python benchmarks/train_demo_run.py --out r2t-demo
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from r2t.cli.commands.demo import steps as demo_steps
from r2t.cli.commands.demo.first import shipped_run
from r2t.cli.commands.demo.report import scores_as_json
from r2t.cli.commands.demo.scores import compare_methods, score_model
from r2t.extract.demo.world import read_kinds
from r2t.store.files import write_whole
from r2t.train.run.run_folder import RunFolder


def main() -> None:
    """Train, score, and replace the run that is shipped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("r2t-demo"))
    parser.add_argument("--epochs", type=int, default=demo_steps.USUAL.epochs)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=shipped_run())
    options = parser.parse_args()
    usual = demo_steps.USUAL
    size = demo_steps.DemoSize(usual.videos, usual.test_videos, options.epochs)
    folder = options.out / "videos"
    demo_steps.make_videos(folder, size.videos, size.test_videos, num_val=size.val_videos)
    _, store = demo_steps.extract_features(folder, options.out / "feats.zarr")
    run = demo_steps.run_folder(options.out, size, options.seed)
    grounder = demo_steps.train_demo_model(store, run, epochs=size.epochs, seed=options.seed)
    scores = score_model(grounder, store, np.random.default_rng(options.seed))
    found = scores_as_json(compare_methods([scores], read_kinds(folder / "test.jsonl")))
    ship(run, options.to, {"seed": options.seed, "epochs": size.epochs, **found})


def ship(run: Path, place: Path, about: dict[str, Any]) -> None:
    """Copy a run's best weights and its configuration, and write down where they come from."""
    config, trained_on = RunFolder(run).load_config()
    assert trained_on.store is not None
    trained_on = replace(trained_on, store=Path(trained_on.store).name)  # no folder of ours
    RunFolder(place).save_config(config, trained_on)
    shutil.copyfile(run / "best.safetensors", place / "best.safetensors")
    provenance = {
        "made_by": "benchmarks/train_demo_run.py",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "r2t": version("r2-tuning"),
        "torch": version("torch"),
        "clip_weights_sha256": RunFolder(run).load_spec().weights_sha256,
        **about,
    }
    write_whole(
        place / "provenance.json", json.dumps(provenance, indent=2, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
