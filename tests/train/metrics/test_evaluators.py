from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from r2t.store.annotations import Annotation, SaliencyLabels, Split
from r2t.store.datasets.registry import read_annotations
from r2t.store.errors import AnnotationError, ConfigError
from r2t.train.choices import Evaluator
from r2t.train.metrics.bootstrap import bootstrap_intervals, paired_difference
from r2t.train.metrics.evaluators import (
    QueryScores,
    evaluate_predictions,
    official_table,
    score_queries,
)
from r2t.train.metrics.moments import AP_THRESHOLDS, LENGTH_RANGES, MomentValues, moment_values
from r2t.train.metrics.submission import SubmissionRow, read_submission

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "post"
EDGE_CASES: dict[str, Any] = json.loads((GOLDEN / "metrics_edge_cases.json").read_text())
CRASHES = {
    name for name, case in EDGE_CASES.items() if "exception" in json.dumps(case["vtg_eval_brief"])
}
REVERSED = {"reversed_gt"}  # refused as an annotation


def _oracle() -> Any:
    path = Path(__file__).parents[3] / "benchmarks" / "metrics_oracle.py"
    spec = importlib.util.spec_from_file_location("metrics_oracle", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ORACLE = _oracle()


def _read(
    folder: Path, truth: Iterable[object], submission: Iterable[object]
) -> tuple[list[SubmissionRow], list[Annotation]]:
    """Pass rows through the readers, as a user would."""
    (folder / "val.jsonl").write_text("\n".join(map(json.dumps, truth)))
    (folder / "submission.jsonl").write_text("\n".join(map(json.dumps, submission)))
    return read_submission(folder / "submission.jsonl"), read_annotations(folder / "val.jsonl")


def _value(entry: Any) -> Any:
    return entry["value"] if isinstance(entry, dict) and "value" in entry else entry


def _row(query: int, moments: list[list[float]], saliency: list[float] | None = None) -> Any:
    scores = None if saliency is None else np.array(saliency)
    return SubmissionRow(
        str(query), f"v{query}", moments=np.array(moments, dtype=float), saliency=scores
    )


def _annotation(query: int, moments: list[list[float]], video: str = "") -> Annotation:
    array = np.array(moments, dtype=np.float64).reshape(-1, 2)
    return Annotation(str(query), video or f"v{query}", "a query", array)


@pytest.mark.parametrize("strict_official", [True, False])
def test_equals_the_official_table(tmp_path: Path, strict_official: bool) -> None:
    golden = json.loads((GOLDEN / "vtg_eval.json").read_text())
    rows, annotations = _read(tmp_path, golden["gt"], golden["sub"])
    table = evaluate_predictions(rows[::-1], annotations, strict_official=strict_official)
    assert json.dumps(table) == json.dumps(golden["result"])  # keys and their order too


@pytest.mark.filterwarnings("ignore::r2t.store.errors.AnnotationWarning")
@pytest.mark.parametrize("name", sorted(EDGE_CASES.keys() - CRASHES - REVERSED))
def test_strict_equals_the_official_edge_cases(tmp_path: Path, name: str) -> None:
    case = EDGE_CASES[name]
    with np.errstate(all="raise"):
        rows, annotations = _read(tmp_path, [case["gt"]], [case["pred"]])
        scores = score_queries(rows, annotations, strict_official=True)
    table = official_table(scores, strict_official=True)
    assert table["brief"] == _value(case["vtg_eval_brief"])
    assert scores.moments is not None
    precision = dict(
        zip(map(str, AP_THRESHOLDS), scores.moments.average_precision[0, 0], strict=True)
    )
    assert precision == pytest.approx(_value(case["ap_full"]), abs=1e-15)
    recall, mean_iou = _value(case["r1_miou"])
    assert table["full"]["MR-R1"] == recall
    assert table["full"]["MR-mIoU"] == mean_iou
    assert table["full"]["MR-R5"] == _value(case["r5"])
    for index, (level, expected) in enumerate(case.get("hl", {}).items()):
        assert scores.highlights is not None
        assert table[f"HL-min-{level}"]["HL-Hit1"] == expected["hit1"]
        ours = scores.highlights.average_precision[0, index]
        assert ours == pytest.approx(np.mean(expected["ap"]), abs=1e-15)


@pytest.mark.parametrize("name", sorted(CRASHES))
@pytest.mark.parametrize("strict_official", [True, False])
def test_what_crashes_officially_is_an_annotation_error(
    tmp_path: Path, name: str, strict_official: bool
) -> None:
    case = EDGE_CASES[name]
    with pytest.raises(AnnotationError):
        evaluate_predictions(
            *_read(tmp_path, [case["gt"]], [case["pred"]]), strict_official=strict_official
        )


def test_there_are_crashes_to_test() -> None:
    assert len(CRASHES) == 4
    assert len(EDGE_CASES) == 51


def test_a_reversed_truth_is_officially_a_hit() -> None:
    case = EDGE_CASES["reversed_gt"]
    arrays = (
        [np.array(case["pred"]["pred_relevant_windows"], float)],
        [np.array(case["gt"]["relevant_windows"], float)],
    )
    strict = moment_values(*arrays, strict_official=True)
    assert list(strict.average_precision[0, 0]) == list(_value(case["ap_full"]).values())
    assert (moment_values(*arrays).average_precision[0] == 0).all()


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [([[5, 5, 1]], [[5, 5]]), ([[100, 100, 1]], [[5, 5]]), ([[9, 0, 1]], [[0, 9]])],
)
def test_moments_without_length_never_overlap(
    predicted: list[list[float]], truth: list[list[float]]
) -> None:
    task = [_row(1, predicted)], [_annotation(1, truth)]
    assert evaluate_predictions(*task)["brief"]["MR-full-mAP"] == 0
    assert evaluate_predictions(*task, strict_official=True)["brief"]["MR-full-mAP"] == 100


