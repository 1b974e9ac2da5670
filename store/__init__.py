"""The meeting place of extraction and training: features, annotations, and their store on disk."""

from r2t.store.annotations import Annotation, SaliencyLabels
from r2t.store.feature_store import FeatureStore
from r2t.store.schema import FeatureSpec, QueryFeatures, VideoFeatures, VideoSource

__all__ = [
    "Annotation",
    "FeatureSpec",
    "FeatureStore",
    "QueryFeatures",
    "SaliencyLabels",
    "VideoFeatures",
    "VideoSource",
]
