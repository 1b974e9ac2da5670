"""`r2t eval --corpus` prints what it scored, with every video that is known to fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from r2t.cli.commands.eval import evaluate
from r2t.extract.clip.clip import FrozenClip
from r2t.extract.demo.truth import world_relevance, write_relevance
from r2t.store import FeatureStore

RunCommand = Callable[..., Result]


def test_further_videos_that_fit_count_as_found(
    run_command: RunCommand, world: tuple[FrozenClip, FeatureStore], tmp_path: Path
) -> None:
    asked = ("--store", world[1].location, "--split", "test", "--corpus", "--bootstrap", 50)
    write_relevance(
        tmp_path / "relevant.jsonl", world_relevance(num_videos=10, seed=0, split="test")
    )
    strict = json.loads(run_command(evaluate, *asked, "--json").stdout)
    answer = run_command(evaluate, *asked, "--json", "--relevant", tmp_path / "relevant.jsonl")
    told = json.loads(answer.stdout)
    assert told["num_videos"] == 10
    assert told["videos_that_fit_a_query"] > strict["videos_that_fit_a_query"]
    for who in ("frozen CLIP", "in random order"):
        first, before = (each["scores"][who]["video-R@1"]["value"] for each in (told, strict))
        assert first > before
    few = run_command(evaluate, *asked, "--num-queries", 7)
    assert "7 sentences asked of 10 videos" in " ".join(few.stdout.split())


def test_its_options_belong_to_it(run_command: RunCommand) -> None:
    answer = run_command(evaluate, "--store", "feats.zarr", "--num-queries", 7)
    assert answer.exit_code == 2
    assert "--relevant and --num-queries belong to --corpus" in " ".join(answer.stderr.split())
    answer = run_command(evaluate, "--checkpoint", "runs/x", "--corpus")
    assert answer.exit_code == 2
    assert "--corpus asks the videos of a store" in " ".join(answer.stderr.split())
    asked = ("--store", "feats.zarr", "--corpus")
    for other in (("--out", "x"), ("--dataset", "tvsum"), ("--strict-official",)):
        answer = run_command(evaluate, *asked, *other)
        assert answer.exit_code == 2
        assert "leave them out with --corpus" in " ".join(answer.stderr.split())
