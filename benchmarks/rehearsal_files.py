"""Miniature copies of the six datasets: some videos of each annotation file, with all their rows.

What the files hold is counted here on their own terms, by nothing of the program that is rehearsed.
Videos with something odd about them are taken first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from math import floor
from pathlib import Path
from typing import Any

from rehearsal_samples import (
    TACOS_FPS,
    Rows,
    read_mat,
    write_ego4d,
    write_json,
    write_lines,
    write_mat,
)

from r2t.store.splits import TVSUM, YOUTUBE_HIGHLIGHTS, Membership

SPLITS = ("train", "val", "test")
HALF = Fraction(1, 2)
UNLISTED = "videos are in no split of the dataset (left out)"
WORDLESS = "language queries have no text (left out)"


@dataclass(frozen=True)
class Query:
    """A row of a file; `left_out` is what must be said of it where it does not arrive."""

    query_id: str
    video: str
    split: str
    domain: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class Held:
    """What files hold: each video's frames, its queries, and the moments of all queries."""

    frames: Mapping[str, int]
    queries: Sequence[Query]
    num_moments: int = 0


@dataclass(frozen=True)
class Miniature:
    """A dataset's small files, both as videos and as released features.

    `words` are what its commands name; `seconds` are those of the video files to make in `folder`.
    """

    name: str
    words: tuple[str, ...]
    folder: str
    seconds: Mapping[str, Fraction]
    raw: Held
    released: Held
    domains: tuple[str, ...] = field(default=("",))


def build(annotations: Path, out: Path, num_videos: int) -> list[Miniature]:
    """Write every dataset's files into a folder, of about so many videos a split or domain."""
    builders = (_qvhighlights, _charades, _tacos, _ego4d, _youtube, _tvsum)
    return [builder(annotations, out, num_videos) for builder in builders]


def num_frames(seconds: Fraction, fps: Fraction) -> int:
    """Return how many frames a video has at a rate."""
    return max(1, floor(seconds * fps + HALF))


def _seconds(value: float) -> Fraction:
    """Return a length that every container's clock can tell."""
    return Fraction(value).limit_denominator(20)


def _choose(
    videos: Iterable[str], count: int, oddities: Iterable[Callable[[str], bool]]
) -> list[str]:
    """Return `count` videos or more: the first with each oddity, then the first of all."""
    keys = list(videos)
    found: dict[str, None] = {}
    for is_odd in oddities:
        found |= dict.fromkeys(islice(filter(is_odd, keys), 1))
    return list(found | dict.fromkeys(keys[: max(0, count - len(found))]))


def _read_lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _by_video(rows: Rows) -> dict[str, Rows]:
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["vid"], []).append(row)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _num_moments(rows: Rows) -> int:
    return sum(len(row.get("relevant_windows", ())) for row in rows)


def _held(splits: Mapping[str, Rows], fps: Fraction, suffix: str = "") -> Held:
    """Count JSON lines of moments."""
    rows = [row for given in splits.values() for row in given]
    return Held(
        {row["vid"] + suffix: num_frames(_seconds(row["duration"]), fps) for row in rows},
        [
            Query(str(row["qid"]), row["vid"] + suffix, split)
            for split, given in splits.items()
            for row in given
        ],
        _num_moments(rows),
    )


def _qvhighlights(annotations: Path, out: Path, num_videos: int) -> Miniature:
    splits: dict[str, Rows] = {}
    for split in SPLITS:
        name = f"highlight_{split}_release.jsonl"
        videos = _by_video(_read_lines(annotations / "qvhighlights" / name))
        oddities: list[Callable[[str], bool]] = [
            lambda video: video.startswith("-"),
            lambda video, videos=videos: not videos[video][0]["query"].isascii(),
            lambda video, videos=videos: videos[video][0]["duration"] < 150,
            lambda video, videos=videos: len(videos[video]) > 1,
        ]
        chosen = _choose(videos, num_videos, oddities)
        splits[split] = [row for video in chosen for row in videos[video]]
        write_lines(out / name, splits[split])
        write_lines(out / "data/qvhighlights" / f"qvhighlights_{split}.jsonl", splits[split])
    held = _held(splits, HALF)
    seconds = {f"{r['vid']}.mp4": _seconds(r["duration"]) for rows in splits.values() for r in rows}
    words = ("qvh", "highlight_")
    return Miniature("qvhighlights", words, "qvh", seconds, held, held)


