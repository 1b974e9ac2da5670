"""The meeting place of extraction and training: features, annotations, and their store on disk.

The names below are loaded when first used: an error class alone costs neither zarr nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.annotations import (
        Annotation as Annotation,
        SaliencyLabels as SaliencyLabels,
        moments_frame as moments_frame,
    )
    from r2t.store.feature_store import FeatureStore as FeatureStore
    from r2t.store.features import (
        QueryFeatures as QueryFeatures,
        VideoFeatures as VideoFeatures,
        VideoSource as VideoSource,
    )
    from r2t.store.schema import EmbeddingSpec as EmbeddingSpec, FeatureSpec as FeatureSpec
else:
    __getattr__ = lazy_exports(__name__)
