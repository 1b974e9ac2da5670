"""Small annotation files written by hand, with the names, layouts and odd rows of released ones.

The released files' licences do not let them travel with this code, so tests rehearse on these. Of
Ego4D-NLQ nothing else is at hand anywhere: its files here follow the published layout.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from r2t.store.datasets.splits import TVSUM_SPLITS, YOUTUBE_HIGHLIGHTS_SPLITS, Membership

TACOS_FPS = 29.4
TVSUM_FPS = 25.0
Rows = list[dict[str, Any]]


def write_samples(folder: Path) -> None:
    """Write the annotation files of all six datasets, a folder for each."""
    _write_qvhighlights(folder / "qvhighlights")
    _write_charades(folder / "charades")
    _write_tacos(folder / "tacos")
    write_ego4d(folder / "ego4d")
    _write_youtube(folder / "youtube")
    _write_tvsum(folder / "tvsum")


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one JSON document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_qvhighlights(folder: Path) -> None:
    """Ids begin with a minus and hold dots; not all last 150 s; some have two queries."""
    whole = {"duration": 150, "relevant_clip_ids": [0, 1, 74], "saliency_scores": [[4, 3, 2]] * 3}
    short = {"duration": 126, "relevant_clip_ids": [5, 62], "saliency_scores": [[0, 1, 2]] * 2}
    several = {"relevant_windows": [[0, 4], [148, 150]]}
    rows = {
        "train": [
            ("-Oc6gSWB_HA_60.0_210.0", "A man eats at a café.", {**whole, **several}),
            ("-Oc6gSWB_HA_60.0_210.0", "He pays", {**whole, "relevant_windows": [[0, 4]]}),
            ("j7rJstUseKg_360.0_510.0", "two dogs  run.", {**whole, **several}),
            ("NUsG9BgSes0_0.0_126.0", "A girl cooks", {**short, "relevant_windows": [[10, 12]]}),
        ],
        "val": [
            ("-_s0sXOfS3w_210.0_360.0", "A boat leaves", {**whole, **several}),
            ("b6lz9Nmw9QA_60.0_186.0", "She waves.", {**short, "relevant_windows": [[124, 126]]}),
        ],
        "test": [
            ("-OmUBsxPguE_60.0_210.0", "A woman prepares an entrée.", {"duration": 150}),
            ("_6hnl_BrFvs_360.0_510.0", "hill and water", {"duration": 142}),
        ],
    }
    qid = 9769
    for split, given in rows.items():
        lines: Rows = []
        for video, query, fields in given:
            lines.append({"qid": qid, "query": query, "vid": video, **fields})
            qid -= 7
        write_lines(folder / f"highlight_{split}_release.jsonl", lines)


def _write_charades(folder: Path) -> None:
    """Ends pass the videos; some come before their starts, which the JSON lines leave out."""
    lines = {
        "train": (
            "AO8RW 0.0 6.9##a person is putting a book on a shelf.\n"
            "Y6R7T 20.8 30.0##person begins to play on a phone.\n"
            "Y6R7T 7.3 17.3##person pouring it into a glass.\n"
            "LEOL6 8.0 7.0##person is holding medicine.\n"
            "IOL8Q 20.9 12.0##a person is throwing a bag out of the room.\n"
            "IOL8Q 0.0 9.3##person opens a door.\n"
        ),
        "test": (
            "3MSZA 24.3 30.4##person turn a light on.\n"
            "3MSZA 24.3 30.4##person flipped the light switch near the door.\n"
            "AMT7R 4.3 31.0##a person is putting a picture onto the wall."
        ),
    }
    seconds = {"AO8RW": 33.67, "Y6R7T": 29.42, "IOL8Q": 20.88, "3MSZA": 30.96, "AMT7R": 30.08}
    folder.mkdir(parents=True)
    qid = 0
    for split, text in lines.items():
        (folder / f"charades_sta_{split}.txt").write_text(text)
        rows: Rows = []
        for line in text.splitlines():
            head, query = line.split("##")
            video, start, end = head.split()
            if float(start) < float(end):
                moment = [float(start), min(float(end), seconds[video])]
                fields = {"duration": seconds[video], "relevant_windows": [moment]}
                rows.append({"qid": qid, "query": query, "vid": video, **fields})
                qid += 1
        write_lines(folder / f"charades_{split}_release.jsonl", rows)


def _write_tacos(folder: Path) -> None:
    """Videos are named by person and dish alone; sentences begin with blanks and occur twice."""
    videos = {
        "train": {"s17-d69": (1514, 3), "s13-d21": (2205, 2)},
        "val": {"s34-d28": (1420, 3)},
        "test": {"s30-d52": (2414, 3), "s29-d42": (1617, 2)},
    }
    sentences = [" The person takes out a kiwi.", "She cuts it", "She cuts it"]
    for split, given in videos.items():
        rows: Rows = []
        original: dict[str, Any] = {}
        for video, (num_frames, count) in given.items():
            frames = [[100 + 150 * each, 240 + 400 * each] for each in range(count)]
            original[f"{video}.avi"] = {
                "timestamps": frames,
                "sentences": sentences[:count],
                "fps": TACOS_FPS,
                "num_frames": num_frames,
            }
            for number, (start, end) in enumerate(frames):
                rows.append(
                    {
                        "qid": f"{video}_{number}",
                        "query": sentences[number],
                        "duration": num_frames / TACOS_FPS,
                        "vid": video,
                        "relevant_windows": [[start / TACOS_FPS, end / TACOS_FPS]],
                    }
                )
        write_lines(folder / f"tacos_{split}_release.jsonl", rows)
        if split == "test":
            write_json(folder / "original_test.json", original)


def write_ego4d(folder: Path) -> None:
    """Write nlq_{train,val}.json: clips of videos, moments without length, queries without text."""
    uids = {"train": ("3b0ed0a9-54c4", "7a1e40a0-e1bd"), "val": ("0d271871-c8ba",)}
    for split, clips in uids.items():
        content = [_ego4d_video(uid, 60.0 * number) for number, uid in enumerate(clips)]
        document = {"version": "1", "date": "220216", "description": "NLQ", "split": split}
        write_json(folder / f"nlq_{split}.json", {**document, "videos": content})


def _ego4d_video(uid: str, start: float) -> dict[str, Any]:
    queries: Rows = [
        {"template": "Objects: Where is object X?", "query": "Where is the  knife?"},
        {"template": None, "query": None},
        {"template": "People: Who did I talk to?", "query": "Who did I talk to"},
    ]
    moments = [(3.0, 9.5), (1.0, 2.0), (41.25, 41.25)]
    for query, (begin, end) in zip(queries, moments, strict=True):
        query |= {"clip_start_sec": begin, "clip_end_sec": end, "slot_x": "", "verb_x": ""}
        query |= {"video_start_sec": start + begin, "video_end_sec": start + end}
    annotations = [
        {"language_queries": queries, "annotation_uid": f"{uid}-a"},
        {"language_queries": queries[:1], "annotation_uid": f"{uid}-b"},
    ]
    clip = {"clip_uid": uid, "video_start_sec": start, "video_end_sec": start + 48.1}
    return {"video_uid": f"of-{uid}", "clips": [{**clip, "annotations": annotations}]}


def _listed(membership: Membership, num_train: int) -> Iterator[tuple[str, str]]:
    """Yield (domain, video id) of some videos of each domain's two splits."""
    for domain, splits in membership.items():
        for video_id in (*splits["train"][:num_train], splits["val"][0]):
            yield domain, video_id


