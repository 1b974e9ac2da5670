"""Videos that could not be extracted, and why: a file beside the store that outlives the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from r2t.store.errors import StoreError
from r2t.store.files import write_whole
from r2t.store.json_lines import numbered_lines, to_json_lines


class Quarantine:
    """The file `<store>.quarantine.jsonl`: one line for each video that failed, with its reason."""

    def __init__(self, store_location: str) -> None:
        root = Path(store_location)
        self.path = root.with_name(f"{root.name}.quarantine.jsonl")

    def read(self) -> dict[str, str]:
        """Return the reasons by video id, in order of failure; empty if there is no file."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        reasons: dict[str, str] = {}
        for number, line in numbered_lines(text):
            try:
                row = json.loads(line)
                reasons[row["video_id"]] = row["reason"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.path}, line {number} is no quarantine record; mend or remove the file"
                ) from error
        return reasons

    def update(self, *, failed: Mapping[str, str], resolved: set[str]) -> None:
        """Add what failed and forget what was resolved, in one rename."""
        before = self.read()
        after = {name: reason for name, reason in before.items() if name not in resolved}
        after |= failed
        if after == before:
            return
        if not after:
            self.path.unlink()
            return
        rows = [{"video_id": name, "reason": reason} for name, reason in after.items()]
        write_whole(self.path, to_json_lines(rows))
