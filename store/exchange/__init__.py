"""Features in other programs' files, in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.exchange.hdf5 import export_hdf5 as export_hdf5
    from r2t.store.exchange.r2_npy import (
        TransferReport as TransferReport,
        export_r2_npy as export_r2_npy,
        import_r2_npy as import_r2_npy,
        official_spec as official_spec,
    )
else:
    __getattr__ = lazy_exports(__name__)
