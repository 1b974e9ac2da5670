"""How the videos of an extraction are worked through: on this machine, or on a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.extract.run.cluster import (
        Cluster as Cluster,
        open_cluster as open_cluster,
        require_cluster as require_cluster,
    )
    from r2t.extract.run.cluster_run import ClusterRun as ClusterRun
    from r2t.extract.run.local_run import LocalRun as LocalRun
    from r2t.extract.run.one_video import VideoJob as VideoJob, open_decode_pool as open_decode_pool
    from r2t.extract.run.progress import (
        ExtractProgress as ExtractProgress,
        LeftServer as LeftServer,
        Stage as Stage,
        Tally as Tally,
        busiest_stage as busiest_stage,
    )
else:
    __getattr__ = lazy_exports(__name__)
