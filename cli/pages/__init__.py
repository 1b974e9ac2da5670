"""The pages that r2t shows in a browser: reports, and `r2t serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.cli.pages.report import (
        breakdown_table as breakdown_table,
        metrics_table as metrics_table,
        per_query_scores as per_query_scores,
        query_entry as query_entry,
        render_page as render_page,
    )
    from r2t.cli.pages.report_videos import (
        FILE_POLICY as FILE_POLICY,
        VideoPlace as VideoPlace,
        data_url as data_url,
        file_source as file_source,
        note_bare_names as note_bare_names,
        strip_image as strip_image,
        video_entries as video_entries,
    )
    from r2t.cli.pages.serve import Page as Page, launch as launch
    from r2t.cli.pages.uploads import Uploads as Uploads
else:
    __getattr__ = lazy_exports(__name__)