@dataclass(frozen=True)
class _CharadesLine:
    text: str
    video: str
    start: float
    end: float


def _charades_lines(path: Path) -> dict[str, list[_CharadesLine]]:
    found: dict[str, list[_CharadesLine]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        video, start, end = text.partition("##")[0].split()
        line = _CharadesLine(text, video, float(start), float(end))
        found.setdefault(video, []).append(line)
    return found


def _charades(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """The texts state no lengths: they are those of the JSON lines, or end with the last moment."""
    splits: dict[str, Rows] = {}
    seconds: dict[str, Fraction] = {}
    queries: list[Query] = []
    for split, used in (("train", "train"), ("test", "val")):
        folder = annotations / "charades"
        rows = _by_video(_read_lines(folder / f"charades_{split}_release.jsonl"))
        lines = _charades_lines(folder / f"charades_sta_{split}.txt")
        oddities: list[Callable[[str], bool]] = [
            lambda video, lines=lines, rows=rows: (
                video in rows and any(each.start > each.end for each in lines[video])
            ),
            lambda video, rows=rows: video not in rows,
            lambda video, lines=lines, rows=rows: any(
                each.end > rows[video][0]["duration"] for each in lines[video]
            ),
        ]
        chosen = _choose(lines, num_videos, oddities)
        texts = [each.text for video in chosen for each in lines[video]]
        (out / f"charades_sta_{split}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        splits[used] = [row for video in chosen for row in rows.get(video, ())]
        write_lines(out / "data/charades" / f"charades_{split}.jsonl", splits[used])
        for video in chosen:
            last = max(max(each.start, each.end) for each in lines[video])
            stated = rows[video][0]["duration"] if video in rows else last
            seconds[f"{video}.mp4"] = _seconds(stated)
            numbers = range(len(lines[video]))
            queries += [Query(f"{video}_{number}", video, used) for number in numbers]
    frames = {Path(name).stem: num_frames(each, Fraction(1)) for name, each in seconds.items()}
    raw = Held(frames, queries, len(queries))
    released = _held(splits, Fraction(1))
    return Miniature("charades", ("charades",), "charades", seconds, raw, released)


def _tacos(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """Of the original files only the test split's is at hand; the others are made of JSON lines."""
    folder = annotations / "tacos"
    given = _read_json(folder / "original_test.json")
    splits: dict[str, Rows] = {}
    for split in SPLITS:
        rows = _by_video(_read_lines(folder / f"tacos_{split}_release.jsonl"))
        oddities: list[Callable[[str], bool]] = [
            lambda video, rows=rows: any(row["query"].startswith(" ") for row in rows[video]),
        ]
        if split == "test":
            oddities.append(lambda video: _ends_late(given[f"{video}.avi"]))
        chosen = _choose(rows, num_videos, oddities)
        splits[split] = [row for video in chosen for row in rows[video]]
        write_lines(out / "data/tacos" / f"{split}.jsonl", splits[split])
        original = {
            f"{video}.avi": given.get(f"{video}.avi") or _original_tacos(rows[video])
            for video in chosen
        }
        write_json(out / f"tacos_{split}.json", original)
    held = _held(splits, HALF, "-cam-002")
    seconds = {
        f"{row['vid']}-cam-002.avi": _seconds(row["duration"])
        for rows in splits.values()
        for row in rows
    }
    return Miniature("tacos", ("tacos",), "tacos", seconds, held, held)


def _ends_late(record: Mapping[str, Any]) -> bool:
    return any(end > record["num_frames"] for _, end in record["timestamps"])


def _original_tacos(rows: Rows) -> dict[str, Any]:
    return {
        "timestamps": [
            [round(each * TACOS_FPS) for each in row["relevant_windows"][0]] for row in rows
        ],
        "sentences": [row["query"] for row in rows],
        "fps": TACOS_FPS,
        "num_frames": round(rows[0]["duration"] * TACOS_FPS),
    }


def _ego4d(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """All of it is made by hand: no file of Ego4D is at hand."""
    write_ego4d(out)
    queries: list[Query] = []
    seconds: dict[str, Fraction] = {}
    splits: dict[str, Rows] = {}
    for split in SPLITS[:2]:
        splits[split] = []
        for clip in _clips(_read_json(out / f"nlq_{split}.json")):
            uid, length = clip["clip_uid"], clip["video_end_sec"] - clip["video_start_sec"]
            seconds[f"{uid}.mp4"] = _seconds(length)
            for annotation in clip["annotations"]:
                for number, query in enumerate(annotation["language_queries"]):
                    query_id = f"{annotation['annotation_uid']}_{number}"
                    left_out = "" if query["query"] else WORDLESS
                    queries.append(Query(query_id, uid, split, left_out=left_out))
                    if query["query"]:
                        moment = [query["clip_start_sec"], query["clip_end_sec"]]
                        fields = {"qid": query_id, "query": query["query"], "vid": uid}
                        fields |= {"duration": length, "relevant_windows": [moment]}
                        splits[split].append(fields)
        write_lines(out / "data/ego4d" / f"nlq_{split}.jsonl", splits[split])
    released = _held(splits, HALF)
    raw = Held(released.frames, queries, released.num_moments)
    return Miniature("ego4d", ("ego4d",), "ego4d", seconds, raw, released)


def _clips(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for video in document["videos"]:
        yield from video["clips"]


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
            for video_id in _choose(there, num_videos, oddities):
                yield domain, split, video_id


def _youtube(annotations: Path, out: Path, num_videos: int) -> Miniature:
    records = _read_json(annotations / "youtube" / "youtube_anno.json")

    def title(video: str) -> str:
        return records[video]["info"][5]

    oddities: list[Callable[[str], bool]] = [
        lambda video: title(video) != title(video).strip(),
        lambda video: records[video]["fps"] < 10,
        lambda video: len(records[video]["match"]) < 5,
    ]
    listed = list(_listed(YOUTUBE_HIGHLIGHTS, records, num_videos, oddities))
    queries = [Query(video, video, split, domain) for domain, split, video in listed]
    names = {
        video for of_split in YOUTUBE_HIGHLIGHTS.values() for s in of_split.values() for video in s
    }
    others = [video for video in records if video not in names][:2]
    queries += [Query(video, video, "", "", UNLISTED) for video in others]
    chosen = {each.video: records[each.video] for each in queries}
    for folder in (out, out / "data/youtube"):
        write_json(folder / "youtube_anno.json", chosen)
    held = Held({video: len(record["match"]) for video, record in chosen.items()}, queries)
    domains = tuple(YOUTUBE_HIGHLIGHTS)
    seconds = _highlight_seconds(chosen)
    return Miniature("youtube", ("youtube",), "youtube", seconds, held, held, domains)


def _highlight_seconds(records: Mapping[str, Any]) -> dict[str, Fraction]:
    return {
        f"{video}.mp4": _seconds(int(record["frames"]) / record["fps"])
        for video, record in records.items()
    }


def _tvsum(annotations: Path, out: Path, num_videos: int) -> Miniature:
    records = _read_json(annotations / "tvsum" / "tvsum_anno.json")
    oddities: list[Callable[[str], bool]] = [
        lambda video: not records[video]["title"].isascii(),
        lambda video: "," in records[video]["title"],
    ]
    listed = list(_listed(TVSUM, records, num_videos, oddities))
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
    domains = tuple(TVSUM)
    return Miniature("tvsum", ("tvsum",), "tvsum", seconds, held, held, domains)
