"""A run's card: what a person and a hub should know of it, from the run's own records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from r2t.store.card import (
    README,
    is_one_licence,
    markdown_table,
    markdown_text,
    marked_readme,
    spdx_expression,
    with_kept_words,
)
from r2t.store.errors import ConfigError
from r2t.store.files import read_plain
from r2t.train.run.config import TrainConfig
from r2t.train.run.run_folder import RunFolder
from r2t.train.run.trained_on import TrainedOn

MODEL_CARD = README
RUN_CARD_MARK = "made by r2t run push"

_MOST_BYTES = 2**20
_LICENCE = re.compile(r"^Licence of the weights: (\S.*)\.$", re.MULTILINE)
_TAGS = ("video", "temporal-grounding", "moment-retrieval", "r2t")
_NO_SCORES = "The run has no record of scores on validation data."
_SCORES = """\
Measured on the validation queries during the training. The weights are those of the epoch that did
best on them, so these scores are optimistic; they are not scores on a test split."""


def model_card(run: Path, url: str, licence: str) -> str:
    """Return a run's card, with what people wrote into an earlier one in its folder.

    Raises `ConfigError` if the folder holds no run, and `StoreError` if somebody changed what would
    be replaced.
    """
    folder = RunFolder(run)
    config, trained_on = folder.load_config()
    about = (
        "A model that finds the moments of a video that a sentence describes: R²-Tuning on "
        f"features of frozen CLIP ({markdown_text(folder.load_spec().model)}), trained by r2t."
    )
    head = {
        "library_name": "r2t",
        "license": licence.lower() if is_one_licence(licence) else "other",
        "tags": _TAGS,
    }
    sections = [
        f"# {markdown_text(url.rstrip('/').split('/')[-1])}",
        about,
        "## Scores",
        _scores(folder.metrics()),
        "## Features",
        "It answers only about features of this identity; r2t refuses others.",
        _features(trained_on),
        "## Training",
        _training(config, trained_on),
        "## Licence",
        f"Licence of the weights: {licence}.",
        "## Use",
        f'```sh\nr2t predict --checkpoint {url} video.mp4 "a sentence"\n```',
    ]
    card = marked_readme(head, "\n\n".join(sections), RUN_CARD_MARK)
    path = run / MODEL_CARD
    return with_kept_words(card, _earlier(path), str(path))


def stated_licence(run: Path) -> str:
    """Return the licence that an earlier card in a run's folder states; empty if there is none."""
    text = (_earlier(run / MODEL_CARD) or b"").decode(errors="replace")
    found = _LICENCE.search(text)
    return spdx_expression(found[1]) if found and RUN_CARD_MARK in text else ""


def _earlier(path: Path) -> bytes | None:
    try:
        return read_plain(path, _MOST_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _scores(records: list[dict[str, Any]]) -> str:
    best = [record for record in records if record.get("is_best") is True]
    metrics = best[-1].get("metrics") if best else None
    if not isinstance(metrics, dict) or not metrics:
        return _NO_SCORES
    rows = [(name, f"{value:.2f}") for name, value in metrics.items() if _is_number(value)]
    table = markdown_table(("metric", "value"), rows)
    return f"{_SCORES}\n\n{table}\n\nBest epoch: {best[-1]['epoch'] + 1} of {len(records)}."


def _features(trained_on: TrainedOn) -> str:
    identity = trained_on.identity.to_dict() if trained_on.identity is not None else {}
    if trained_on.content is not None:
        identity["content of the store"] = trained_on.content
    return markdown_table(("what", "value"), identity.items())


def _training(config: TrainConfig, trained_on: TrainedOn) -> str:
    facts = {
        "preset": config.preset,
        "evaluator": config.evaluator,
        "epochs": config.epochs,
        "seed": config.seed,
        "queries trained on": trained_on.num_train_queries,
        "queries validated on": trained_on.num_val_queries,
        "settings": json.loads(json.dumps(config.to_dict()["losses"])),
    }
    rows = [(name, value) for name, value in facts.items() if value is not None]
    return markdown_table(("what", "value"), rows)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
