"""A feature store of a few seconds, and a way to run one command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from r2t.store.annotations import Annotation
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import FeatureSpec, QueryFeatures, VideoSource

SPEC = FeatureSpec(
    model="tiny",
    weights_sha256="0" * 64,
    vision_layers=(1, 2),
    text_layers=(1, 2),
    frame_rate=0.5,
    num_tokens=3,
    vision_width=16,
    text_width=8,
    image_size=32,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    """Write a store of videos v0, v1, … with two queries each.

    The last `num_val` videos are its val split; `without_features` are only annotated.
    """

    def make(
        num_videos: int = 6, *, num_val: int = 2, without_features: Sequence[str] = ()
    ) -> Path:
        generator = np.random.default_rng(0)
        annotations: list[Annotation] = []
        queries: list[QueryFeatures] = []
        path = tmp_path / "feats.zarr"
        provenance = {"model": "tiny", "pretrained": "none"}
        with FeatureStore.create(path, SPEC, provenance).writer() as writer:
            for number in range(num_videos):
                video_id, num_frames = f"v{number}", 8 + number
                if video_id not in without_features:
                    source = VideoSource(
                        name=f"{video_id}.mp4", num_bytes=1, sha256="0" * 64, decoder="none"
                    )
                    with writer.video(
                        video_id,
                        num_frames=num_frames,
                        duration_seconds=2.0 * num_frames,
                        frame_rate_fps=0.5,
                        source=source,
                    ) as video:
                        video.append(generator.normal(size=(2, num_frames, 3, 16)).astype("f2"))
                for place in range(2):
                    query_id = str(10 * number + place)
                    annotations.append(
                        Annotation(
                            query_id,
                            video_id,
                            f"a [bold] thing {number}",
                            np.array([[2.0, 8.0 + place]]),
                            split="val" if number >= num_videos - num_val else "train",
                            duration_seconds=2.0 * num_frames,
                        )
                    )
                    tokens = generator.normal(size=(2, 4 + place, 8)).astype("f2")
                    queries.append(QueryFeatures(query_id, tokens))
            writer.add_queries(annotations, queries)
        return path

    return make


@pytest.fixture
def run_command() -> Callable[..., Result]:
    """Run a command function with arguments, as the shell would."""

    def run(command: Callable[..., None], *arguments: Any) -> Result:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(command)
        return CliRunner().invoke(
            app, [str(argument) for argument in arguments], catch_exceptions=False
        )

    return run
