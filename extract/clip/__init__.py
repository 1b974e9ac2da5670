"""Frozen CLIP: its weights, its two towers, what they make of frames and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.clip.clip import FrozenClip as FrozenClip
    from r2t.extract.clip.embedding import EncodedFrames as EncodedFrames
    from r2t.extract.clip.lanes import (
        held_bytes as held_bytes,
        num_device_lanes as num_device_lanes,
        window_memory as window_memory,
    )
    from r2t.extract.clip.matching import ClipOptions as ClipOptions
    from r2t.extract.clip.query_encoder import QueryEncoder as QueryEncoder
    from r2t.extract.clip.similarity import (
        embedding_of_tokens as embedding_of_tokens,
        frame_similarity as frame_similarity,
        why_no_token_embeddings as why_no_token_embeddings,
    )
    from r2t.extract.clip.weights import (
        OPENAI as OPENAI,
        cache_folder as cache_folder,
        cached_weights as cached_weights,
        find_model as find_model,
        find_weights as find_weights,
    )
else:
    __getattr__ = lazy_exports(__name__)
