"""A sweep that a job of a cluster draws: what goes there, and what comes back.

Takes jobs and how they are drawn; returns the outcome that the job reports. Draws nothing here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptlab.configs.settings import Job
from promptlab.errors import PromptlabError
from promptlab.workers.options import WorkerOptions
from promptlab.workers.slurm import run_as_job

RunSweep = Callable[..., Any]  # flow.sweep.run_sweep


def draw_elsewhere(
    run_sweep: RunSweep,
    jobs: Sequence[Job],
    invocation: Any,
    runs_dir: str,
    options: WorkerOptions,
) -> Any:
    """Have the same command drawn by a job of the cluster, and return its outcome."""
    folder = ".promptlab-jobs" if "://" in runs_dir else f"{runs_dir}/.jobs"
    answer = run_as_job(_draw, (run_sweep, jobs, invocation), options, folder)
    if isinstance(answer, PromptlabError):
        raise answer
    return answer


def _draw(
    workers: Mapping[str, Any], run_sweep: RunSweep, jobs: Sequence[Job], invocation: Any
) -> Any:
    """Run a sweep inside the job, with the workers that it has; its log goes to stdout."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("promptlab").setLevel(logging.INFO)
    there = [replace(job, config={**job.config, "workers": workers}) for job in jobs]
    try:
        return replace(run_sweep(there, invocation), plan=None)
    except PromptlabError as error:
        return error
