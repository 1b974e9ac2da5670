"""A threshold of presence on the demo world: it tells on new videos, and is withheld where not.

The score is the frozen CLIP's own, which knows this world without training.
"""

from __future__ import annotations

import numpy as np
import pytest

from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.render import Painter
from r2t.extract.demo.scene import scene_generator
from r2t.extract.demo.sentences import Description
from r2t.extract.demo.staging import CROWDED, ROOMY, Staging, sample_scene
from r2t.store.annotations import Split
from r2t.train.data import frame_cosines
from r2t.train.grounding.presence import PresenceRule
from r2t.train.grounding.presence_scores import PresenceScores
from r2t.train.model.ranking import FROZEN_SCORE, video_score

NUM_VIDEOS = 10


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    return FrozenClip.load("r2t-demo", layers=1)


def asked(clip: FrozenClip, split: Split, staging: Staging = ROOMY) -> PresenceScores:
    """Ask ten videos, painted once a second, for each shape of theirs and all that they lack."""
    scenes = [
        sample_scene(scene_generator(split, 0, index), staging) for index in range(NUM_VIDEOS)
    ]
    looks = [{Description(actor.colour, actor.shape) for actor in each.actors} for each in scenes]
    every = sorted({look for shown in looks for look in shown}, key=str)
    sentences = [each.sentence() for each in every]
    embedded = [query.embedding for query in clip.encode_queries(sentences, sentences)]
    own: list[tuple[float, int]] = []
    lacking: list[tuple[float, int]] = []
    for place, scene in enumerate(scenes):
        paint = Painter(scene)
        frames = np.stack([paint(second + 0.5) for second in range(scene.duration_seconds)])
        seen = clip.encode_frames(np.moveaxis(frames, -1, 1)).embedding
        assert seen is not None
        for look, sentence in zip(every, embedded, strict=True):
            assert sentence is not None
            score = video_score(frame_cosines(seen, sentence))
            (own if look in looks[place] else lacking).append((score, place))
    present, absent = np.array(own), np.array(lacking)
    return PresenceScores(
        present[:, 0], absent[:, 0], present[:, 1].astype(np.int64), absent[:, 1].astype(np.int64)
    )


def chosen(scores: PresenceScores) -> PresenceRule:
    return PresenceRule.choose(scores, FROZEN_SCORE, 1.0)


@pytest.fixture(scope="module")
def known(clip: FrozenClip) -> PresenceScores:
    """Scores of the validation videos."""
    return asked(clip, "val")


def test_a_useful_rule_is_right_on_other_videos(clip: FrozenClip, known: PresenceScores) -> None:
    rule = chosen(known)
    assert rule.shortcoming is None
    others = asked(clip, "test")
    recall = float((others.present >= rule.threshold).mean())
    rejected = float((others.absent < rule.threshold).mean())
    assert (recall + rejected) / 2 > 0.75
    assert recall > 0.75


def test_scores_that_belong_to_other_sentences_give_no_rule(known: PresenceScores) -> None:
    every = np.concatenate([known.present, known.absent])
    shuffled = np.random.default_rng(0).permutation(every)
    present, absent = np.split(shuffled, [len(known.present)])
    mixed = PresenceScores(present, absent, known.present_video, known.absent_video)
    assert chosen(mixed).shortcoming is not None


def test_in_crowded_frames_the_verdict_is_withheld(clip: FrozenClip) -> None:
    rule = chosen(asked(clip, "val", CROWDED))
    assert rule.auc_low > 0.5  # it beats chance, which is not enough
    assert rule.held_out_right < 0.75
    assert rule.shortcoming is not None
