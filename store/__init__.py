"""The meeting place of extraction and training: features, annotations, and their store on disk.

The names below are loaded when first used: an error class alone costs neither zarr nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r2t.store.annotations import Annotation, SaliencyLabels, moments_frame
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
    "moments_frame",
]

_MODULES = {
    "Annotation": "annotations",
    "FeatureSpec": "schema",
    "FeatureStore": "feature_store",
    "QueryFeatures": "schema",
    "SaliencyLabels": "annotations",
    "VideoFeatures": "schema",
    "VideoSource": "schema",
    "moments_frame": "annotations",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
