"""Grounder: a trained model, ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from r2t.store.errors import ConfigError
from r2t.store.schema import FeatureSpec, QueryFeatures, VideoFeatures
from r2t.train.batch import collate
from r2t.train.checkpoint import RunFolder
from r2t.train.config import TrainConfig
from r2t.train.decode import DecodeConfig, Grounding, decode
from r2t.train.model import R2Model
from r2t.train.reader import FeatureReader, make_sample


class Grounder:
    """A model and how to read its answers.

    `spec` says which features it understands; `trained_on` is the run's own record of them.
    """

    def __init__(
        self, model: R2Model, config: TrainConfig, spec: FeatureSpec, trained_on: dict[str, Any]
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.spec = spec
        self.trained_on = trained_on

    @property
    def provenance(self) -> dict[str, Any]:
        """What the store recorded of its features, "model" and "pretrained" among it."""
        return self.trained_on.get("provenance", {})

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        weights: Literal["best", "last"] = "best",
        device: torch.device | str = "cpu",
    ) -> Grounder:
        """Load what `r2t train` left in a run's folder."""
        folder = RunFolder(Path(run))
        config, trained_on = folder.load_config()
        try:
            spec = FeatureSpec.from_dict(trained_on["identity"])
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{run} does not say which features it was trained on") from error
        model = folder.load_model(weights).to(device)
        return cls(model, config, spec, trained_on)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def __call__(self, video: VideoFeatures, query: QueryFeatures) -> Grounding:
        """Find a query in a video; its moments come best first."""
        layers, _, tokens, width = video.tokens.shape
        legal = (self.spec.num_layers, self.spec.num_tokens, self.spec.vision_width)
        if (layers, tokens, width) != legal:
            raise ConfigError(
                f"{video!r} does not fit a model trained on (layers, tokens, width) = {legal}; "
                "encode the video with the CLIP model and layers that the run names"
            )
        batch = collate([make_sample(video, query.tokens, query.query_id)])
        with torch.inference_mode():
            predictions = self.model(batch.to(self.device))
        return decode(predictions, batch, self.config.decoding)[0]


def ground_all(
    model: R2Model,
    reader: FeatureReader,
    decoding: DecodeConfig,
    *,
    on_queries: Callable[[int], None] | None = None,
) -> dict[str, Grounding]:
    """Ground every query of a reader, by id; `on_queries` hears how many each batch answered.

    Batching changes no answer: a sample's outputs do not depend on its neighbours.
    """
    device = next(model.parameters()).device
    groundings: dict[str, Grounding] = {}
    with torch.inference_mode():
        for batch in reader.in_order():
            found = decode(model(batch.to(device)), batch, decoding)
            groundings.update(zip(batch.query_ids, found, strict=True))
            if on_queries is not None:
                on_queries(len(batch))
    return groundings
