"""A trained model asked about one video, once or many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from features import small_spec

from r2t.store.errors import ConfigError
from r2t.store.features import QueryFeatures, VideoFeatures
from r2t.train.data.batch import Sample, collate
from r2t.train.grounding.grounder import Grounder
from r2t.train.model.decode import Grounding, decode_predictions
from r2t.train.run.presets import find_preset
from r2t.train.run.trained_on import TrainedOn


@pytest.fixture
def grounder(golden: Callable[..., Any]) -> Grounder:
    model = golden("qvh_tiny").model()
    layers = (9, 10, 11, 12)
    spec = small_spec(
        vision_layers=layers, text_layers=layers, num_tokens=5, vision_width=48, text_width=32
    )
    config = find_preset("qvhighlights").train_config()
    return Grounder(model, replace(config, model=model.config), spec, TrainedOn())


def features(sample: Sample) -> tuple[VideoFeatures, QueryFeatures]:
    video = VideoFeatures("v", sample.video.numpy(), sample.duration_seconds, sample.frame_rate_fps)
    return video, QueryFeatures(sample.query_id, sample.query.numpy())


def assert_same(ours: Grounding, expected: Grounding) -> None:
    np.testing.assert_allclose(ours.saliency, expected.saliency, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.moments, expected.moments, rtol=0, atol=1e-4)


def test_many_queries_of_a_prepared_video_are_answered_as_each_alone(
    grounder: Grounder, make_sample: Callable[..., Sample]
) -> None:
    samples = [make_sample(11, words) for words in (3, 9, 5, *range(2, 20))]
    video = features(samples[0])[0]
    queries = [features(sample)[1] for sample in samples]
    prepared = grounder.prepare(video)
    assert prepared.num_frames == 11
    together = grounder.ground(prepared, queries)
    assert len(together) == len(queries)
    for sample, query, answer in zip(samples, queries, together, strict=True):
        batch = collate([replace(sample, video=samples[0].video)])
        with torch.no_grad():
            (expected,) = decode_predictions(grounder.model(batch), batch, grounder.config.decoding)
        assert_same(answer, expected)
        assert_same(grounder(video, query), expected)
    assert grounder.ground(prepared, []) == []


def test_features_of_another_model_are_refused(
    grounder: Grounder, make_sample: Callable[..., Sample]
) -> None:
    video, query = features(make_sample(4, 3))
    narrow = replace(video, tokens=video.tokens[:2])
    with pytest.raises(ConfigError, match=r"v.*\(layers, tokens, width\) = \(4, 5, 48\)"):
        grounder(narrow, query)
    with pytest.raises(ConfigError, match=r"4x3-0.*\(layers, text width\) = \(4, 32\)"):
        grounder.ground(video, [query, replace(query, tokens=query.tokens[:2])])
