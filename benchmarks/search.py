"""How many videos of a store does a question ask a second? In batches, and one after another.

    python benchmarks/search.py
    python benchmarks/search.py --videos 200 --device cuda

The store is of random tokens, of the size that `r2t extract` makes of QVHighlights (75 frames, four
layers of ViT-B/32), the model the paper's, untrained: neither changes the work. Both ways run in
one process, alternately. What they answer must agree.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from toy_store import make_store, random_spec

from r2t.store import FeatureStore, QueryFeatures
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.search import search_store
from r2t.train.model.config import R2Config
from r2t.train.model.model import R2Model
from r2t.train.run.presets import find_preset
from r2t.train.run.trained_on import TrainedOn

SPEC = random_spec()


def one_by_one(grounder: Grounder, store: FeatureStore, query: QueryFeatures) -> list[float]:
    """Ask each video as `r2t predict` would, without reading ahead."""
    return [
        grounder(store.read_video(video_id), query).video_score
        for video_id in store.videos["video_id"]
    ]


def main() -> None:
    """Time both, alternately, and print videos a second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    config = find_preset("qvhighlights").train_config(num_layers=SPEC.num_layers)
    torch.manual_seed(0)
    model = R2Model(R2Config(num_layers=SPEC.num_layers)).to(options.device)
    grounder = Grounder(model, config, SPEC, TrainedOn())
    tokens = np.random.default_rng(1).standard_normal((SPEC.num_layers, 12, SPEC.text_width))
    query = QueryFeatures("q", tokens.astype(np.float16))
    seconds: dict[str, list[float]] = {"batched": [], "one by one": []}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(
            Path(folder) / "feats.zarr",
            lengths=[options.frames] * options.videos,
            queries_per_video=0,
            spec=SPEC,
        )
        for _ in range(options.repeats + 1):
            began = time.perf_counter()
            found = {
                answer.video_id: answer.score
                for answer in search_store(grounder, store, query, batch_size=options.batch_size)
            }
            between = time.perf_counter()
            alone = one_by_one(grounder, store, query)
            seconds["batched"].append(between - began)
            seconds["one by one"].append(time.perf_counter() - between)
            batched = [found[video_id] for video_id in store.videos["video_id"]]
            np.testing.assert_allclose(batched, alone, atol=1e-4)
    print(
        f"{options.videos} videos of {options.frames} frames, {SPEC.frame_bytes()} B a frame; "
        f"batches of {options.batch_size}; {options.device}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{options.repeats} repeats after a warm-up"
    )
    for name, times in seconds.items():
        rates = [options.videos / each for each in times[1:]]
        print(
            f"{name:10s}  median {statistics.median(rates):7.1f} videos/s, "
            f"{min(rates):.1f} to {max(rates):.1f}"
        )
    pairs = zip(seconds["one by one"][1:], seconds["batched"][1:], strict=True)
    ratios = [slow / fast for slow, fast in pairs]
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(f"ratio       median {middle:.2f}, {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main()
