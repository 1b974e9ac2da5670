"""A rule of presence on the demo world: one that is written tells on videos it never saw.

The saliency is the frozen CLIP's own similarity, which knows this world without training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.clip.similarity import frame_similarity
from r2t.store import FeatureStore, QueryFeatures
from r2t.store.features import FrameSource
from r2t.train.grounding import presence_choice
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.presence import PresenceRule
from r2t.train.grounding.presence_choice import choose_presence_rule
from r2t.train.grounding.presence_scores import PresenceScores
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model.decode import Grounding
from r2t.train.model.ranking import FROZEN_SCORE, video_score


class Similar(Grounder):
    """In the place of a trained model: frames are as salient as CLIP finds them."""

    def __init__(self, clip: FrozenClip, *, shuffled: bool) -> None:
        self.clip = clip
        self.generator = np.random.default_rng(0) if shuffled else None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def video_score_name(self) -> str:
        return FROZEN_SCORE

    def asked(self, source: FrameSource, queries: Sequence[QueryFeatures]) -> list[Grounding]:
        curves = frame_similarity(self.clip, source.read(slice(0, source.num_frames)), queries)[
            :, :, 0
        ]
        if self.generator is not None:
            curves = self.generator.permutation(curves)
        moments = np.zeros((0, 3))
        rate, duration = source.frame_rate_fps, source.duration_seconds
        return [Grounding(moments, curve, rate, duration, video_score(curve)) for curve in curves]


def chosen(
    model: Similar, store: FeatureStore, split: str, monkeypatch: pytest.MonkeyPatch
) -> PresenceRule:
    def ground_stored(
        grounder: Similar, store: FeatureStore, asked: Mapping[str, Sequence[str]], *_: Any
    ) -> Iterator[list[Grounding]]:
        for video_id, query_ids in asked.items():
            queries = [store.read_query(query_id) for query_id in query_ids]
            yield grounder.asked(store.open_video(video_id), queries)

    monkeypatch.setattr(presence_choice, "ground_stored", ground_stored)
    return choose_presence_rule(model, store, store.annotations(split), plan=WindowPlan(None))


def test_a_rule_that_beats_chance_does_so_on_other_videos(
    world: tuple[FrozenClip, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, store = world
    rule = chosen(Similar(clip, shuffled=False), store, "val", monkeypatch)
    assert rule.beats_chance
    seen: list[PresenceScores] = []
    choose = PresenceRule.choose

    def watched(scores: PresenceScores, score: str) -> PresenceRule:
        seen.append(scores)
        return choose(scores, score)

    monkeypatch.setattr(PresenceRule, "choose", watched)
    chosen(Similar(clip, shuffled=False), store, "test", monkeypatch)
    (scores,) = seen
    recall = float((scores.present >= rule.threshold).mean())
    rejected = float((scores.absent < rule.threshold).mean())
    assert (recall + rejected) / 2 > 0.65


def test_answers_to_other_sentences_beat_nothing(
    world: tuple[FrozenClip, FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, store = world
    rule = chosen(Similar(clip, shuffled=True), store, "val", monkeypatch)
    assert not rule.beats_chance
