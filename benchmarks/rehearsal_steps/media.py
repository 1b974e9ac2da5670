"""What stands in for a dataset's videos, features, weights and predictions in a rehearsal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path

import av
import numpy as np
import torch

from r2t.train.model.model import R2Model
from r2t.train.model.official import to_official
from r2t.train.run.presets import find_preset
from rehearsal_steps.files import Held, Miniature, Query

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path.insert(0, str(TESTS))
from tiny_clip import (  # noqa: E402 - beside the suite, not installed
    NUM_TOKENS,
    TEXT_WIDTH,
    VISION_WIDTH,
    make_tiny_clip,
)

CLIP_FOLDER = "tiny-clip"
NUM_LAYERS = 4
HIDDEN_WIDTH = 16
PICTURE_SIDE = 32
CONTEXT_LENGTH = 77  # as in CLIP, so that no sentence is cut that would not be
RELEASED = {
    "qvhighlights": "r2_tuning_qvhighlights-ed516355.pth",
    "charades": "r2_tuning_charades-1de02112.pth",
    "tacos": "r2_tuning_tacos-81759b55.pth",
    "ego4d": "r2_tuning_ego4d-6a6f5754.pth",
}
SIZES = {
    "store import": (
        f"--num-tokens {NUM_TOKENS} --vision-width {VISION_WIDTH} --text-width {TEXT_WIDTH}"
    ),
    "import-checkpoint": f"--num-tokens {NUM_TOKENS}",
    "train": f"--epochs 1 --hidden-width {HIDDEN_WIDTH}",
}


def make_media(out: Path, miniatures: Sequence[Miniature]) -> None:
    """Write videos, released features and checkpoints for miniatures, and a tiny CLIP."""
    make_tiny_clip(out / CLIP_FOLDER, context_length=CONTEXT_LENGTH)
    for each in miniatures:
        (out / each.folder).mkdir()
        for name, seconds in each.seconds.items():
            write_video(out / each.folder / name, seconds)
        write_features(out / "data" / each.name, each.released)
        write_checkpoints(out, each)


def write_video(path: Path, seconds: Fraction) -> None:
    """Write a video of this very length with about a picture a second, each a plain shade."""
    count = ceil(seconds)
    rate = count / seconds
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = PICTURE_SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        if codec == "libx264":
            stream.codec_context.options = {"preset": "ultrafast", "threads": "1"}
        for number in range(count):
            picture = np.full((PICTURE_SIDE, PICTURE_SIDE, 3), 37 * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_features(folder: Path, held: Held) -> None:
    """Write made-up features as the official ones are: a file a video, a file a query."""
    random = np.random.default_rng(0)
    videos, queries = folder / "clip_b32_vid_k4", folder / "clip_b32_txt_k4"
    videos.mkdir(parents=True)
    queries.mkdir()
    for video, count in held.frames.items():
        tokens = random.standard_normal((count, NUM_LAYERS, NUM_TOKENS, VISION_WIDTH))
        np.save(videos / f"{video}.npy", tokens.astype(np.float16))
    for number, query in enumerate(held.queries):
        words = random.standard_normal((2 + number % 9, NUM_LAYERS, TEXT_WIDTH))
        np.save(queries / f"{query.query_id}.npy", words.astype(np.float16))


def write_checkpoints(out: Path, miniature: Miniature) -> None:
    """Write untrained weights as the official code saves them, under the released names."""
    config = find_preset(miniature.name).train_config(
        num_layers=NUM_LAYERS, vision_width=VISION_WIDTH, text_width=TEXT_WIDTH
    )
    sizes = replace(config.model, width=HIDDEN_WIDTH)
    for domain in miniature.domains:
        short = domain.lower()[: 3 if miniature.name == "youtube" else 2]
        name = RELEASED.get(miniature.name, f"r2_tuning_{miniature.name}_{short}-0123abcd.pth")
        state = to_official(R2Model(sizes))
        torch.save({"meta": {"epoch": 1}, "state_dict": state}, out / name)


def write_predictions(path: Path, queries: Sequence[Query], held: Held, seed: int) -> None:
    """Write made-up predictions in QVHighlights' form, with moments best first."""
    random = np.random.default_rng(seed)
    lines: list[str] = []
    for query in queries:
        count = held.frames[query.video]
        ends = np.sort(random.integers(0, count, 6)) * 2
        moments = [[int(start), int(end) + 2] for start, end in pairwise(ends)]
        scores = np.sort(random.random(len(moments)))[::-1]
        row = {
            "qid": int(query.query_id),
            "query": "",
            "vid": query.video,
            "pred_relevant_windows": [
                [*moment, float(score)] for moment, score in zip(moments, scores, strict=True)
            ],
            "pred_saliency_scores": random.random(count).tolist(),
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
