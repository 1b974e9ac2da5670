"""The text half of the frozen CLIP: sentences become tokens, without any picture."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float16

from r2t.extract.clip.embedding import EmbeddingHeads, find_heads, stored_form
from r2t.extract.clip.hardware import (
    AUTO,
    autocast,
    pick_clip_device,
    pick_precision,
    set_clip_arithmetic,
    shrink_weights,
)
from r2t.extract.clip.matching import ClipOptions, ClipOrigin, MadeFeatures
from r2t.extract.clip.towers import Towers, build_towers, text_states
from r2t.extract.clip.weights import (
    Announce,
    ModelSource,
    find_model,
    find_weights,
    load_weights,
    weights_digest,
)
from r2t.store.compatibility import require_compatible
from r2t.store.errors import AnnotationError, AnnotationWarning, ConfigError
from r2t.store.features import QueryFeatures
from r2t.store.json_lines import is_utf8, printable
from r2t.store.schema import FeatureSpec
from r2t.store.wording import counted_of

_BATCH_SIZE = 64
_DEFAULTS = ClipOptions()
_SHOWN_LENGTH = 80  # characters of a sentence in a message


class QueryEncoder:
    """A CLIP's text tower; `weights_sha256` is that of the whole CLIP, as stores record it."""

    def __init__(
        self,
        towers: Towers,
        source: ModelSource,
        *,
        weights_sha256: str,
        layers: tuple[int, ...],
        precision: str,
        heads: EmbeddingHeads | str,
    ) -> None:
        """Use `load`, or `FrozenClip` for both towers."""
        self.model = source.name
        self.weights_sha256 = weights_sha256
        self.layers = layers
        self.precision = precision
        self.device = towers.text.token_embedding.weight.device
        self.text_width = int(towers.text.token_embedding.embedding_dim)
        self.context_length = int(towers.text.context_length)
        self._text = towers.text
        self._depth = towers.text_depth
        self._head = heads.text if isinstance(heads, EmbeddingHeads) else None
        self._tokenizer = source.tokenizer()
        num_embeddings = towers.text.token_embedding.num_embeddings
        if self._tokenizer.vocab_size != num_embeddings:
            raise ConfigError(
                f"{self.model}: the tokenizer knows {self._tokenizer.vocab_size} tokens, the model "
                f"{num_embeddings}; they belong to different models"
            )

    @classmethod
    def load(
        cls,
        name: str,
        pretrained: str | None,
        layers: tuple[int, ...],
        *,
        device: str | torch.device | None = None,
        offline: bool = False,
        announce: Announce = lambda source, num_bytes: None,
    ) -> QueryEncoder:
        """Load the text tower of a CLIP, named as for `FrozenClip.load`; `layers` ascend.

        The vision tower is read to prove that the weights are the right ones, then freed.
        """
        target = pick_clip_device(device)
        precision = pick_precision(AUTO, target)
        set_clip_arithmetic(precision)
        source = find_model(name)
        weights = find_weights(source, pretrained)
        towers = build_towers(source, weights.settings)
        if layers[-1] > towers.text_depth:
            raise ConfigError(f"{name} has no text layer {layers[-1]}, only {towers.text_depth}")
        load_weights(towers.network, weights, offline=offline, announce=announce)
        digest = weights_digest(towers.network)
        del towers.network.visual
        towers.network.eval().requires_grad_(requires_grad=False).to(target)
        heads = find_heads(towers)
        shrink_weights(towers.network, precision)
        return cls(
            towers,
            source,
            weights_sha256=digest,
            layers=layers,
            precision=precision,
            heads=heads,
        )

    @classmethod
    def matching(
        cls, features: FeatureSpec | MadeFeatures, options: ClipOptions = _DEFAULTS
    ) -> QueryEncoder:
        """Load only the text tower of the CLIP that `FrozenClip.matching` would load."""
        origin = ClipOrigin.of(features, options)
        spec = origin.spec
        encoder = cls.load(
            origin.model,
            origin.pretrained,
            spec.text_layers,
            device=options.device,
            offline=options.offline,
            announce=options.announce,
        )
        given = replace(
            spec,
            model=encoder.model,
            weights_sha256=encoder.weights_sha256,
            text_width=encoder.text_width,
        )
        action = f"use {encoder.model}/{origin.pretrained} for features of another CLIP"
        names = ("the features", f"{encoder.model}/{origin.pretrained}")
        require_compatible(spec, given, action=action, names=names)
        return encoder

    @torch.inference_mode()
    def encode_queries(
        self,
        texts: Sequence[str],
        ids: Sequence[str],
        *,
        batch_size: int = _BATCH_SIZE,
        may_be_empty: Collection[str] = (),
    ) -> list[QueryFeatures]:
        """Return the hidden states of sentences, from start to end token.

        Sentences longer than the model's context are cut off; one `AnnotationWarning` counts
        them. An empty sentence is an `AnnotationError`, unless its id is in `may_be_empty`: it is
        the start and end token then.
        """
        tokenized = [
            self._tokenize(text, id_, may_be_empty=id_ in may_be_empty)
            for text, id_ in zip(texts, ids, strict=True)
        ]
        token_lists = [tokens for tokens, _ in tokenized]
        too_long = [text for text, (_, cut) in zip(texts, tokenized, strict=True) if cut]
        if too_long:
            warnings.warn(
                f"longer than {self.context_length} tokens, and cut off there: "
                f"{counted_of(len(too_long), len(ids), 'sentence')}; the first begins with "
                f"{too_long[0][:_SHOWN_LENGTH]!r}",
                AnnotationWarning,
                stacklevel=2,
            )
        # Sentences of similar length share a batch, so that little of it is padding.
        by_length = sorted(range(len(ids)), key=lambda row: len(token_lists[row]))
        encoded: dict[int, QueryFeatures] = {}
        for start in range(0, len(by_length), batch_size):
            rows = by_length[start : start + batch_size]
            states, embeddings = self._encode([token_lists[row] for row in rows])
            for place, row in enumerate(rows):
                words = len(token_lists[row])
                encoded[row] = QueryFeatures(
                    ids[row],
                    states[:, place, :words].copy(),
                    None if embeddings is None else embeddings[place],
                )
        return [encoded[row] for row in range(len(ids))]

    def encode_query(self, text: str) -> QueryFeatures:
        """Return the hidden states of one sentence; its id is 12 hex digits of its SHA-256."""
        if not self.holds_words(text):  # here, since nobody knows the sentence by its id
            raise AnnotationError("the sentence is empty: type what to look for")
        content = text.encode("utf-8", "surrogatepass")  # refused, if it is no UTF-8, with a reason
        return self.encode_queries([text], [hashlib.sha256(content).hexdigest()[:12]])[0]

    def _encode(
        self, token_lists: list[list[int]]
    ) -> tuple[
        Float16[np.ndarray, "layers queries words width"],
        Float16[np.ndarray, "queries embedding_width"] | None,
    ]:
        num_words = [len(ids) for ids in token_lists]
        tokens = torch.zeros(len(token_lists), max(num_words), dtype=torch.long)
        for row, ids in enumerate(token_lists):
            tokens[row, : len(ids)] = torch.tensor(ids)
        layers = self.layers
        if self._head is not None:  # as in `FrozenClip`: the last layer, whether kept or not
            layers = tuple(sorted({*layers, self._depth}))
        with autocast(self.device, self.precision):
            states = text_states(self._text, tokens.to(self.device), layers)
        embeddings = None
        if self._head is not None:
            ends = states[-1][torch.arange(len(num_words)), torch.tensor(num_words) - 1]
            embeddings = stored_form(self._head(ends))
        kept = [state.half() for state in states[: len(self.layers)]]
        return torch.stack(kept).cpu().numpy(), embeddings

    def holds_words(self, text: str) -> bool:
        """Whether a text holds anything that CLIP reads; blanks alone do not count."""
        return not is_utf8(text) or bool(self._tokenizer.encode(text))

    def _tokenize(self, text: str, query_id: str, *, may_be_empty: bool) -> tuple[list[int], bool]:
        """Return the tokens from start to end, and whether some were cut off."""
        if not is_utf8(text):
            raise AnnotationError(
                f"query {query_id!r}: the sentence '{printable(text)}' holds bytes that are not "
                "UTF-8; type it in a terminal whose encoding is UTF-8"
            )
        words = self._tokenizer.encode(text)
        if not (words or may_be_empty):
            raise AnnotationError(f"query {query_id!r}: the sentence {text!r} is empty")
        room = self.context_length - 2
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        return [start, *words[:room], end], len(words) > room