def _write_youtube(folder: Path) -> None:
    """A title is a blank, others have blanks around them; a video is in no list; rates differ."""
    titles = [" ", "Gymnastics ", "      GOPR0417.MP4", "What is that? — Skatepark"]
    found: dict[str, Any] = {}
    for number, (domain, video_id) in enumerate(_listed(YOUTUBE_HIGHLIGHTS_SPLITS, 2)):
        found[video_id] = _youtube_record(domain, titles[number % len(titles)], 4 + number % 5)
    found["VBynuRQspG4"] = _youtube_record("skiing", "in no list", 6)
    write_json(folder / "youtube_anno.json", found)


def _youtube_record(domain: str, title: str, num_clips: int) -> dict[str, Any]:
    frames = [[50.0 * clip, 50.0 * clip + 100] for clip in range(num_clips)]
    match = [(-1, 0, 1)[clip % 3] for clip in range(num_clips)]
    info = [domain, None, [], 32, "", title, "", None]
    fps = 29.97002997002997 if num_clips % 2 else 6.0
    count = str(50 * num_clips + 61)
    record = {"fps": fps, "frames": count, "domain": domain, "info": info}
    return {**record, "clip": frames, "match": match}


def _write_tvsum(folder: Path) -> None:
    """Titles hold commas, quotes and letters beyond ASCII; numbers of frames are texts."""
    titles = ["ŠKODA Tips, part 1", "#0001: FLAT TIRE", 'Jam "Viña" 2012', "Dog's tale"]
    random = np.random.default_rng(0)
    found: dict[str, Any] = {}
    videos: list[dict[str, Any]] = []
    for number, (domain, video_id) in enumerate(_listed(TVSUM_SPLITS, 2)):
        num_frames = 500 + 37 * number
        scores = random.integers(1, 6, (20, num_frames)).astype(float)
        middle = ((2 * np.arange(int(num_frames / TVSUM_FPS / 2)) + 1) * TVSUM_FPS).astype(int)
        title = titles[number % len(titles)]
        found[video_id] = {
            "fps": TVSUM_FPS,
            "frames": str(num_frames),
            "domain": domain,
            "title": title,
            "url": f"https://www.youtube.com/watch?v={video_id}",
            "length": "0:30",
            "anno": scores[:, middle].T.tolist(),
        }
        quoted = f'"{title}"' if "," in title else title
        videos.append(
            {
                "video": video_id,
                "category": domain,
                "title": quoted,
                "length": num_frames / TVSUM_FPS,
                "nframes": num_frames,
                "user_anno": scores,
            }
        )
    write_json(folder / "tvsum_anno.json", found)
    write_mat(folder / "ydata-tvsum50.mat", [_as_matlab(video) for video in videos])


def _as_matlab(fields: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return values as MATLAB stores them: a text is a column of its UTF-8's bytes."""
    return {
        name: np.frombuffer(value.encode(), np.uint8).astype(np.uint16)[:, None]
        if isinstance(value, str)
        else np.array(value, ndmin=2)
        for name, value in fields.items()
    }


def write_mat(path: Path, videos: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Write a struct array `tvsum50` as MATLAB 7.3 does: HDF5 after a header of 512 bytes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name in videos[0]:
            table = file.create_dataset(f"tvsum50/{name}", (len(videos), 1), dtype=h5py.ref_dtype)
            for row, video in enumerate(videos):
                table[row, 0] = file.create_dataset(f"#refs#/{name}{row}", data=video[name]).ref
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def read_mat(path: Path) -> list[dict[str, np.ndarray]]:
    """Read what `write_mat` writes: the stored arrays of each video."""
    with h5py.File(path, "r") as file:
        table: Any = file["tvsum50"]
        return [
            {name: np.asarray(file[table[name][row, 0]]) for name in table}
            for row in range(table["video"].shape[0])
        ]
