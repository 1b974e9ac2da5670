"""Does R²-Tuning beat what uses less, in the demo, whatever the seed? Trains once for each seed.

Videos, features and test queries are those of `r2t demo`; the seed decides starting weights and the
order of training. Scores of a query are averaged over the seeds, intervals resample the videos. The
similarity baseline is chosen on the training split. What an earlier run left in `--out` is used
again, so an interrupted run goes on.

    python benchmarks/demo_seeds.py --seeds 3 --out /tmp/demo_seeds
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from r2t.cli import demo
from r2t.cli.demo_report import as_json, tables
from r2t.cli.demo_scores import Scores, compare, score_answers
from r2t.cli.ui import answers
from r2t.extract.demo.world import read_kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("r2t-demo-seeds"))
    parser.add_argument("--videos", type=int, default=demo.NUM_TRAIN_VIDEOS)
    parser.add_argument("--test-videos", type=int, default=demo.NUM_TEST_VIDEOS)
    parser.add_argument("--epochs", type=int, default=demo.NUM_EPOCHS)
    arguments = parser.parse_args()
    folder = arguments.out / "videos"
    began = time.monotonic()
    demo.make_videos(folder, arguments.videos, arguments.test_videos)
    made = time.monotonic()
    clip, store = demo.extract_features(folder, arguments.out / "feats.zarr")
    print(f"videos {made - began:.0f} s, features {time.monotonic() - made:.0f} s", flush=True)
    kinds = read_kinds(folder / "test.jsonl")
    runs: list[Scores] = []
    for seed in range(arguments.seeds):
        began = time.monotonic()
        run = demo.run_folder(arguments.out, arguments.videos, arguments.epochs, seed)
        grounder = demo.train_model(store, run, epochs=arguments.epochs, seed=seed)
        trained = time.monotonic()
        runs.append(score_answers(grounder, clip, store, seed=seed, on_queries=lambda _: None))
        print(
            f"seed {seed}: training {trained - began:.0f} s, "
            f"evaluation {time.monotonic() - trained:.0f} s",
            flush=True,
        )
        for table in tables(compare(runs[-1:], kinds), arguments.test_videos):
            answers().print(table)
    together = compare(runs, kinds)
    print(f"\nmean of {arguments.seeds} seeds, {len(kinds)} queries")
    for table in tables(together, arguments.test_videos):
        answers().print(table)
    found = {"together": as_json(together), "seeds": [as_json(compare([r], kinds)) for r in runs]}
    (arguments.out / "demo_seeds.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
