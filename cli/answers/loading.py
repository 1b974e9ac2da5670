"""Who answers questions about videos, loaded in one way for every command.

With a checkpoint it is the trained model of that run; without one it is the frozen CLIP.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import r2t.extract
import r2t.extract.video
import r2t.store
import r2t.train
from r2t.cli.shared import as_windows, note
from r2t.extract.video import DEFAULT_MAX_HOURS
from r2t.store.compatibility import require_compatible
from r2t.train import grounding


@dataclass(frozen=True, eq=False)
class FileAnswerer:
    """Who answers about video files, the CLIP that encodes them, and the rate to sample them at."""

    answerer: grounding.Answerer
    clip: r2t.extract.FrozenClip
    frame_rate_fps: float


def load_for_files(
    checkpoint: Path | None,
    options: r2t.extract.ClipOptions,
    *,
    fps: float | None,
    windows: str,
    device: str,
    pool: r2t.extract.video.DecodePool,
) -> FileAnswerer:
    """Load who answers about video files, and the CLIP for it."""
    if checkpoint is None:
        grounding.whole_plan(as_windows(windows))
        clip = r2t.extract.FrozenClip.load(
            options.model or r2t.extract.DEFAULT_MODEL,
            options.pretrained,
            layers=1,  # the embeddings are made of the last; tokens are dropped
            device=options.device,
            offline=options.offline,
            announce=options.announce,
            pool=pool,
        )
        answerer = grounding.Grounder.zero_shot(clip)
        return FileAnswerer(answerer, clip, answerer.frame_rate(fps))
    grounder = grounding.Grounder.load(checkpoint, device=r2t.train.pick_device(device))
    rate = grounder.frame_rate(fps)
    if rate != grounder.spec.frame_rate:
        note(f"note: the model was trained on frames at {grounder.spec.frame_rate} fps")
    clip = r2t.extract.FrozenClip.matching(grounder, options, pool=pool)
    return FileAnswerer(grounder, clip, rate)


def load_for_store(
    checkpoint: Path | None,
    store: r2t.store.FeatureStore,
    *,
    windows: str,
    device: str,
    action: str,
) -> grounding.Answerer:
    """Load who answers about the videos of a store; `action` says what for, in messages.

    Raises:
        SpecMismatchError: if the run was trained on other features.
        ConfigError: if the frozen CLIP is to answer, and the store has no embeddings.
    """
    if checkpoint is None:
        grounding.whole_plan(as_windows(windows))
        return grounding.ZeroShotGrounder.of_store(store)
    grounder = grounding.Grounder.load(checkpoint, device=r2t.train.pick_device(device))
    names = (checkpoint, store.location)
    require_compatible(grounder.spec, store.spec, action=action, names=names)
    return grounder


def load_presence_rule(
    checkpoint: Path | None,
    answerer: grounding.Answerer,
    frame_rate: float | Literal["per-video"],
) -> grounding.PresenceRule | None:
    """Return the threshold of presence that a run has for frames at a rate, None if it has none."""
    if checkpoint is None:
        return None
    return grounding.load_rule(checkpoint, answerer.video_score_name, frame_rate)


def answered_by(checkpoint: Path | None, answerer: grounding.Answerer) -> dict[str, str]:
    """Return who answers, for pages and JSON."""
    if checkpoint is not None:
        return {"run": checkpoint.resolve().name}
    weights = answerer.provenance.get("pretrained")
    clip = answerer.spec.model if weights is None else f"{answerer.spec.model}, {weights}"
    return {"answered by": grounding.FROZEN_LABEL, "CLIP": clip}


@contextmanager
def started_pool(max_hours: float = DEFAULT_MAX_HOURS) -> Generator[r2t.extract.video.DecodePool]:
    """Start a process to decode untrusted videos; it gets ready while CLIP is loaded."""
    with r2t.extract.video.DecodePool(max_hours=max_hours) as pool:
        pool.start()
        yield pool
