"""A training run on a store: splits, readers and validation around the loop of `trainer`."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from r2t.store.annotations import Annotation, labelled
from r2t.store.errors import ConfigError, SpecMismatchError
from r2t.store.feature_store import FeatureStore
from r2t.train.cpu_threads import linear_work, threads_for
from r2t.train.data import EpochOrder, FeatureReader, Reading
from r2t.train.grounding import (
    Grounder,
    StoredQueries,
    evaluate_groundings,
    longest_video,
    scoring_plan,
)
from r2t.train.model import Grounding, R2Model
from r2t.train.run import (
    RunFolder,
    TrainConfig,
    TrainedOn,
    ValidationScore,
    held_folder,
    take_initial,
)
from r2t.train.training.execution import Execution
from r2t.train.training.processes import Processes
from r2t.train.training.trainer import train_on_batches

EVALUATION_BATCH_SIZE = 8


@dataclass(frozen=True)
class Splits:
    """Annotations to train on and to validate on; `held_out` if the store has no val split."""

    train: list[Annotation]
    val: list[Annotation]
    held_out: bool

    @property
    def held_out_videos(self) -> set[str]:
        """Videos that we took out of training, none if the annotations have a val split."""
        return {annotation.video_id for annotation in self.val} if self.held_out else set()


def split_annotations(
    store: FeatureStore,
    *,
    domain: str | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    held_out: Collection[str] = (),
) -> Splits:
    """Return a store's train and val queries; without a val split, hold out some of the videos.

    `val_fraction` of the videos, at least one, are drawn with `seed`; 0 trains on all of them and
    validates on none. `held_out` are the videos that a run which goes on has held out: they stay
    so, even if the store has changed meanwhile. Queries without labels are left out, with an
    `AnnotationWarning`.
    """
    if not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction = {val_fraction}: give a share of the videos in [0, 1)")
    train_rows, val_rows = (store.annotations(split, domain) for split in ("train", "val"))
    if not train_rows:
        splits = sorted(set(store.queries["split"]))
        where = f" in domain {domain!r}" if domain else ""
        raise ConfigError(
            f"{store.location} has no query to train on{where} (splits there: {splits}); extract "
            "with --annotations train=FILE"
        )
    train_rows, val_rows = labelled(train_rows), labelled(val_rows)
    if not train_rows:
        raise ConfigError(
            f"{store.location}: none of the queries to train on has moments or saliency: add them "
            "with r2t store annotate --replace"
        )
    if held := set(held_out):
        return _held_out(train_rows, held)
    if val_rows or not val_fraction:
        return Splits(train_rows, val_rows, held_out=False)
    videos = sorted({annotation.video_id for annotation in train_rows})
    if len(videos) < 2:
        raise ConfigError(
            "one annotated video cannot be split into train and val: annotate another, or train "
            "without validation (val fraction 0)"
        )
    count = max(1, round(val_fraction * len(videos)))
    return _held_out(train_rows, set(random.Random(seed).sample(videos, count)))


def _held_out(rows: Sequence[Annotation], videos: Collection[str]) -> Splits:
    return Splits(
        [annotation for annotation in rows if annotation.video_id not in videos],
        [annotation for annotation in rows if annotation.video_id in videos],
        held_out=True,
    )


def evaluation_queries(
    store: FeatureStore, split: str, domain: str | None, trained_on: TrainedOn
) -> list[Annotation]:
    """Return the queries of a split; val is what the run held out if the store has none."""
    rows = store.annotations(split, domain)
    held_out = set(trained_on.held_out_videos or ())
    if split != "val" or (rows and not held_out):
        return rows
    return [row for row in store.annotations("train", domain) if row.video_id in held_out]


def train_model(
    config: TrainConfig,
    store: FeatureStore,
    splits: Splits,
    run_folder: Path,
    *,
    initial: Path | None = None,
    execution: Execution | None = None,
    reading: Reading | None = None,
) -> RunFolder:
    """Train on a store's features, validating after each epoch; see `train_on_batches`.

    `initial` is a run whose best weights this one begins with; a resumed run keeps its own. The
    features are read for the device and the processes of `execution`. Where `config.prior` is
    "auto", the model takes a prior if the store has embeddings. The folder is locked meanwhile.

    Raises:
        SpecMismatchError: if the model was made for features of other sizes.
        ConfigError: if the folder cannot be written to, another training is writing there, it holds
            a run with other settings, or the store lacks the embeddings of a prior.
        TrainingError: if the loss is no longer finite.
    """
    _require_fit(config, store)
    config = config.with_prior(has_embeddings=store.embedding is not None)
    execution = execution or Execution()
    with held_folder(run_folder) if execution.processes.leads else nullcontext():
        return _fit(config, store, splits, run_folder, initial, execution, reading)


def _fit(
    config: TrainConfig,
    store: FeatureStore,
    splits: Splits,
    run_folder: Path,
    initial: Path | None,
    execution: Execution,
    reading: Reading | None,
) -> RunFolder:
    initial_weights = take_initial(RunFolder(run_folder), initial, resume=execution.resume)
    processes = execution.processes
    reading = replace(
        reading or Reading(),
        device=execution.device,
        rank=processes.rank,
        num_ranks=processes.size,
    )
    batches = FeatureReader(
        store,
        splits.train,
        batch_size=config.batch_size,
        positive=config.positive,
        min_duration_seconds=config.min_duration_seconds,
        prior=config.model.prior,
        order=EpochOrder(seed=config.seed, sampling=config.sampling, repeats=config.repeats),
        reading=reading,
    )
    content = store.content()
    trained_on = TrainedOn(
        store=store.location,
        content=content.digest(),
        identity=store.spec,
        provenance=store.provenance,
        num_train_queries=len(batches.annotations),
        num_val_queries=len(splits.val),
        queries=_digest([*batches.annotations, *splits.val]),
        longest_num_frames=longest_video(store, batches.annotations),
        held_out_videos=tuple(sorted(splits.held_out_videos)),
        initial=initial_weights,
    )
    evaluate = None
    if splits.val:
        evaluate, trained_on = _validation(
            config, store, splits.val, trained_on, processes, reading
        )
    width = config.model.width
    with threads_for(linear_work(batches.most_frames, width, width)):
        return train_on_batches(
            config,
            batches,
            run_folder,
            evaluate=evaluate,
            trained_on=trained_on,
            content=content,
            execution=execution,
        )


def _digest(annotations: Sequence[Annotation]) -> str:
    """Return a digest of which queries these are; what they say is part of the store's."""
    ids = sorted(annotation.query_id for annotation in annotations)
    return f"sha256:{hashlib.sha256(json.dumps(ids).encode()).hexdigest()}"


