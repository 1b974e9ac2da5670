"""Miniature files of the moment datasets: some videos of each annotation file, with all their rows.

Videos with something odd about them are taken first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rehearsal_steps.files import (
    HALF,
    Held,
    Miniature,
    Query,
    by_video,
    choose,
    num_frames,
    read_json,
    read_lines,
    seconds_of,
)
from rehearsal_steps.samples import TACOS_FPS, Rows, write_ego4d, write_json, write_lines

SPLITS = ("train", "val", "test")
CHARADES_CD = {"train": "train", "test": "test_ood"}
WORDLESS = "without text (left out)"


def _num_moments(rows: Rows) -> int:
    return sum(len(row.get("relevant_windows", ())) for row in rows)


def _held(splits: Mapping[str, Rows], fps: Fraction, suffix: str = "") -> Held:
    """Count JSON lines of moments."""
    rows = [row for given in splits.values() for row in given]
    return Held(
        {row["vid"] + suffix: num_frames(seconds_of(row["duration"]), fps) for row in rows},
        [
            Query(str(row["qid"]), row["vid"] + suffix, split)
            for split, given in splits.items()
            for row in given
        ],
        _num_moments(rows),
    )


def qvhighlights(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """Take released lines: a split a file, the test split without labels."""
    splits: dict[str, Rows] = {}
    for split in SPLITS:
        name = f"highlight_{split}_release.jsonl"
        videos = by_video(read_lines(annotations / "qvhighlights" / name))
        oddities: list[Callable[[str], bool]] = [
            lambda video: video.startswith("-"),
            lambda video, videos=videos: not videos[video][0]["query"].isascii(),
            lambda video, videos=videos: videos[video][0]["duration"] < 150,
            lambda video, videos=videos: len(videos[video]) > 1,
        ]
        chosen = choose(videos, num_videos, oddities)
        splits[split] = [row for video in chosen for row in videos[video]]
        write_lines(out / name, splits[split])
        write_lines(out / "data/qvhighlights" / f"qvhighlights_{split}.jsonl", splits[split])
    held = _held(splits, HALF)
    seconds = {
        f"{r['vid']}.mp4": seconds_of(r["duration"]) for rows in splits.values() for r in rows
    }
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


def charades(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """The texts state no lengths: they are those of the JSON lines, or end with the last moment.

    Charades-CD's form is made of the texts, whose reversed moments it leaves out.
    """
    splits: dict[str, Rows] = {}
    seconds: dict[str, Fraction] = {}
    queries: list[Query] = []
    reworked: list[Query] = []
    for split, used in (("train", "train"), ("test", "val")):
        folder = annotations / "charades"
        rows = by_video(read_lines(folder / f"charades_{split}_release.jsonl"))
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
        chosen = choose(lines, num_videos, oddities)
        texts = [each.text for video in chosen for each in lines[video]]
        (out / f"charades_sta_{split}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
        splits[used] = [row for video in chosen for row in rows.get(video, ())]
        write_lines(out / "data/charades" / f"charades_{split}.jsonl", splits[used])
        for video in chosen:
            last = max(max(each.start, each.end) for each in lines[video])
            stated = rows[video][0]["duration"] if video in rows else last
            seconds[f"{video}.mp4"] = seconds_of(stated)
            numbers = range(len(lines[video]))
            queries += [Query(f"{video}_{number}", video, used) for number in numbers]
        kept = {video: _forward(lines[video]) for video in chosen}
        _write_charades_cd(out / f"charades_{CHARADES_CD[split]}.json", kept, seconds)
        reworked += [
            Query(f"{video}_{number}", video, split)
            for video, given in kept.items()
            for number in range(len(given))
        ]
    frames = {Path(name).stem: num_frames(each, Fraction(1)) for name, each in seconds.items()}
    raw = Held(frames, queries, len(queries))
    released = _held(splits, Fraction(1))
    variants = {"charades-cd.zarr": Held(frames, reworked, len(reworked))}
    words = ("charades",)
    return Miniature("charades", words, "charades", seconds, raw, released, variants=variants)


def _forward(lines: Sequence[_CharadesLine]) -> list[_CharadesLine]:
    return [line for line in lines if line.start < line.end]


def _write_charades_cd(
    path: Path, lines: Mapping[str, Sequence[_CharadesLine]], seconds: Mapping[str, Fraction]
) -> None:
    document = {
        video: {
            "duration": float(seconds[f"{video}.mp4"]),
            "timestamps": [[line.start, line.end] for line in given],
            "sentences": [line.text.partition("##")[2] for line in given],
        }
        for video, given in lines.items()
        if given
    }
    write_json(path, document)


def tacos(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """Of the original files only the test split's is at hand; the others are made of JSON lines."""
    folder = annotations / "tacos"
    given = read_json(folder / "original_test.json")
    splits: dict[str, Rows] = {}
    for split in SPLITS:
        rows = by_video(read_lines(folder / f"tacos_{split}_release.jsonl"))
        oddities: list[Callable[[str], bool]] = [
            lambda video, rows=rows: any(row["query"].startswith(" ") for row in rows[video]),
        ]
        if split == "test":
            oddities.append(lambda video: _ends_late(given[f"{video}.avi"]))
        chosen = choose(rows, num_videos, oddities)
        splits[split] = [row for video in chosen for row in rows[video]]
        write_lines(out / "data/tacos" / f"{split}.jsonl", splits[split])
        original = {
            f"{video}.avi": given.get(f"{video}.avi") or _original_tacos(rows[video])
            for video in chosen
        }
        write_json(out / f"tacos_{split}.json", original)
    held = _held(splits, HALF, "-cam-002")
    seconds = {
        f"{row['vid']}-cam-002.avi": seconds_of(row["duration"])
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


def ego4d(annotations: Path, out: Path, num_videos: int) -> Miniature:
    """All of it is made by hand: no file of Ego4D is at hand."""
    write_ego4d(out)
    queries: list[Query] = []
    seconds: dict[str, Fraction] = {}
    splits: dict[str, Rows] = {}
    for split in SPLITS[:2]:
        splits[split] = []
        for clip in _clips(read_json(out / f"nlq_{split}.json")):
            uid, length = clip["clip_uid"], clip["video_end_sec"] - clip["video_start_sec"]
            seconds[f"{uid}.mp4"] = seconds_of(length)
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
