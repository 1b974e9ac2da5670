"""Miniature files of YouTube Highlights and TVSum: some videos of each domain's lists.

Videos with something odd about them are taken first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from r2t.store.datasets.splits import TVSUM_SPLITS, YOUTUBE_HIGHLIGHTS_SPLITS, Membership, split_of
from rehearsal_steps.files import (
    HALF,
    Held,
    Miniature,
    Query,
    choose,
    num_frames,
    read_json,
    seconds_of,
)
from rehearsal_steps.samples import read_mat, write_json, write_mat

UNLISTED = "in no split of the dataset (left out)"


def _listed(
    membership: Membership,
    records: Mapping[str, Any],
    num_videos: int,
    oddities: Sequence[Callable[[str], bool]],
) -> Iterator[tuple[str, str, str]]:
    """Yield (domain, split, video id) of what a domain's lists and the file both have."""
    for domain, splits in membership.items():
        for split, listed in splits.items():
            there = [video_id for video_id in listed if video_id in records]
            for video_id in choose(there, num_videos, oddities):
                yield domain, split, video_id


def youtube(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """Take listed videos of each domain, and two that are in no list."""
    records = read_json(annotations / "youtube" / "youtube_anno.json")

    def title(video: str) -> str:
        return records[video]["info"][5]

    oddities: list[Callable[[str], bool]] = [
        lambda video: title(video) != title(video).strip(),
        lambda video: records[video]["fps"] < 10,
        lambda video: len(records[video]["match"]) < 5,
    ]
    listed = list(_listed(YOUTUBE_HIGHLIGHTS_SPLITS, records, num_videos, oddities))
    queries = [Query(video, video, split, domain) for domain, split, video in listed]
    names = split_of(YOUTUBE_HIGHLIGHTS_SPLITS)
    others = [video for video in records if video not in names][:2]
    queries += [Query(video, video, "", "", UNLISTED) for video in others]
    chosen = {each.video: records[each.video] for each in queries}
    for folder in (out, out / "data/youtube"):
        write_json(folder / "youtube_anno.json", chosen)
    held = Held({video: len(record["match"]) for video, record in chosen.items()}, queries)
    domains = tuple(YOUTUBE_HIGHLIGHTS_SPLITS)
    seconds = _highlight_seconds(chosen)
    return Miniature("youtube", ("youtube",), "youtube", seconds, held, held, domains)


def _highlight_seconds(records: Mapping[str, Any]) -> dict[str, Fraction]:
    return {
        f"{video}.mp4": seconds_of(int(record["frames"]) / record["fps"])
        for video, record in records.items()
    }


def tvsum(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """Take listed videos of each domain, as JSON and as the dataset's own .mat."""
    records = read_json(annotations / "tvsum" / "tvsum_anno.json")
    oddities: list[Callable[[str], bool]] = [
        lambda video: not records[video]["title"].isascii(),
        lambda video: "," in records[video]["title"],
    ]
    listed = list(_listed(TVSUM_SPLITS, records, num_videos, oddities))
    queries = [Query(video, video, split, domain) for domain, split, video in listed]
    chosen = {each.video: records[each.video] for each in queries}
    for folder in (out, out / "data/tvsum"):
        write_json(folder / "tvsum_anno.json", chosen)
    ids = {tuple(video.encode()) for video in chosen}
    structs = read_mat(annotations / "tvsum" / "ydata-tvsum50.mat")
    matching = [each for each in structs if tuple(each["video"].ravel().tolist()) in ids]
    write_mat(out / "ydata-tvsum50.mat", matching)
    seconds = _highlight_seconds(chosen)
    frames = {Path(name).stem: num_frames(each, HALF) for name, each in seconds.items()}
    held = Held(frames, queries)
    domains = tuple(TVSUM_SPLITS)
    return Miniature("tvsum", ("tvsum",), "tvsum", seconds, held, held, domains)
