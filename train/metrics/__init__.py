"""The benchmarks' evaluators, and how sure their scores are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.train.metrics.bootstrap import (
        HEADLINE_METRICS as HEADLINE_METRICS,
        Interval as Interval,
        bootstrap_intervals as bootstrap_intervals,
    )
    from r2t.train.metrics.breakdown import (
        COLUMNS as COLUMNS,
        Group as Group,
        official_intervals as official_intervals,
        score_breakdown as score_breakdown,
    )
    from r2t.train.metrics.corpus import (
        MOMENTS_PER_VIDEO as MOMENTS_PER_VIDEO,
        CorpusAnswers as CorpusAnswers,
        score_chance as score_chance,
        score_corpus as score_corpus,
    )
    from r2t.train.metrics.evaluators import (
        QueryScores as QueryScores,
        evaluate_predictions as evaluate_predictions,
        official_table as official_table,
        score_queries as score_queries,
    )
    from r2t.train.metrics.paired import Difference as Difference, compare_scores as compare_scores
    from r2t.train.metrics.relevance import (
        Relevance as Relevance,
        read_relevance as read_relevance,
        relevant_videos as relevant_videos,
    )
    from r2t.train.metrics.submission import (
        SubmissionRow as SubmissionRow,
        read_submission as read_submission,
        write_server_archive as write_server_archive,
        write_submission as write_submission,
    )
    from r2t.train.metrics.submission_check import (
        check_submission as check_submission,
        sorted_by_score as sorted_by_score,
    )
else:
    __getattr__ = lazy_exports(__name__)
