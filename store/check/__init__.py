"""Whether a store is whole, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.check.check_part import (
        live_parts as live_parts,
        open_parts as open_parts,
    )
    from r2t.store.check.check_video import (
        check_stored_video as check_stored_video,
        expected_files as expected_files,
    )
    from r2t.store.check.coverage import (
        Coverage as Coverage,
        store_coverage as store_coverage,
        warn_of_other_cuts as warn_of_other_cuts,
    )
    from r2t.store.check.damaged_header import (
        OpenedStore as OpenedStore,
        open_to_check as open_to_check,
    )
    from r2t.store.check.diff import (
        Pairs as Pairs,
        StoreDiff as StoreDiff,
        diff_stores as diff_stores,
    )
    from r2t.store.check.faults import Fault as Fault
    from r2t.store.check.inventory import (
        CARD_NAMES as CARD_NAMES,
        EARLIER_NAMES as EARLIER_NAMES,
        files_in as files_in,
        part_names as part_names,
    )
    from r2t.store.check.restored import restore_attributes as restore_attributes
    from r2t.store.check.split_counts import (
        SplitCounts as SplitCounts,
        count_splits as count_splits,
    )
    from r2t.store.check.stats import quantization_stats as quantization_stats
    from r2t.store.check.verify import (
        Checked as Checked,
        VerifyReport as VerifyReport,
        check_store as check_store,
        verify_store as verify_store,
    )
else:
    __getattr__ = lazy_exports(__name__)