def test_an_empty_range_is_none_unless_strict() -> None:
    task = [_row(1, [[0, 5, 1]])], [_annotation(1, [[0, 5]])]
    table = evaluate_predictions(*task)
    assert table["long"] is None
    assert table["brief"]["MR-long-mAP"] is None
    assert table["brief"]["MR-long-mIoU"] is None
    assert table["short"]["MR-mIoU"] == 100
    strict = evaluate_predictions(*task, strict_official=True)
    assert strict["long"] == strict["full"]


@pytest.mark.parametrize("golden", ["youtube_eval", "tvsum_eval"])
def test_equals_the_official_video_scores(golden: str) -> None:
    case = next(c for c in json.loads((GOLDEN / "hd.json").read_text()) if c["kind"] == golden)
    is_youtube = golden == "youtube_eval"
    rows, annotations = [], []
    for index, saliency in enumerate(case["saliency"]):
        label = case["match"][index] if is_youtube else case["anno"][index]
        scores = np.array(label, dtype=np.float32).reshape(len(label), -1)
        human = SaliencyLabels(scores, 2.0, -1.0 if is_youtube else 1.0, 1.0 if is_youtube else 5.0)
        name = f"v{index}"
        annotations.append(Annotation(name, name, "a title", np.zeros((0, 2)), human))
        rows.append(SubmissionRow(name, name, saliency=np.array(saliency)))
    evaluator: Evaluator = "youtube" if is_youtube else "tvsum"
    table = evaluate_predictions(rows, annotations, evaluator=evaluator)
    assert table == {"mAP": case["result"]["mAP"], "num_videos": len(rows)}


def test_tied_clips_keep_their_order() -> None:
    scores = np.array([[1], [-1], [0]], dtype=np.float32)
    human = SaliencyLabels(scores, 2.0, -1.0, 1.0)
    annotation = Annotation("v", "v", "a title", np.zeros((0, 2)), human)
    row = SubmissionRow("v", "v", saliency=np.zeros(3))
    assert evaluate_predictions([row], [annotation], evaluator="youtube")["mAP"] == 1
    short = SubmissionRow("v", "v", saliency=np.zeros(2))
    with pytest.raises(AnnotationError, match="one per clip"):
        evaluate_predictions([short], [annotation], evaluator="youtube")


