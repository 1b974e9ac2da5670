"""`benchmarks/gpu.py`: its sections on a CPU at toy size, and what becomes of those that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from gpu_check import (
    answers,
    attention,
    block,
    epoch,
    extraction,
    infinity,
    measuring,
    resume,
    ring,
)
from gpu_check.draws import Sides, same_draws
from gpu_check.inputs import make_store
from gpu_check.names import step_name, way_name
from gpu_check.report import Report, read_rows
from gpu_check.runner import (
    DONE,
    SECONDS,
    SECTIONS,
    Plan,
    Result,
    rows_path,
    run_sections,
    start,
)
from gpu_check.setting import Setting
from gpu_check.table import failures, summary, to_json, write_table

from r2t.extract.clip.clip import FrozenClip
from r2t.train.data.batch import Batch
from r2t.train.model.decode import Grounding
from r2t.train.model.tiled_look import TiledLook
from r2t.train.training.state import RunState

CHECKOUT = Path(__file__).parent.parent
COMMAND = [sys.executable, str(CHECKOUT / "benchmarks" / "gpu.py")]


def gpu(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting.of("cpu", small=True, folder=tmp_path)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "rows.jsonl")


@pytest.fixture
def float64_allowed() -> Generator[None]:
    """Let losses be in float64, which their signatures say they are not."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def statuses(report: Report) -> dict[str, str]:
    return {row.name: row.status for row in report.rows}


def test_every_section_runs_on_a_cpu(tmp_path: Path) -> None:
    """In one process, since each on its own would spend most of its time on imports."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom gpu_check.runner import SECTIONS, run_section\n"
        "for name in SECTIONS:\n"
        "    run_section(name, 'cpu', Path(sys.argv[1]), float('inf'), small=True)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(CHECKOUT / "benchmarks")},
    )
    assert found.returncode == 0, found.stdout + found.stderr
    results = [Result(name, read_rows(rows_path(tmp_path, name)), 0, DONE) for name in SECTIONS]
    assert all(result.rows for result in results)
    rows = {row.name: row for result in results for row in result.rows}
    missing = {name for name, row in rows.items() if row.status == "unavailable"}
    assert all("of a GPU only" in rows[name].text for name in missing)
    assert rows["batch, tiled, fp32"].status == "holds"
    assert rows["float32: resumed"].status == "holds"
    assert (rows["tiled, fp16, batch 4"].value or 0) > 0
    assert rows["batch, whole, fp32"].status == "holds"
    assert rows["equal dropout, whole, fp32"].status == "holds"
    assert rows["compiled look, fp32"].status == "holds"
    assert (rows["whole, compiled, fp32, batch 4"].value or 0) > 0
    assert "WRONG" not in write_table(results)
    assert f"all {sum(row.status == 'holds' for row in rows.values())} checks hold" in (
        summary(results)
    )


def test_the_shares_are_what_a_run_may_take() -> None:
    assert sum(SECTIONS.values()) == SECONDS <= 400


@pytest.mark.parametrize(("device", "message"), [("cuda", "finds 0 GPUs"), ("tpu", "must be")])
def test_a_device_that_is_not_there_is_one_line(device: str, message: str) -> None:
    found = gpu("--device", device, CUDA_VISIBLE_DEVICES="")
    assert found.returncode == 2
    assert not found.stdout
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_r2t_need_not_be_installed(tmp_path: Path) -> None:
    """An interpreter that has the other packages alone takes the checkout."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
    )
    rows = tmp_path / "rows.json"
    asked = gpu(
        *("--device", "cpu", "--small", "--only", "machine", "--json", str(rows)),
        PYTHONPATH=str(tmp_path),
    )
    assert asked.returncode == 0, asked.stdout
    assert "packages/r2t" in asked.stdout
    (machine,) = json.loads(rows.read_text())
    assert (machine["name"], machine["ended"]) == ("machine", DONE)
    assert machine["rows"]


