"""A run of an extraction: on this machine or on a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.run.cluster import (
        Cluster as Cluster,
        ClusterRun as ClusterRun,
        open_cluster as open_cluster,
        require_cluster as require_cluster,
    )
    from r2t.extract.run.local_run import ExtractProgress as ExtractProgress, LocalRun as LocalRun
    from r2t.extract.run.stages import Stage as Stage, busiest_stage as busiest_stage
else:
    __getattr__ = lazy_exports(__name__)
