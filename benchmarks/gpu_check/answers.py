"""What a model answers: the same on the device as on the CPU, and how many answers a second."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_check.block import make_model
from gpu_check.infinity import train_config
from gpu_check.inputs import LONG_VIDEO, store_path
from gpu_check.measuring import seconds_of, set_precision
from gpu_check.report import Report
from gpu_check.setting import Setting
from r2t.store import FeatureStore
from r2t.train.data.reading import Reading
from r2t.train.grounding.ground_store import StoredQueries
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.prepared import PreparedVideo
from r2t.train.grounding.search import search_store
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model.decode import Grounding
from r2t.train.run.trained_on import TrainedOn

SALIENCY_LIMIT = 1e-3  # of cosines
MOMENT_LIMIT = 1e-3  # of scores, and of times in lengths of the video
LEADING = 10  # moments that must be found again; the last of a list may leave it by rounding
EVALUATION_BATCH = 8
NUM_QUERIES, NUM_PREPARED = 16, 4

Answers = Mapping[str, Grounding]


@dataclass(frozen=True)
class Way:
    """A way to ask, which answers `num` of something."""

    name: str
    ask: Callable[[Grounder], Answers]
    num: int
    unit: str


def run(setting: Setting, report: Report) -> None:
    """Ask in each way: on the CPU, on the device, and on the device again for the time."""
    set_precision("fp32")
    store = FeatureStore.open(store_path(setting.folder, "float16"))
    config = train_config(setting, "float32")
    undecided = replace(config.decoding, suppression="none", unit_seconds=None)
    model = make_model(config.model)
    with torch.no_grad():  # an untrained model, whose scores are not all the same
        for weight in model.class_head.parameters():
            weight.mul_(4)
    on_cpu = Grounder(model, replace(config, decoding=undecided), store.spec, TrainedOn())
    on_device = copy.copy(on_cpu)
    on_device.model = copy.deepcopy(model).to(setting.device)
    in_use = copy.copy(on_device)
    in_use.config = config
    for way in _ways(setting, store):

        def ask(way: Way = way) -> None:
            compare(report, way.name, way.ask(on_device), way.ask(on_cpu))
            way.ask(in_use)
            seconds = seconds_of(lambda: way.ask(in_use), setting.device)
            report.measure(f"{way.name}: rate", way.num / seconds, f"{way.unit}/s")

        report.verify(way.name, ask)


def _ways(setting: Setting, store: FeatureStore) -> list[Way]:
    rows = store.annotations()
    queries = [store.read_query(row.query_id) for row in rows[:NUM_QUERIES]]
    short = [name for name in store.lengths() if name != LONG_VIDEO][:NUM_PREPARED]
    plan = WindowPlan(setting.sizes.num_frames)
    known: dict[int, PreparedVideo] = {}

    def evaluate(grounder: Grounder) -> Answers:
        reading = Reading(device=grounder.device)
        whole = WindowPlan(None)
        asked = StoredQueries(store, rows, whole, batch_size=EVALUATION_BATCH, reading=reading)
        return asked.ground(grounder)

    def prepare(grounder: Grounder) -> Answers:
        return {name: grounder(store.read_video(name), queries[0]) for name in short}

    def answer(grounder: Grounder) -> Answers:
        if id(grounder) not in known:
            known[id(grounder)] = grounder.prepare(store.read_video(short[0]))
        return _numbered(grounder.ground(known[id(grounder)], queries))

    def windows(grounder: Grounder) -> Answers:
        return _numbered(grounder.ground(store.open_video(LONG_VIDEO), queries[:1], plan))

    def ask_all(grounder: Grounder) -> Answers:
        found = search_store(grounder, store, queries[0], plan=plan)
        return {each.video_id: each.grounding for each in found if each.grounding is not None}

    return [
        Way("evaluation", evaluate, len(rows), "queries"),
        Way("prepare and answer", prepare, len(short), "videos"),
        Way("answers of a prepared video", answer, len(queries), "queries"),
        Way("windows", windows, setting.sizes.long_num_frames, "frames"),
        Way("search", ask_all, len(store.lengths()), "videos"),
    ]


def _numbered(groundings: list[Grounding]) -> Answers:
    return {str(number): grounding for number, grounding in enumerate(groundings)}


def compare(report: Report, name: str, found: Answers, expected: Answers) -> None:
    if not expected or found.keys() != expected.keys():
        text = f"{len(found)} answers, {len(expected)} on the CPU"
        report.check(f"{name}: answers", text, holds=False)
        return
    saliency = max(_largest(found[key].saliency - expected[key].saliency) for key in expected)
    report.within(f"{name}: saliency", saliency, SALIENCY_LIMIT)
    moments = max(_distance(found[key], expected[key]) for key in expected)
    report.within(f"{name}: moments", moments, MOMENT_LIMIT)


def _largest(differences: NDArray[np.floating]) -> float:
    """Return the largest absolute number, infinity if one is none."""
    return float(np.abs(differences).max()) if np.isfinite(differences).all() else math.inf


def _distance(found: Grounding, expected: Grounding) -> float:
    """Return how far the leading moments are from those found, the worst of them.

    Moments of equal scores may come in another order.
    """
    scale = np.array([expected.duration_seconds, expected.duration_seconds, 1.0])
    leading = expected.moments[:LEADING] / scale
    gaps = np.abs(leading[:, None] - found.moments[None] / scale).max(axis=-1)
    return _largest(gaps.min(axis=1))