def scripted(folder: Path, **scripts: str) -> Plan:
    """Return a plan whose sections are small programs that know `rows`, the path of their rows."""
    program = folder / "section.py"
    program.write_text(
        "import json, os, subprocess, sys, time\n"
        "name, folder = sys.argv[2], sys.argv[4]\n"
        "def row(name, status):\n"
        "    with open(os.path.join(folder, sys.argv[2] + '.jsonl'), 'a') as file:\n"
        "        file.write(json.dumps(dict(name=name, status=status, text='')) + '\\n')\n"
        f"exec({scripts!r}.get(name, \"row('fine', 'holds')\"))\n"
    )
    return Plan(command=[sys.executable, str(program)], folder=folder, seconds=20_000)


def test_a_wrong_row_is_a_failure_and_the_others_go_on(tmp_path: Path) -> None:
    plan = scripted(tmp_path, ceilings="row('first', 'wrong'); row('second', 'holds')")
    results = run_sections(plan, list(SECTIONS))
    assert [result.name for result in results] == list(SECTIONS)
    assert failures(results) == ["ceilings: first"]
    assert f"1 of {len(SECTIONS) + 1} checks do not hold" in summary(results)
    assert "WRONG  first" in write_table(results)
    assert json.loads(to_json(results))[2]["rows"][0]["status"] == "wrong"


def test_a_crash_keeps_what_was_found_and_stops_no_other(tmp_path: Path) -> None:
    plan = scripted(
        tmp_path,
        block="row('before', 'holds'); raise MemoryError('of the device')",
        ring="os.abort()",
    )
    results = {result.name: result for result in run_sections(plan, list(SECTIONS))}
    assert results["block"].ended == "ended with status 1: MemoryError: of the device"
    assert [row.name for row in results["block"].rows] == ["before"]
    assert results["ring"].ended == "ended by SIGABRT"
    assert len(failures(list(results.values()))) == 2
    assert results["epoch"].ended == DONE


def test_a_section_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = (
        "row('before', 'holds')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open(os.path.join(folder, 'child'), 'w').write(str(child.pid))\n"
        "os.rename(os.path.join(folder, 'child'), os.path.join(folder, 'pid'))\n"
        "time.sleep(600)\n"
    )
    result = start(scripted(tmp_path, steps=script), "steps", 10)
    assert result.ended == "killed at its deadline of 10 s"
    assert result.failed
    assert [row.name for row in result.rows] == ["before"]
    child = int((tmp_path / "pid").read_text())
    for _ in range(500):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(") ")[2].startswith("Z"):
            break
        time.sleep(0.02)
    else:
        pytest.fail("its child lives on")


def test_without_a_machine_nothing_is_tried(tmp_path: Path) -> None:
    results = run_sections(scripted(tmp_path, machine="sys.exit('no r2t')"), list(SECTIONS))
    assert [result.name for result in results] == ["machine"]
    assert failures(results) == ["machine ended with status 1: no r2t"]


def test_stores_are_written_for_what_reads_them(tmp_path: Path) -> None:
    results = run_sections(scripted(tmp_path), ["ring"])
    assert [result.name for result in results] == ["machine", "stores", "ring"]
    results = run_sections(scripted(tmp_path), ["epoch"])
    assert [result.name for result in results] == ["machine", "epoch"]


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path, report: Report) -> None:
    report.check("whole", "", holds=True)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"name": "cut')
    assert [row.name for row in read_rows(tmp_path / "rows.jsonl")] == ["whole"]
    assert read_rows(tmp_path / "absent.jsonl") == []


def test_errors_are_wrong_where_it_must_work_and_unavailable_elsewhere(report: Report) -> None:
    def fail() -> None:
        raise RuntimeError("no kernel\nfor this")

    report.verify("must", fail)
    report.attempt("may", fail)
    assert [(row.status, row.text) for row in report.rows] == [
        ("wrong", "RuntimeError: no kernel for this"),
        ("unavailable", "n/a (RuntimeError: no kernel for this)"),
    ]


def test_a_device_that_is_broken_ends_the_section(tmp_path: Path) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    report = Report(tmp_path / "rows.jsonl", check_device=broken)
    with pytest.raises(RuntimeError, match="illegal"):
        report.attempt("may", broken)
    assert len(report.rows) == 1


