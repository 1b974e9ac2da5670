"""From a store to batches, as fast as a model takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.data.batch import (
        NO_POSITIVE as NO_POSITIVE,
        Batch as Batch,
        Targets as Targets,
        float64_seconds as float64_seconds,
        mask_of as mask_of,
        pad_second_axis as pad_second_axis,
    )
    from r2t.train.data.labels import (
        count_trained as count_trained,
        select_items as select_items,
    )
    from r2t.train.data.prior import (
        NUM_PRIORS as NUM_PRIORS,
        Prior as Prior,
        embedding_of as embedding_of,
        frame_cosines as frame_cosines,
        pad_priors as pad_priors,
        prior_cosines as prior_cosines,
        prior_features as prior_features,
        require_embeddings as require_embeddings,
    )
    from r2t.train.data.reader import FeatureReader as FeatureReader
    from r2t.train.data.reading import Reading as Reading
    from r2t.train.data.ring import (
        Arena as Arena,
        BufferSize as BufferSize,
        aligned as aligned,
        pad_queries as pad_queries,
        rest_bytes as rest_bytes,
    )
    from r2t.train.data.row_reader import Loaded as Loaded, RowReader as RowReader
    from r2t.train.data.sampling import EpochOrder as EpochOrder, Row as Row, share_of as share_of
    from r2t.train.data.video_cache import (
        ChosenCache as ChosenCache,
        VideoCache as VideoCache,
        choose_cache as choose_cache,
    )
else:
    __getattr__ = lazy_exports(__name__)
