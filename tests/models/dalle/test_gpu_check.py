"""The check for a GPU runs whole on the stand-in, and says what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_check.__main__ import STAGES
from benchmarks.gpu_check.report import MOST_CHARACTERS, write_report

ROOT = Path(__file__).parents[3]
ABSENT = ("hydra", "omegaconf", "mlflow", "pandas", "pyarrow", "yaml", "fsspec", "safetensors")


def test_the_whole_check_runs_without_a_gpu(tmp_path: Path) -> None:
    command = ["--out", str(tmp_path), "--device", "cpu", "--size", "test", "--budget", "400"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check = json.loads((tmp_path / "check.json").read_text())
    assert list(check["stages"]) == list(STAGES)
    assert not [name for name, stage in check["stages"].items() if stage.get("error")]
    statuses = {v["status"] for stage in check["stages"].values() for v in stage["verdicts"]}
    assert statuses <= {"PASS", "SLOW"}
    report = (tmp_path / "report.txt").read_text()
    assert "PASS test: an image is the same in any block: 0 (limit: 0 of 9 images)" in report
    assert "What to do next:" in report


def test_a_bare_machine_can_import_it() -> None:
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        "import benchmarks.gpu_check.__main__ as check; assert len(check.find_stages()) == 9"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


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
