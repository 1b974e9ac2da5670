"""Training on a store, and asking what came of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_config import tiny_config
from toy_store import make_store

from r2t.store import FeatureStore
from r2t.store.change.remove import remove_videos
from r2t.store.errors import (
    AnnotationError,
    AnnotationWarning,
    ConfigError,
    RunWarning,
    SpecMismatchError,
)
from r2t.store.schema import EmbeddingSpec
from r2t.train.data.reader import FeatureReader
from r2t.train.grounding.evaluation import clip_saliency, evaluate_groundings
from r2t.train.grounding.ground_store import StoredQueries, ground_all
from r2t.train.grounding.grounder import Grounder
from r2t.train.grounding.windows import WindowPlan
from r2t.train.model.decode import Grounding
from r2t.train.run.changed_store import CONTENT
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn
from r2t.train.training.execution import Execution
from r2t.train.training.fit import Splits, evaluation_queries, split_annotations, train_model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("fit") / "feats.zarr")


@pytest.fixture(scope="module")
def run(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "run"
    train_model(tiny_config(store, epochs=3), store, split_annotations(store), folder)
    return folder


def test_a_run_leaves_everything_about_itself(run: Path, store: FeatureStore) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"best.safetensors", "last.safetensors", "config.json", "metrics.jsonl"} <= names
    assert list((run / "tensorboard").iterdir())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert all("MR-full-mAP" in line["metrics"] for line in lines)
    trained_on = json.loads((run / "config.json").read_text())["trained_on"]
    assert trained_on["content"] == store.content_digest()
    assert (trained_on["num_train_queries"], trained_on["num_val_queries"]) == (8, 4)


def test_a_run_goes_on_with_a_changed_store_only_if_it_is_told_to(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr")
    config, folder = tiny_config(store, epochs=1), tmp_path / "run"
    train_model(config, store, split_annotations(store), folder)
    before = store.content_digest()
    rows = [row for row in store.annotations("train") if row.video_id == "v0"]
    remove_videos(store.location, [], query_ids=[rows[0].query_id])
    store = FeatureStore.open(store.location)
    longer = replace(config, epochs=2)

    def resume(*, allow_changed: bool = False) -> None:
        execution = Execution(resume=True, allow_changed=allow_changed)
        train_model(longer, store, split_annotations(store), folder, execution=execution)

    removed = rf"1 query removed \({rows[0].query_id}\)"
    with pytest.raises(ConfigError, match=rf"store has changed.*{removed}.*--allow-changed"):
        resume()
    with pytest.warns(RunWarning, match=removed):
        resume(allow_changed=True)
    _, trained_on = RunFolder(folder).load_config()
    assert trained_on.content == store.content_digest()
    assert trained_on.num_train_queries == 7
    assert trained_on.allowed_changes is not None
    (change,) = trained_on.allowed_changes
    assert (change.num_epochs, change.content_before) == (1, before)
    assert re.search(removed, change.changes)
    longer = replace(config, epochs=3)
    resume()  # it is what the run knows now
    assert RunFolder(folder).load_config()[1].allowed_changes == (change,)
    assert len(RunFolder(folder).metrics()) == 3
    # A run that does not say what there was can still be told that it is another.
    (folder / CONTENT).write_text("{}")
    remove_videos(store.location, ["v1"])
    store, longer = FeatureStore.open(store.location), replace(config, epochs=4)
    with pytest.raises(ConfigError, match=r"store has changed.*is not known"):
        resume()


def test_what_a_run_holds_out_stays_held_out(store: FeatureStore) -> None:
    splits = split_annotations(store, held_out=["v1", "gone"])
    assert splits.held_out_videos == {"v1"}
    assert not {row.video_id for row in splits.train} & {"v1"}


def test_best_weights_score_what_was_logged(run: Path, store: FeatureStore) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["score"])
    grounder = Grounder.load(run)
    queries = StoredQueries(store, store.annotations("val"), WindowPlan(None), batch_size=3)
    found = queries.ground(grounder)
    result = evaluate_groundings(found, queries.annotations, grounder.config.evaluator)
    assert result.summary == best["metrics"]


def test_no_batching_changes_a_score_however_training_is_padded(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=10)
    config = tiny_config(store, epochs=1)
    config = replace(config, model=replace(config.model, padding="official"))
    rows = store.annotations()  # of ten lengths, in sentences of two
    splits = Splits(rows, rows, held_out=False)
    folder = train_model(config, store, splits, tmp_path / "run")
    grounder = Grounder.load(tmp_path / "run")
    alone = {
        row.query_id: grounder(store.read_video(row.video_id), store.read_query(row.query_id))
        for row in rows
    }
    expected = evaluate_groundings(alone, rows, config.evaluator).summary
    assert folder.metrics()[0]["metrics"] == expected
    for batch_size in (1, 2, 8, 16):
        reader = FeatureReader(store, rows, batch_size=batch_size)
        found = ground_all(grounder.model, reader, config.decoding)
        assert evaluate_groundings(found, rows, config.evaluator).summary == expected
        for query_id, answer in alone.items():
            np.testing.assert_allclose(found[query_id].saliency, answer.saliency, atol=1e-6)
            np.testing.assert_allclose(found[query_id].moments, answer.moments, atol=1e-4)


def test_one_by_one_equals_batched(run: Path, store: FeatureStore) -> None:
    grounder = Grounder.load(run)
    reader = FeatureReader(store, store.annotations("val"), batch_size=4)
    batched = ground_all(grounder.model, reader, grounder.config.decoding)
    for annotation in reader.annotations:
        video = store.read_video(annotation.video_id)
        alone = grounder(video, store.read_query(annotation.query_id))
        together = batched[annotation.query_id]
        np.testing.assert_allclose(alone.saliency, together.saliency, atol=1e-5)
        np.testing.assert_allclose(
            np.sort(alone.moments[:, 2]), np.sort(together.moments[:, 2]), atol=1e-5
        )


def test_without_val_some_videos_are_held_out(tmp_path: Path, store: FeatureStore) -> None:
    full = split_annotations(store)
    assert not full.held_out
    only_train = make_store(tmp_path / "feats.zarr", num_videos=4)
    rows = only_train.annotations()
    only_train.annotations = lambda split=None, domain=None: (  # type: ignore[method-assign]
        [] if split == "val" else rows
    )
    split = split_annotations(only_train, val_fraction=0.25, seed=3)
    assert split.held_out
    train_videos = {annotation.video_id for annotation in split.train}
    val_videos = {annotation.video_id for annotation in split.val}
    assert len(val_videos) == 1
    assert not train_videos & val_videos
    assert len(split.train) + len(split.val) == len(rows)
    recorded = TrainedOn(held_out_videos=tuple(sorted(split.held_out_videos)))
    later = evaluation_queries(only_train, "val", None, recorded)
    assert [a.query_id for a in later] == [a.query_id for a in split.val]
    again = split_annotations(only_train, val_fraction=0.25, seed=3)
    assert [a.query_id for a in again.val] == [a.query_id for a in split.val]


def test_impossible_requests_are_refused(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(ConfigError, match="no query to train on in domain 'BK'"):
        split_annotations(store, domain="BK")
    config = tiny_config(store)
    wrong = replace(config, model=replace(config.model, vision_width=32))
    with pytest.raises(SpecMismatchError, match=r"\(2, 32, 16\), the store has \(2, 16, 16\)"):
        train_model(wrong, store, split_annotations(store), tmp_path / "run")
    unlabelled = replace(store.annotations("val")[0], moments=np.zeros((0, 2)), saliency=None)
    with pytest.raises(AnnotationError, match="neither moments nor saliency"):
        evaluate_groundings({}, [unlabelled], "moments")


def test_queries_without_labels_are_left_out_by_name(tmp_path: Path) -> None:
    store = make_store(tmp_path / "feats.zarr", num_videos=4)
    rows = store.annotations()
    odd = [replace(row, moments=np.zeros((0, 2)), saliency=None) for row in rows]

    def answer(*unlabelled: int) -> None:
        mixed = [odd[place] if place in unlabelled else row for place, row in enumerate(rows)]
        store.annotations = lambda split=None, domain=None: (  # type: ignore[method-assign]
            [row for row in mixed if split in (None, row.split)]
        )

    answer(0, 6)
    with pytest.warns(AnnotationWarning, match=r"1 of 4 queries are left out.*of v[03]; give them"):
        splits = split_annotations(store)
    assert [row.query_id for row in splits.train] == ["v0-1", "v1-0", "v1-1"]
    assert [row.query_id for row in splits.val] == ["v2-0", "v2-1", "v3-1"]
    folder = train_model(tiny_config(store, epochs=1), store, splits, tmp_path / "run")
    assert len(folder.metrics()) == 1
    answer(*range(4))
    with pytest.raises(ConfigError, match="none of the queries to train on has moments"):
        split_annotations(store)
    answer(*range(4, 8))
    assert split_annotations(store, val_fraction=0.5).held_out


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (0.5, [1, 2, 3, 4, 5, 6]),
        (1.0, [1.5, 3.5, 5.5]),
        (0.25, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
    ],
)
def test_saliency_moves_to_the_clips_of_the_annotation(rate: float, expected: list[float]) -> None:
    saliency = np.arange(1, 7, dtype=np.float32)
    grounding = Grounding(np.zeros((0, 3)), saliency, rate, 6 / rate, 0.5)
    np.testing.assert_allclose(clip_saliency(grounding, 2.0), expected)


def test_a_run_takes_a_prior_where_the_store_has_embeddings(
    store: FeatureStore, tmp_path: Path
) -> None:
    embedded = make_store(tmp_path / "feats.zarr", embedding=EmbeddingSpec(24))
    config = tiny_config(embedded, epochs=1, prior="auto")
    splits = split_annotations(embedded)
    train_model(config, embedded, splits, tmp_path / "run")
    trained = Grounder.load(tmp_path / "run")
    assert trained.has_prior
    assert (trained.config.prior, trained.config.model.prior) == ("on", True)
    rows = embedded.annotations("val")
    asked = StoredQueries(embedded, rows, WindowPlan(None), batch_size=3, prior=True)
    result = evaluate_groundings(asked.ground(trained), rows, config.evaluator)
    [line] = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == result.summary
    # It goes on exactly, and with nothing else.
    more = replace(config, epochs=2)
    resumed = Execution(resume=True)
    train_model(more, embedded, splits, tmp_path / "run", execution=resumed)
    train_model(more, embedded, splits, tmp_path / "whole")
    weights = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("run", "whole")]
    assert weights[0] == weights[1]
    without = replace(more, prior="off")
    with pytest.raises(ConfigError, match="prior: 'on' before, 'off' now"):
        train_model(without, embedded, splits, tmp_path / "run", execution=resumed)
    with pytest.raises(ConfigError, match=r"do not fit the model: prior_map\.linear\.\w+ is unkn"):
        train_model(without, embedded, splits, tmp_path / "other", initial=tmp_path / "run")
    # Without embeddings it is trained as ever, to the bit.
    plain = split_annotations(store)
    for name, choice in (("auto", "auto"), ("off", "off")):
        chosen = tiny_config(store, epochs=1, prior=choice)
        folder = train_model(chosen, store, plain, tmp_path / name)
        assert folder.load_config()[0].prior == "off"
    ours, expected = ((tmp_path / run / "last.safetensors") for run in ("auto", "off"))
    assert ours.read_bytes() == expected.read_bytes()
    with pytest.raises(ConfigError, match="has no embeddings"):
        train_model(tiny_config(store, prior="on"), store, plain, tmp_path / "refused")
