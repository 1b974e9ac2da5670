"""What people are shown of the moments found: pictures, clips, subtitles, verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.cli.answers.answer_table import grounding_table as grounding_table
    from r2t.cli.answers.corpus_scores import (
        CorpusQuestion as CorpusQuestion,
        corpus_table as corpus_table,
        score_corpus_of_store as score_corpus_of_store,
    )
    from r2t.cli.answers.curves import highest_of_parts as highest_of_parts
    from r2t.cli.answers.frame_strip import (
        FrameStrip as FrameStrip,
        draw_frame_strip as draw_frame_strip,
    )
    from r2t.cli.answers.loading import (
        FileAnswerer as FileAnswerer,
        answered_by as answered_by,
        load_for_files as load_for_files,
        load_for_store as load_for_store,
        load_presence_rule as load_presence_rule,
        started_pool as started_pool,
    )
    from r2t.cli.answers.moment_files import (
        cut_moments as cut_moments,
        require_subtitle_path as require_subtitle_path,
        subtitles as subtitles,
        write_subtitles as write_subtitles,
    )
    from r2t.cli.answers.no_moment import nothing_found as nothing_found
    from r2t.cli.answers.plots import (
        plot_grounding as plot_grounding,
        require_picture_path as require_picture_path,
    )
    from r2t.cli.answers.query_answers import (
        HIGHLIGHTS_ONLY as HIGHLIGHTS_ONLY,
        Answers as Answers,
        AskedStore as AskedStore,
        Asking as Asking,
        ask_model as ask_model,
        ask_store as ask_store,
        note_long_videos as note_long_videos,
        read_answers as read_answers,
        score_table as score_table,
    )
    from r2t.cli.answers.reel_plot import plot_reel as plot_reel
    from r2t.cli.answers.reels import (
        Reel as Reel,
        cut_reel as cut_reel,
        reel_json as reel_json,
        reel_table as reel_table,
        salient_reel as salient_reel,
        typical_reel as typical_reel,
    )
    from r2t.cli.answers.verdict import (
        ABSENT as ABSENT,
        presence_json as presence_json,
        presence_verdict as presence_verdict,
        with_verdict as with_verdict,
    )
    from r2t.cli.answers.video_asker import VideoAsker as VideoAsker
else:
    __getattr__ = lazy_exports(__name__)
