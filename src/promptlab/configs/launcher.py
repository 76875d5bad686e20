"""The launcher's work: all jobs of a multirun become one plan, drawn on resident models.

Takes Hydra's context and config, the task and the overrides of all jobs; returns Hydra's
JobReturns. Does not know how a plan is made or drawn: that is the task's `run_jobs`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from promptlab.configs.compose import ComposingLoader
from promptlab.configs.settings import Job
from promptlab.errors import PromptlabError

log = logging.getLogger(__name__)


class FailedJobError(PromptlabError):
    """Some images of a job could not be drawn; the others were."""


class DrawnJob(JobReturn):
    """A JobReturn that builds its config only if asked and fails without a second message."""

    def __init__(self, job: Job, error: str | None, working_dir: str) -> None:
        self._job = job
        super().__init__(overrides=list(job.overrides), working_dir=working_dir, task_name="sweep")
        self.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
        self._return_value = None if error is None else FailedJobError(error)

    @property
    def cfg(self) -> DictConfig:
        """The job's config, without the hydra node."""
        return OmegaConf.create(dict(self._job.config))

    @cfg.setter
    def cfg(self, value: DictConfig | None) -> None:
        """Ignore the base class's default."""

    @property
    def return_value(self) -> Any:
        """None for a drawn job; raises what a failed job met, as Hydra's JobReturn does."""
        if self.status is JobStatus.FAILED:
            raise self._return_value
        return self._return_value

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


@runtime_checkable
class JobTask(Protocol):
    """The task function of a promptlab command: it takes all jobs of a multirun at once."""

    bases: Sequence[Sequence[str]]  # overrides put before each job's own, once each; () for none

    def __call__(self, config: DictConfig) -> Any:
        """Run one job, as Hydra does without a multirun."""

    def run_jobs(self, jobs: Sequence[Job]) -> Mapping[int, str]:
        """Draw all jobs as one plan; return what failed, by job number."""


def launch(
    context: HydraContext,
    master: DictConfig,
    task: JobTask,
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> Sequence[JobReturn]:
    """Compose all jobs, draw them together, and report each job to Hydra."""
    assert isinstance(context.config_loader, ComposingLoader)
    setup_globals()
    configure_log(master.hydra.job_logging, master.hydra.verbose)
    previous = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(master)
    try:
        # A sweep from picks draws each picked job with each of the new overrides.
        bases = task.bases or ((),)
        combined = [(*base, *own) for base in bases for own in job_overrides]
        jobs = [
            context.config_loader.compose_job(initial_job_idx * len(bases) + index, overrides)
            for index, overrides in enumerate(combined)
        ]
        full_configs = _full_configs(context, master, jobs)
        for config in full_configs:
            context.callbacks.on_job_start(config=config, task_function=task)
        errors = task.run_jobs(jobs)
        returns = [DrawnJob(job, errors.get(job.number), os.getcwd()) for job in jobs]
        for job_return, config in zip(returns, full_configs, strict=False):
            job_return.hydra_cfg = OmegaConf.create({"hydra": config.hydra})
            context.callbacks.on_job_end(config=config, job_return=job_return)
    finally:
        HydraConfig.instance().cfg = previous
    return returns


def _full_configs(
    context: HydraContext, master: DictConfig, jobs: Sequence[Job]
) -> list[DictConfig]:
    """Return each job's config with its hydra node, as callbacks want it; [] without callbacks."""
    if not context.callbacks.callbacks:
        return []
    configs = []
    for job in jobs:
        config = context.config_loader.load_sweep_config(master, list(job.overrides))
        with open_dict(config):
            config.hydra.job.id = str(job.number)
            config.hydra.job.num = job.number
        configs.append(config)
    return configs
