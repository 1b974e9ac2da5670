"""What `r2t store info` says about a store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from r2t.cli.commands.store.store import app
from r2t.cli.shared.ui import human_bytes
from r2t.store import Annotation, FeatureStore, QueryFeatures
from r2t.store.errors import FeatureNotFoundError


def annotate(store: FeatureStore, video_ids: list[str]) -> None:
    """Add a query for each video, whether the store has it or not."""
    spec = store.spec
    tokens = np.ones((spec.num_layers, 3, spec.text_width), np.float16)
    annotations = [Annotation(f"of {v}", v, "words", np.array([[0.0, 2.0]])) for v in video_ids]
    with store.writer() as writer:
        writer.add_queries(annotations, [QueryFeatures(a.query_id, tokens) for a in annotations])


def info(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["info", str(path), *options], env={"COLUMNS": "120"})


def test_counts_and_coverage(make_store: Callable[..., FeatureStore], tmp_path: Path) -> None:
    path = tmp_path / "feats.zarr"
    annotate(make_store(path, num_videos=4), ["absent"])
    answer = CliRunner().invoke(app, ["info", str(path), "--json"])
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert found["spec"]["vision_layers"] == [1, 2]
    assert found["provenance"]["pretrained"] == "none"
    assert (found["videos"], found["queries"]) == (4, 9)
    assert found["frames"] == 8 + 9 + 10 + 11
    assert found["hours"] == pytest.approx(2 * found["frames"] / 3600)
    assert found["bytes"] == found["frames"] * 2 * 5 * 16 * 2
    assert found["splits"] == {
        "train": {"queries": 5, "videos": 3, "moments": 5},
        "val": {"queries": 4, "videos": 2, "moments": 4},
    }
    assert found["annotated_without_features"] == ["absent"]
    assert found["features_without_annotations"] == []


def test_the_table_names_missing_videos(
    make_store: Callable[..., FeatureStore], tmp_path: Path
) -> None:
    path = tmp_path / "feats.zarr"
    annotate(make_store(path), [f"absent{number}" for number in range(7)])
    answer = CliRunner().invoke(app, ["info", str(path)], env={"COLUMNS": "120"})
    assert answer.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in answer.stdout.splitlines() if "│" in line}
    named = "7: absent0, absent1, absent2, absent3, absent4 and 2 more"
    assert named in lines["annotated without features"]
    assert "none" in lines["features without annotations"]
    assert "[0.5, 0.5, 0.5]" in lines["mean"]
    assert " kB " in lines["size of tokens"]


def test_a_store_that_was_copied_halfway_says_so(
    make_store: Callable[..., FeatureStore], tmp_path: Path
) -> None:
    path = tmp_path / "feats.zarr"
    make_store(path, num_videos=4)
    assert json.loads(info(path, "--json").stdout)["indexed_but_not_there"] == []
    shutil.rmtree(path / "videos" / "v2")
    answer = info(path)
    assert answer.exit_code == 0
    assert "indexed but not there" in answer.stdout
    assert "1: v2" in answer.stdout
    assert "copy it again" in answer.stderr
    assert json.loads(info(path, "--json").stdout)["indexed_but_not_there"] == ["v2"]
    with pytest.raises(FeatureNotFoundError, match=r"'v2', but it is not there.*Copy it again"):
        FeatureStore.open(path).read_video("v2")
    (path / "parts" / "index" / "zarr.json").unlink()
    assert "parts/index/zarr.json is missing: `r2t store repair`" in info(path).stderr
    (path / "zarr.json").write_text("")
    assert f"cannot read {path}/zarr.json" in info(path).stderr
    (path / "zarr.json").unlink()
    answer = info(path)
    assert answer.exit_code == 2
    assert f"{path}/zarr.json is missing" in answer.stderr
    assert "Copy it again" in answer.stderr


def test_what_is_no_store_is_one_line_and_exit_2(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["info", str(tmp_path / "none.zarr")])
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("error: ")
    assert "none.zarr" in answer.stderr


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (307_200, "307 kB"), (2.15e11, "215 GB"), (4.2e12, "4.2 TB")],
)
def test_bytes_for_people(num_bytes: float, text: str) -> None:
    assert human_bytes(num_bytes) == text
