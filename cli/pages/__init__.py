"""The pages that r2t shows in a browser: reports, and `r2t serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.cli.pages.page_files import (
        page_facts as page_facts,
        require_page_path as require_page_path,
        write_page as write_page,
        write_video_report as write_video_report,
    )
    from r2t.cli.pages.report import (
        breakdown_table as breakdown_table,
        metrics_table as metrics_table,
        per_query_scores as per_query_scores,
        query_entry as query_entry,
    )
    from r2t.cli.pages.report_videos import (
        VideoPlace as VideoPlace,
        note_bare_names as note_bare_names,
        video_entries as video_entries,
    )
    from r2t.cli.pages.serve import Page as Page
    from r2t.cli.pages.server import launch as launch
    from r2t.cli.pages.uploads import Uploads as Uploads
else:
    __getattr__ = lazy_exports(__name__)
