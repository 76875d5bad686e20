"""The origin of a sweep for sweep.yaml: its command, configs, versions, git revision, machine.

Takes the plan and its jobs, returns a RunRecord. Writes nothing, imports no torch.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from promptlab import machine
from promptlab.configs.settings import Job
from promptlab.planning.plan import Plan
from promptlab.run_record import RunRecord
from promptlab.version import __version__

PACKAGES = ("torch", "hydra-core", "omegaconf", "mlflow", "pyarrow", "pillow", "min-dalle", "numpy")


def describe_sweep(plan: Plan, jobs: Sequence[Job], argv: Sequence[str]) -> RunRecord:
    """Return the record of a sweep without its plan's cells; the store adds those."""
    return RunRecord(
        command=("promptlab", "sweep", *argv),
        argv=tuple(argv),
        num_jobs=len(jobs),
        config=dict(jobs[0].config),  # the axes are beside it
        samples=plan.samples,
        subject_axes=plan.subject_axes,
        models_config={key: planned.node for key, planned in plan.models.items()},
        versions=versions(),
        git=git_revision(),
        hardware=hardware(),
    )


def versions() -> dict[str, str]:
    """Return the versions of promptlab, Python and the packages that make the images."""
    found = {"promptlab": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> dict[str, Any] | None:
    """Return commit and state of the working directory's git repository, None outside one."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "is_dirty": bool(status)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Return the machine: processor, cores, memory, and the GPU if torch is loaded."""
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": machine.cpu_name(),
        "num_cores": machine.usable_cores(),
        "memory_gib": machine.memory_gib(),
    }
    gpu = machine.gpu_name()
    return found if gpu is None else {**found, "gpu": gpu}
