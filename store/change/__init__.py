"""Stores changed or made from others, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.change.compact import (
        CompactReport as CompactReport,
        compact_store as compact_store,
    )
    from r2t.store.change.licence import licences as licences, set_licence as set_licence
    from r2t.store.change.merge import MergeReport as MergeReport, merge_stores as merge_stores
    from r2t.store.change.pack import PackReport as PackReport, pack_store as pack_store
    from r2t.store.change.pack_set import (
        DEFAULT_ZIP_BYTES as DEFAULT_ZIP_BYTES,
        SetPacker as SetPacker,
        card_files as card_files,
        pack_zip_set as pack_zip_set,
    )
    from r2t.store.change.remove import remove_videos as remove_videos, sort_ids as sort_ids
    from r2t.store.change.repair import RepairReport as RepairReport, repair_store as repair_store
    from r2t.store.change.rewrite import change_queries as change_queries
    from r2t.store.change.subset import subset_store as subset_store
    from r2t.store.change.unpack import unpack_set as unpack_set
    from r2t.store.change.upgrade import (
        UpgradeReport as UpgradeReport,
        upgrade_store as upgrade_store,
    )
    from r2t.store.change.upgrade_plan import (
        UpgradePlan as UpgradePlan,
        plan_upgrade as plan_upgrade,
    )
    from r2t.store.change.upgraded_video import Embedder as Embedder
else:
    __getattr__ = lazy_exports(__name__)