def test_what_needs_more_time_than_is_left_is_left_out(tmp_path: Path) -> None:
    report = Report(tmp_path / "rows.jsonl", seconds=5)
    report.verify("long", lambda: report.note("never", ""), seconds=1000)
    assert statuses(report) == {"long": "unavailable"}


@pytest.mark.parametrize("error", [1.0, float("nan"), float("inf")])
def test_an_error_over_its_limit_is_wrong(report: Report, error: float) -> None:
    report.within("error", error, 1e-4)
    report.within("small", 1e-5, 1e-4)
    assert statuses(report) == {"error": "wrong", "small": "holds"}


def test_the_length_of_a_gradient_that_cancels_is_not_its_own() -> None:
    expected = {"d a": torch.ones(4), "d b": torch.tensor([1e-9]), "loss": torch.tensor(2.0)}
    found = {**expected, "d b": torch.tensor([3e-9])}
    assert block.worst_error(found, expected)[0] < 1e-8
    assert block.worst_error({**found, "d a": torch.full([4], 1.01)}, expected) == (
        pytest.approx(0.01 / block.GRADIENT_SHARE, rel=1e-3),
        "d a",
    )
    found["loss"] = torch.tensor(float("nan"))
    assert block.worst_error(found, expected) == (float("inf"), "loss")