# A grid of half seconds, so that equal IoUs and exact thresholds occur.
_ends = st.tuples(st.integers(0, 80), st.integers(1, 80)).map(
    lambda pair: [pair[0] / 2, (pair[0] + pair[1]) / 2]
)
_query = st.tuples(
    st.lists(st.tuples(_ends, st.integers(0, 4)), min_size=1, max_size=12),
    st.lists(_ends, min_size=1, max_size=6),
    st.lists(st.integers(-3, 3), min_size=1, max_size=9),
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_query, min_size=1, max_size=5))
def test_equals_one_query_at_a_time(queries: list[Any]) -> None:
    rows, annotations = [], []
    for index, (predicted, truth, saliency, labels) in enumerate(queries):
        moments = [[*ends, score] for ends, score in predicted]
        rows.append(_row(index, moments, [float(score) for score in saliency]))
        human = SaliencyLabels(np.array(labels, dtype=np.float32), 2.0, 0.0, 4.0)
        array = np.array(truth)
        annotations.append(Annotation(str(index), f"v{index}", "a query", array, human))
    expected = ORACLE.evaluate_serially(
        [row.moments for row in rows],
        [annotation.moments for annotation in annotations],
        [row.saliency for row in rows],
        [annotation.saliency.scores for annotation in annotations],
    )
    scores = score_queries(rows, annotations)
    assert scores.moments is not None
    means = {name: np.nanmean(v) for name, v in scores.metrics().items() if np.isfinite(v).any()}
    for index, name in enumerate(LENGTH_RANGES):
        if f"{name}/mIoU" not in expected:
            assert f"MR-{name}-mIoU" not in means
            continue
        assert means[f"MR-{name}-mIoU"] == pytest.approx(100 * expected[f"{name}/mIoU"])
        precision = np.nanmean(scores.moments.average_precision[index], axis=0)
        listed = [expected[f"{name}/mAP@{threshold}"] for threshold in AP_THRESHOLDS]
        assert precision == pytest.approx(np.array(listed))
    for key in ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.3", "R5@0.5", "R5@0.7"):
        assert means[f"MR-full-{key}"] == pytest.approx(100 * expected[f"full/{key}"])
    for level in ("Fair", "Good", "VeryGood"):
        assert means[f"HL-min-{level}-mAP"] == pytest.approx(100 * expected[f"{level}/mAP"])
        assert means[f"HL-min-{level}-Hit1"] == pytest.approx(100 * expected[f"{level}/Hit1"])


ROWS = [_row(1, [[0, 5, 1]]), _row(2, [[0, 5, 1]])]
TRUTHS = [_annotation(1, [[0, 5]]), _annotation(2, [[0, 5]])]


@pytest.mark.parametrize(
    ("rows", "annotations", "message"),
    [
        ([*ROWS, ROWS[0]], TRUTHS, "predicted more than once: query '1'"),
        (ROWS, [*TRUTHS, TRUTHS[1]], "annotated more than once: query '2'"),
        (ROWS[:1], TRUTHS, r"1 without prediction \(query '2'"),
        (ROWS, TRUTHS[:1], r"1 unknown \(query '2'"),
        (ROWS, [], "no annotations"),
        (
            [_row(1, [[0, 5, 1]]), SubmissionRow("2", "v2", moments=np.zeros((0, 3)))],
            TRUTHS,
            "no moment is predicted",
        ),
        (
            [ROWS[0], SubmissionRow("2", "v2", saliency=np.ones(2))],
            TRUTHS,
            "without moments: 1 of 2 predictions",
        ),
        (ROWS, [TRUTHS[0], _annotation(2, [])], "no ground truth"),
        ([SubmissionRow(q, q, saliency=np.ones(2)) for q in "12"], TRUTHS, "nothing to score"),
    ],
)
def test_refuses_what_cannot_be_scored(
    rows: Sequence[SubmissionRow], annotations: Sequence[Annotation], message: str
) -> None:
    with pytest.raises(AnnotationError, match=message):
        evaluate_predictions(rows, annotations)


def _coin_flips(seed: int, num_videos: int, per_video: int) -> tuple[np.ndarray, list[str]]:
    flips = np.random.default_rng(seed).random(num_videos) < 0.4
    ids = [f"v{video}" for video in range(num_videos) for _ in range(per_video)]
    return 100.0 * np.repeat(flips, per_video), ids


def test_bootstrap_resamples_videos_not_queries() -> None:
    values, ids = _coin_flips(seed=0, num_videos=400, per_video=1)
    once = bootstrap_intervals({"x": values}, ids, num_samples=2000)["x"]
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert once.value == values.mean()
    assert once.low == pytest.approx(once.value - error, abs=0.1 * error)
    assert once.high == pytest.approx(once.value + error, abs=0.1 * error)
    # Ten equal queries a video say no more than one.
    values, ids = _coin_flips(seed=0, num_videos=400, per_video=10)
    assert bootstrap_intervals({"x": values}, ids, num_samples=2000)["x"] == once
    assert bootstrap_intervals({"x": values}, ids, num_samples=2000, seed=1)["x"] != once


