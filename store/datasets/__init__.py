"""The datasets' own annotation files, read and checked: one reader a format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.datasets.checks import (
        check_against_videos as check_against_videos,
        check_annotations as check_annotations,
        read_leniently as read_leniently,
    )
    from r2t.store.datasets.fields import (
        LABELLED_CLIP_SECONDS as LABELLED_CLIP_SECONDS,
        Fields as Fields,
    )
    from r2t.store.datasets.findings import (
        ADVICE as ADVICE,
        NOTES as NOTES,
        Finding as Finding,
        Rows as Rows,
    )
    from r2t.store.datasets.folder import FolderFiles as FolderFiles, survey_folder as survey_folder
    from r2t.store.datasets.reading import ReadReport as ReadReport, json_rows as json_rows
    from r2t.store.datasets.registry import (
        known_suffixes as known_suffixes,
        read_annotations as read_annotations,
    )
    from r2t.store.datasets.text import read_text as read_text
else:
    __getattr__ = lazy_exports(__name__)
