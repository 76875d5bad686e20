"""The check for a GPU runs whole on the stand-in, and says what it saw."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

import benchmarks.gpu_check.__main__ as check
from benchmarks.engine import Case, run_case
from benchmarks.gpu_check.__main__ import STAGES
from benchmarks.gpu_check.common import TEST_CONFIG, Options, make_runner
from benchmarks.gpu_check.report import MOST_CHARACTERS, write_report
from promptlab.models.dalle.cuda import sizes
from tests.models.dalle.device import StandIn

ROOT = Path(__file__).parents[3]
ABSENT = ("hydra", "omegaconf", "mlflow", "pandas", "pyarrow", "yaml", "fsspec", "safetensors")


@pytest.mark.timeout(600)  # twenty seconds of computing, on a machine that may be busy
@pytest.mark.slow
def test_the_whole_check_runs_on_a_bare_machine_without_a_gpu(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path), "--device", "cpu", "--size", "test", "--budget", "400"]
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        "runpy.run_module('benchmarks.gpu_check', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = json.loads((tmp_path / "check.json").read_text())["stages"]
    assert list(stages) == list(STAGES)
    assert not [name for name, stage in stages.items() if stage.get("error")]
    statuses = {verdict["status"] for stage in stages.values() for verdict in stage["verdicts"]}
    assert statuses <= {"PASS", "SLOW"}
    report = (tmp_path / "report.txt").read_text()
    assert "PASS test: an image is the same in any block: 0 (limit: 0 of 9 images)" in report
    assert "What to do next:" in report


def hang(name: str, options: argparse.Namespace) -> dict[str, object]:
    time.sleep(60)
    return {}


def crash(name: str, options: argparse.Namespace) -> dict[str, object]:
    print("the last words", flush=True)
    os._exit(9)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("stage", "error"), [(hang, "over 1 s"), (crash, "exit code 9: the last words\n")]
)
def test_a_stage_that_hangs_or_crashes_ends_alone(
    stage: Callable[..., dict[str, object]],
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "run_stage", stage)
    found = check.run_in_process("smoke", argparse.Namespace(out=tmp_path), limit_s=1)
    assert found["error"] == error


@pytest.mark.parametrize("num_verdicts", [1, 500])
def test_the_report_puts_failures_first_and_is_short(num_verdicts: int) -> None:
    verdict = {"question": "q", "number": 3, "limit": "0", "where": "a.py:f"}
    stages = {
        "speed": {"verdicts": [{**verdict, "status": "SLOW"}] * num_verdicts, "seconds": 1},
        "smoke": {"verdicts": [{**verdict, "status": "FAIL"}], "seconds": 1},
        "faults": {"error": "exit code -9: ", "seconds": 1},
    }
    report = write_report(stages, "check")
    assert len(report) <= MOST_CHARACTERS
    lines = [line for line in report.splitlines() if line[:4] in ("FAIL", "LOST", "SLOW")]
    assert [line[:4] for line in lines[:3]] == ["FAIL", "LOST", "SLOW"]
    if num_verdicts == 1:
        assert "check --stage faults" in report
        assert "check --stage smoke" in report


def test_min_dalle_is_timed_while_the_engine_has_nothing_queued() -> None:
    moments: list[int] = []

    class Timer:
        def step_seconds(self, prompt: str, grid: int, num_steps: int) -> list[float]:
            moments.append(device.count["replay"])
            return [1.0] * num_steps

        def detokenize_seconds(self, num_images: int) -> float:
            return 1.0

    options = argparse.Namespace(device="cuda", dtype="float32", min_dalle_steps=1)
    chosen = Options("cpu", "test", "float32")
    small = dataclasses.replace(TEST_CONFIG, image_grid=4)
    with mock.patch.object(sizes, "MOST_IMAGES", 4), StandIn() as device:
        runner = make_runner(small, chosen, batch_size=1)
        row = run_case(Case(2, 1), runner, Timer(), options)  # type: ignore[arg-type]
    steps = small.num_image_tokens
    assert moments == [2 * steps, 4 * steps]  # between the warm-up and the drawing, and after it
    assert row["engine_s_per_image"] > 0