def test_bootstrap_leaves_out_what_does_not_count() -> None:
    values = np.array([100.0, np.nan, 0.0])
    intervals = bootstrap_intervals(
        {"x": values, "none": np.full(3, np.nan)}, ["a", "a", "a"], num_samples=9
    )
    assert list(intervals) == ["x"]
    assert (intervals["x"].low, intervals["x"].value, intervals["x"].high) == (50, 50, 50)
    with pytest.raises(ConfigError, match="num_samples"):
        bootstrap_intervals({"x": values}, ["a"] * 3, num_samples=0)
    with pytest.raises(AnnotationError, match="no metric"):
        bootstrap_intervals({"none": np.full(3, np.nan)}, ["a"] * 3)


def test_paired_difference_is_of_the_same_queries() -> None:
    random = np.random.default_rng(0)
    truths = [_annotation(i, [[0, 10]], video=f"v{i // 3}") for i in range(60)]
    good = [_row(i, [[0, random.uniform(7, 10), 1]]) for i in range(60)]
    poor = [_row(i, [[0, random.uniform(3, 10), 1]]) for i in range(60)]
    ours, theirs = score_queries(good, truths), score_queries(poor[::-1], truths[::-1])
    difference = paired_difference(ours, theirs)["MR-full-R1@0.7"]
    one, other = (np.mean(s.metrics()["MR-full-R1@0.7"]) for s in (ours, theirs))
    assert difference.value == pytest.approx(one - other)
    assert 0 < difference.low < difference.value < difference.high
    same = paired_difference(ours, ours)["MR-full-mAP"]
    assert (same.low, same.value, same.high) == (0, 0, 0)
    with pytest.raises(AnnotationError, match="same queries"):
        paired_difference(ours, score_queries(good[:9], truths[:9]))
    with pytest.raises(ConfigError, match="'R1'"):
        paired_difference(ours, theirs, metrics=["R1"])


def _reference(name: str) -> Path:
    folder = os.environ.get("R2T_REFERENCE_DATA")
    if not folder:
        pytest.skip("R2T_REFERENCE_DATA names no folder of annotations/ and predictions/")
    return Path(folder) / name


@pytest.mark.parametrize(
    ("predictions", "annotations", "evaluator"),
    [
        ("qvh_val_moment_detr", "qvhighlights/highlight_val_release.jsonl", "qvhighlights"),
        ("charades_test_seeded", "charades/charades_test_release.jsonl", "moments"),
    ],
)
def test_equals_published_scores(predictions: str, annotations: str, evaluator: Evaluator) -> None:
    folder = _reference("predictions")
    table = evaluate_predictions(
        read_submission(folder / f"{predictions}.jsonl"),
        read_annotations(_reference("annotations") / annotations),
        evaluator=evaluator,
        strict_official=True,
    )
    assert table == json.loads((folder / f"{predictions}.r2.json").read_text())


@pytest.mark.filterwarnings("ignore::r2t.store.errors.AnnotationWarning")
def test_equals_published_video_scores() -> None:
    folder = _reference("predictions")
    expected = json.loads((folder / "highlight_only_seeded.r2.json").read_text())
    submissions = json.loads((folder / "highlight_only_seeded.json").read_text())
    for key, videos in submissions.items():
        dataset, domain, split, _ = key.split("/")
        assert dataset in ("youtube", "tvsum")
        kept: Split = "val" if split == "val" else "train"
        path = _reference("annotations") / dataset / f"{dataset}_anno.json"
        rows = [SubmissionRow(v, v, saliency=np.array(scores)) for v, scores in videos.items()]
        annotations = read_annotations(path, split=kept, domain=domain)
        assert evaluate_predictions(rows, annotations, evaluator=dataset) == expected[key], key


def test_a_table_gives_each_average_precision_once_however_it_rounds() -> None:
    """Sums in two orders differ in the last bit, which decides the second decimal of some."""
    random = np.random.default_rng(0)
    for _ in range(200):
        precision = random.integers(0, 41, (4, 30, len(AP_THRESHOLDS))) / 40
        values = MomentValues(precision, np.ones((4, 30)), np.ones((4, 30)))
        table = official_table(QueryScores(("q",) * 30, ("v",) * 30, values, None))
        for name in LENGTH_RANGES:
            assert table["brief"][f"MR-{name}-mAP"] == table[name]["MR-mAP"]["average"]
        for threshold in ("0.5", "0.75"):
            assert table["brief"][f"MR-full-mAP@{threshold}"] == table["full"]["MR-mAP"][threshold]
