"""One list from the moments of overlapping windows, each moment found once.

What two windows both see is found twice, and what crosses an edge is found in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from r2t.train.model import moment_iou

_SAME_IOU = 0.7  # from which two windows mean the same moment


def merge_moments(
    moments: Sequence[Float64[np.ndarray, "_ 3"]],
    extents: Float64[np.ndarray, "windows 2"],
    *,
    edge_seconds: float,
) -> Float64[np.ndarray, "moments 3"]:
    """Make one list of the moments of overlapping windows, best first, each found once.

    `moments` are in the time of the whole video. Of two windows' moments that agree, the better one
    stays. One that ends at its window's edge, to `edge_seconds`, is a piece: it gives way to a
    neighbour's moment of which it shows the visible part, and pieces that meet from both sides
    become one moment, scored by their mean.
    """
    rows = _Rows.of(moments, extents, edge_seconds)
    rows = _join_pieces(rows, extents, edge_seconds)
    rows = _drop_pieces(rows, extents)
    kept: list[int] = []
    for row in np.argsort(-rows.moments[:, 2], kind="stable").tolist():
        others = [other for other in kept if rows.window[other] != rows.window[row]]
        if not others or moment_iou(rows.moments[row], rows.moments[others]).max() < _SAME_IOU:
            kept.append(row)
    return rows.moments[kept]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Moments with the window that found each, and whether its edges cut them."""

    moments: Float64[np.ndarray, "rows 3"]
    window: np.ndarray
    cut_start: np.ndarray
    cut_end: np.ndarray

    @classmethod
    def of(
        cls,
        moments: Sequence[Float64[np.ndarray, "_ 3"]],
        extents: Float64[np.ndarray, "windows 2"],
        edge_seconds: float,
    ) -> _Rows:
        window = np.repeat(np.arange(len(moments)), [len(rows) for rows in moments])
        joined = np.concatenate(list(moments))
        first, last = window == 0, window == len(moments) - 1
        return cls(
            joined,
            window,
            (joined[:, 0] <= extents[window, 0] + edge_seconds) & ~first,
            (joined[:, 1] >= extents[window, 1] - edge_seconds) & ~last,
        )

    def where(self, keep: np.ndarray) -> _Rows:
        return _Rows(
            self.moments[keep], self.window[keep], self.cut_start[keep], self.cut_end[keep]
        )


def _join_pieces(
    rows: _Rows, extents: Float64[np.ndarray, "windows 2"], edge_seconds: float
) -> _Rows:
    """Join moments too long for any window: each piece fills all that two neighbours share."""
    for window in range(len(extents) - 1):
        shared_start, shared_end = extents[window + 1, 0], extents[window, 1]
        fills = (rows.moments[:, 0] <= shared_start + edge_seconds) & (
            rows.moments[:, 1] >= shared_end - edge_seconds
        )
        early = np.flatnonzero((rows.window == window) & rows.cut_end & fills)
        late = np.flatnonzero((rows.window == window + 1) & rows.cut_start & fills)
        pairs = list(zip(_best_first(rows, early), _best_first(rows, late), strict=False))
        for first, second in pairs:
            joined = rows.moments[second]
            joined[0] = rows.moments[first, 0]
            joined[2] = (rows.moments[first, 2] + rows.moments[second, 2]) / 2
            rows.cut_start[second] = rows.cut_start[first]
        gone = [first for first, _ in pairs]
        rows = rows.where(np.delete(np.arange(len(rows.window)), gone))
    return rows


def _best_first(rows: _Rows, chosen: np.ndarray) -> list[int]:
    return chosen[np.argsort(-rows.moments[chosen, 2], kind="stable")].tolist()


def _drop_pieces(rows: _Rows, extents: Float64[np.ndarray, "windows 2"]) -> _Rows:
    """Drop each piece that another window shows more of; that one takes the better score."""
    keep = np.ones(len(rows.window), dtype=bool)
    for piece in np.flatnonzero(rows.cut_start | rows.cut_end).tolist():
        start, end = extents[rows.window[piece]]
        overlapping = (extents[rows.window, 0] < end) & (extents[rows.window, 1] > start)
        wider = (rows.moments[:, 0] < rows.moments[piece, 0]) & rows.cut_start[piece]
        wider |= (rows.moments[:, 1] > rows.moments[piece, 1]) & rows.cut_end[piece]
        chosen = np.flatnonzero(keep & wider & overlapping & (rows.window != rows.window[piece]))
        seen = rows.moments[chosen].copy()
        seen[:, :2] = seen[:, :2].clip(start, end)
        chosen = chosen[moment_iou(rows.moments[piece], seen) >= _SAME_IOU]
        if len(chosen):
            best = _best_first(rows, chosen)[0]
            rows.moments[best, 2] = max(rows.moments[best, 2], rows.moments[piece, 2])
            keep[piece] = False
    return rows.where(keep)