def _validation(
    config: TrainConfig,
    store: FeatureStore,
    rows: Sequence[Annotation],
    trained_on: TrainedOn,
    processes: Processes,
    reading: Reading,
) -> tuple[Callable[[R2Model], ValidationScore], TrainedOn]:
    """Return what scores a model on some queries, and the run's record, with what that needs."""
    plan = scoring_plan(config, trained_on)
    queries = StoredQueries(
        store,
        rows,
        plan,
        batch_size=EVALUATION_BATCH_SIZE,
        prior=config.model.prior,
        reading=reading,
    )
    if plan.num_frames is None:
        longest = longest_video(store, queries.annotations)
        trained_on = replace(trained_on, longest_whole_num_frames=longest)
    if not queries.annotations:
        raise ConfigError("the store has features of none of the validation videos")

    def evaluate(model: R2Model) -> ValidationScore:
        own = queries.ground(Grounder(model, config, store.spec, trained_on))
        groundings = gather_groundings(own, processes)
        result = evaluate_groundings(groundings, queries.annotations, config.evaluator)
        return ValidationScore(result.score, result.summary)

    return evaluate, trained_on


def gather_groundings(own: dict[str, Grounding], processes: Processes) -> dict[str, Grounding]:
    """Return the answers of all processes, to all of them."""
    if processes.size == 1:
        return own
    tensors = {
        f"{query_id}/{name}": torch.from_numpy(np.ascontiguousarray(getattr(grounding, name)))
        for query_id, grounding in own.items()
        for name in ("moments", "saliency")
    }
    numbers = {
        f"{query_id}/numbers": torch.tensor(
            [grounding.frame_rate_fps, grounding.duration_seconds, grounding.video_score],
            dtype=torch.float64,
        )
        for query_id, grounding in own.items()
    }
    found: dict[str, Grounding] = {}
    for part in processes.gather_bytes(safetensors.torch.save({**tensors, **numbers})):
        arrays = {name: tensor.numpy() for name, tensor in safetensors.torch.load(part).items()}
        for name in arrays:
            query_id, _, kind = name.rpartition("/")
            if kind == "numbers":
                found[query_id] = Grounding(
                    arrays[f"{query_id}/moments"],
                    arrays[f"{query_id}/saliency"],
                    *arrays[name].tolist(),
                )
    return found


def _require_fit(config: TrainConfig, store: FeatureStore) -> None:
    wanted = (config.model.num_layers, config.model.vision_width, config.model.text_width)
    found = (store.spec.num_layers, store.spec.vision_width, store.spec.text_width)
    if wanted != found:
        raise SpecMismatchError(
            f"the model takes (layers, vision width, text width) = {wanted}, the store has {found}"
        )