@pytest.mark.usefixtures("float64_allowed")
def test_a_model_that_computes_something_else_is_wrong(setting: Setting, report: Report) -> None:
    case = block.plain(setting)
    sides = Sides()
    truth = block.results(case, setting.device, case.reference, "fp64", sides)

    class BentLook(TiledLook):
        def __call__(self, *inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
            cls_tokens, pooled = super().__call__(*inputs)
            return cls_tokens, 1.001 * pooled

    for look in (TiledLook, BentLook):
        bent = replace(case, looks={"tiled": look})
        block.compare(setting, report, bent, ("tiled", "fp32"), truth, sides)
    assert [row.status for row in report.rows] == ["holds", "wrong"]


@pytest.mark.usefixtures("float64_allowed")
def test_dropout_is_the_same_only_where_it_is_made_so(setting: Setting) -> None:
    case = block.equal_dropout(setting)
    sides = Sides()
    truth = block.results(case, setting.device, case.reference, "fp64", sides)
    for draws, largest, least in ((same_draws, 1e-4, 0), (nullcontext, float("inf"), 0.2)):
        changed = replace(case, draws=draws)
        found = block.results(changed, setting.device, case.reference, "fp32", Sides(sides))
        assert least <= block.worst_error(found, truth)[0] < largest


def test_a_step_that_is_not_skipped_is_wrong(
    setting: Setting, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infinity, "HUGE", 1.0)
    infinity.run(setting, report)
    (row,) = report.rows
    assert (row.status, row.text.partition(",")[0]) == ("wrong", "0 of 2 steps skipped")


def test_attention_that_is_no_number_is_wrong(
    setting: Setting, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend = attention.Attention.forward

    def broken(self: attention.Attention, *args: Any) -> torch.Tensor:
        found = attend(self, *args)
        return found * float("nan") if args[0].shape[1] == 64 else found

    monkeypatch.setattr(attention.Attention, "forward", broken)
    attention.run(setting, report)
    wrong = {row.name for row in report.rows if row.status == "wrong"}
    assert wrong == {row.name for row in report.rows if " 64," in row.name}


def test_memory_that_is_used_again_too_early_is_wrong(
    setting: Setting, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dtype in ("float16", "int8"):
        make_store(setting.folder, setting.sizes, dtype)

    def late(setting: Setting, batch: Batch) -> ring.Seen:
        batch.videos[0, 0, 0, 0, :2] = 1
        return ring.seen(batch)

    monkeypatch.setattr(ring, "seen_slowly", late)
    ring.run(setting, report)
    checks = [row for row in report.rows if row.name.endswith("bytes")]
    assert checks
    assert all(row.status == "wrong" for row in checks)
    assert "differ, such as batch 0 of epoch 0" in checks[0].text


def test_a_training_that_draws_anew_when_it_is_resumed_is_wrong(
    setting: Setting, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(setting.folder, setting.sizes, "float16")
    monkeypatch.setattr(RunState, "_set_random_state", lambda *_: None)
    resume.run(setting, report)
    found = statuses(report)
    assert found["float32: run twice"] == found["float32: interrupted"] == "holds"
    assert found["float32: resumed"] == "wrong"


def test_answers_that_differ_are_wrong(report: Report) -> None:
    moments = np.array([[0.0, 10.0, 0.9], [20.0, 30.0, 0.9]])
    truth = {"q": Grounding(moments, np.zeros(30, np.float32), 0.5, 60.0, 0.0)}
    same = {"q": replace(truth["q"], moments=moments[::-1])}
    later = {"q": replace(truth["q"], moments=moments + np.array([0.0, 2.0, 0.0]))}
    silent = {"q": replace(truth["q"], saliency=np.full(30, np.nan, np.float32))}
    for name, found in (("same", same), ("later", later), ("silent", silent), ("none", {})):
        answers.compare(report, name, found, truth)
    assert [row.name for row in report.rows if row.status == "wrong"] == [
        "later: moments",
        "silent: saliency",
        "none: answers",
    ]


def test_a_clip_that_encodes_something_else_is_wrong(
    setting: Setting, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = FrozenClip.encode_frames
    asked: list[object] = []

    def other(clip: FrozenClip, pixels: Any) -> Any:
        asked.append(clip)  # the first is the reference
        found = encode(clip, pixels)
        return replace(found, tokens=found.tokens * np.float16(1 if clip is asked[0] else 1.01))

    monkeypatch.setattr(FrozenClip, "encode_frames", other)
    monkeypatch.setattr(extraction, "measure_pipeline", lambda *_: None)
    extraction.run(setting, report)
    found = statuses(report)
    assert found["frames, float32"] == "wrong"
    assert found["words, float32"] == found["frames, float16"] == "holds"


def test_a_clip_that_fails_for_want_of_memory_is_wrong(
    setting: Setting, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "measure_pipeline", lambda *_: None)
    load = FrozenClip.load
    monkeypatch.setattr(FrozenClip, "load", lambda *args, **more: load(*args, **more, batch_size=6))
    extraction.run(setting, report)
    (row,) = [row for row in report.rows if row.name == "too large a batch"]
    assert row.status == "wrong"
    assert "no memory for batches of 6" in row.text


def test_an_epoch_takes_as_long_as_its_slowest_part(setting: Setting, report: Report) -> None:
    size = max(setting.sizes.batch_sizes)
    known = {
        "steps": (step_name("tiled", "fp16", size), 10.0, "ms"),
        "ring": (f"{way_name(None, 'int8', 'uniform')}: rate", 1e-9, "GB/s"),
    }
    for section, (name, value, unit) in known.items():
        Report(setting.folder / f"{section}.jsonl").measure(name, value, unit)
    epoch.run(setting, report)
    rows = {row.name: row for row in report.rows}
    steps = -(-7218 // size) * 4
    assert rows["epoch, tiled, all on the device"].value == pytest.approx(steps * 0.01)
    assert "bound by the step" in rows["epoch, tiled, float16 from the store"].text
    assert "bound by reading the store" in rows["epoch, tiled, int8 from the store"].text
    assert rows["epoch, whole, compiled"].status == "unavailable"


class FakeEvent:
    """An event of a stream on which every piece of work takes 2 ms."""

    made = 0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        FakeEvent.made += 1
        self.at = 2.0 * FakeEvent.made

    def synchronize(self) -> None: ...

    def elapsed_time(self, later: FakeEvent) -> float:
        return later.at - self.at


def test_time_on_a_gpu_is_what_its_events_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    calls: list[int] = []
    seconds = measuring.median_seconds(
        lambda: calls.append(1), torch.device("cuda"), repeats=5, warmup=2
    )
    assert seconds == pytest.approx(0.002)
    assert len(calls) == 7


def test_waits_of_the_host_are_counted_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[object] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)

    ((place, count),) = measuring.host_waits(work).items()
    assert place.startswith("test_gpu_check.py:")
    assert count == 3
    assert modes == ["warn", 0]
