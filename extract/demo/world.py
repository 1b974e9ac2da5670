"""The demo world as files: small H.264 videos and their annotations in QVHighlights' format.

It is there to learn and to test on without a download. Videos are 36 seconds of 64 x 64 pixels,
about 70 kB each; annotations are exact because the scenes were written before they were painted.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import av
import numpy as np

from r2t.extract.demo.composed import ask_composed
from r2t.extract.demo.render import Painter
from r2t.extract.demo.scene import SIDE, Scene, scene_generator
from r2t.extract.demo.sentences import SceneQuery, SentenceKind, ask, clip_scores
from r2t.extract.demo.staging import CROWDED, sample_scene
from r2t.store.annotations import Split
from r2t.store.errors import ConfigError
from r2t.store.files import appearing, write_whole
from r2t.store.progress import OnProgress, no_progress

Level = Literal["plain", "composed", "crowded"]

VIDEO_FRAME_RATE_FPS = 8
CLIP_SECONDS = 2  # QVHighlights' unit of saliency
ANNOTATORS = 3


@dataclass(frozen=True)
class Story:
    """One video of the world before it is painted: its scene and what is asked about it."""

    video_id: str
    scene: Scene
    queries: tuple[SceneQuery, ...]

    def rows(self) -> list[dict[str, object]]:
        """Return its annotations, one QVHighlights row a query."""
        return [self._row(number, query) for number, query in enumerate(self.queries)]

    def _row(self, number: int, query: SceneQuery) -> dict[str, object]:
        scores = clip_scores(query, CLIP_SECONDS)
        touched = query.prominence.reshape(-1, CLIP_SECONDS).any(axis=1)
        clips: list[int] = np.flatnonzero(touched).tolist()
        return {
            "qid": f"{self.video_id}-{number}",
            "query": query.sentence,
            "duration": self.scene.duration_seconds,
            "vid": self.video_id,
            "relevant_windows": query.moments.tolist(),
            "relevant_clip_ids": clips,
            "saliency_scores": [[int(scores[clip])] * ANNOTATORS for clip in clips],
            "kind": query.kind,
            "novel": query.novel,
        }


def make_story(split: Split, seed: int, index: int, level: Level = "plain") -> Story:
    """Make up one video; the same arguments always tell the same story.

    "plain" and "composed" ask of one scene, so their videos have one name.
    """
    rng = scene_generator(split, seed, index)
    if level == "crowded":
        scene, name = sample_scene(rng, CROWDED), "crowd"
    else:
        scene, name = sample_scene(rng), "world"
    queries = ask(scene, rng) if level == "plain" else ask_composed(scene, rng, split)
    return Story(f"{name}-{split}-{seed}-{index:04d}", scene, tuple(queries))


def make_world(
    folder: Path,
    *,
    num_videos: int,
    seed: int,
    split: Split,
    level: Level = "plain",
    processes: int = 1,
    on_video: OnProgress = no_progress,
) -> Path:
    """Write `num_videos` videos and `<split>.jsonl` into a folder; return the latter's path.

    `level` "composed" asks harder questions about the same videos, see `composed`; "crowded" asks
    them about videos full of small shapes, see `staging`. Splits never share a scene, nor do they
    share one with what the demo's CLIP was trained on. `on_video` is told how many are
    written so far. More videos of a seed begin with the same videos, and those already there are
    kept. The same libx264 writes the same bytes.
    """
    if num_videos < 1 or seed < 0 or processes < 1:
        raise ConfigError(
            f"{num_videos = }, {seed = }, {processes = }: at least one video and one process are "
            "needed, and a seed of 0 or more"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for done, part in enumerate(
        _film_all(folder, split, seed, level, num_videos, processes), start=1
    ):
        rows += part
        on_video(done, num_videos)
    annotations = folder / f"{split}.jsonl"
    write_whole(annotations, "".join(json.dumps(row) + "\n" for row in rows))
    return annotations


def read_kinds(annotations: Path) -> dict[str, SentenceKind]:
    """Return the kind of every query of an annotation file that `make_world` wrote, by its id."""
    rows = map(json.loads, annotations.read_text(encoding="utf-8").splitlines())
    return {row["qid"]: row["kind"] for row in rows}


def _film_all(
    folder: Path, split: Split, seed: int, level: Level, num_videos: int, processes: int
) -> Iterable[list[dict[str, object]]]:
    film = partial(_film_one, folder, split, seed, level)
    if processes == 1:
        yield from map(film, range(num_videos))
        return
    # Spawned, since forking a process that runs torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(film, range(num_videos), chunksize=4)


def _film_one(
    folder: Path, split: Split, seed: int, level: Level, index: int
) -> list[dict[str, object]]:
    story = make_story(split, seed, index, level)
    video = folder / f"{story.video_id}.mp4"
    if not video.exists():
        write_video(video, story.scene)
    return story.rows()


def write_video(path: Path, scene: Scene) -> None:
    """Paint a scene at 8 frames a second into an mp4 file, which appears when it is whole."""
    paint = Painter(scene)
    with appearing(path) as unfinished, av.open(unfinished, "w", format="mp4") as container:
        # libx264's macroblock tree differs from run to run now and then, even with one thread.
        options = {"crf": "18", "preset": "veryfast", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=VIDEO_FRAME_RATE_FPS, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the number of threads would change the bytes
        for number in range(scene.duration_seconds * VIDEO_FRAME_RATE_FPS):
            frame = av.VideoFrame.from_ndarray(paint(number / VIDEO_FRAME_RATE_FPS), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, VIDEO_FRAME_RATE_FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
