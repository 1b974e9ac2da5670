"""What does an answer cost? Evaluation in batches, and a second sentence about a video.

    python benchmarks/inference.py

QVHighlights' sizes: 75 frames of 50 tokens, 4 layers, queries of 12 to 20 words; float32 on two
threads. The reference answers one query at a time, as the official evaluation does. Ours takes
eight queries at a time, each about a video of its own or four about each; or it prepares a video
once and is then asked one sentence, or eight, about it. Decoding to seconds is left out. All take
turns in one process, ratios are taken within a turn, and all answers must agree.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from block_variants import OURS, REFERENCE, Contender, random_batch
from torch import Tensor

from r2t.train.data.batch import Batch
from r2t.train.model.model import Predictions

QUERIES = 8
SHARING = 4  # queries of a video where they share one
TOLERANCE = 1e-5


def main() -> None:
    """Check that all agree, time them in turns, and print seconds a query and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{options.threads} threads, {options.rounds} rounds in turns"
    )
    with torch.inference_mode():
        tasks = make_tasks()
        wall: dict[str, list[float]] = {name: [] for name in tasks}
        processor: dict[str, list[float]] = {name: [] for name in tasks}
        for turn in range(options.rounds + 1):
            for name, (run, num_queries) in tasks.items():
                began, worked = time.perf_counter(), time.process_time()
                run()
                if turn:
                    wall[name].append((time.perf_counter() - began) / num_queries)
                    processor[name].append((time.process_time() - worked) / num_queries)
    plain = next(iter(tasks))
    print(f"{'':44}{'ms a query':>11}{'CPU ms':>8}  {'times faster, wall':24}{'CPU':>6}")
    for name in tasks:
        ratios = [slow / fast for slow, fast in zip(wall[plain], wall[name], strict=True)]
        work = [slow / fast for slow, fast in zip(processor[plain], processor[name], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(
            f"{name:44}{1e3 * statistics.median(wall[name]):11.1f}"
            f"{1e3 * statistics.median(processor[name]):8.1f}  {spread:24}"
            f"{statistics.median(work):6.2f}"
        )


def make_tasks() -> dict[str, tuple[Callable[[], object], int]]:
    """Return what to time, by name, with the number of queries it answers."""
    reference = Contender(REFERENCE, dropout=0.5, training=False).model
    ours = Contender(OURS, dropout=0.5, training=False).model
    apart = random_batch(QUERIES)
    alone = [part_of(apart, [row]) for row in range(QUERIES)]
    together = replace(
        apart,
        videos=apart.videos[::SHARING].contiguous(),
        video_of_query=torch.arange(QUERIES) // SHARING,
    )
    video, query, num_words = apart.videos[0], apart.query, apart.num_words
    prepared = ours.prepare(video)
    words = query[:1, :, : int(num_words[0])].contiguous()
    first = reference(alone[0])

    def answer(prepared: Tensor, query: Tensor, num_words: Tensor) -> Predictions:
        return ours.read(ours.refine(prepared, query, num_words))

    answers = [ours(alone[0]), ours(apart), ours(together)]
    answers += [answer(prepared, words, num_words[:1])]
    answers += [answer(prepared, query, num_words)]
    for found in answers:
        require_same(found, first)
    num_videos = QUERIES // SHARING

    def one_by_one() -> None:
        for batch in alone:
            reference(batch)

    return {
        "reference, one query at a time": (one_by_one, QUERIES),
        "ours, one query": (lambda: ours(alone[0]), 1),
        f"ours, {QUERIES} queries of {QUERIES} videos": (lambda: ours(apart), QUERIES),
        f"ours, {QUERIES} queries of {num_videos} videos": (
            lambda: ours(together),
            QUERIES,
        ),
        "ours, preparing a video and one sentence": (
            lambda: answer(ours.prepare(video), words, num_words[:1]),
            1,
        ),
        "ours, a second sentence": (lambda: answer(prepared, words, num_words[:1]), 1),
        f"ours, {QUERIES} more sentences": (
            lambda: answer(prepared, query, num_words),
            QUERIES,
        ),
    }


def part_of(batch: Batch, rows: list[int]) -> Batch:
    """Return some samples of a batch whose queries share no video, padded to their own longest."""
    num_words = batch.num_words[rows]
    return replace(
        batch,
        query_ids=tuple(batch.query_ids[row] for row in rows),
        videos=batch.videos[rows],
        video_of_query=torch.arange(len(rows)),
        num_frames=batch.num_frames[rows],
        query=batch.query[rows, :, : int(num_words.max())].contiguous(),
        num_words=num_words,
        prior=None if batch.prior is None else batch.prior[rows],
        targets=None,
    )


def require_same(answer: Predictions, expected: Predictions) -> None:
    """Refuse to time what does not compute the same for the first query."""
    for name in ("class_logits", "saliency", "offsets"):
        truth = getattr(expected, name)[0]
        error = (getattr(answer, name)[0] - truth).abs().max() / truth.abs().max()
        assert error < TOLERANCE, (name, error)


if __name__ == "__main__":
    main()
