"""The work of launcher and sweeper: the jobs of a multirun are enumerated, and drawn as one plan.

Takes Hydra's context and config, the task and the overrides of all jobs; returns Hydra's
JobReturns. Does not know how a plan is made or drawn: that is the task's `run_jobs`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from promptlab.configs.compose import ComposingLoader
from promptlab.configs.counting import check_num_jobs
from promptlab.configs.globs import open_globs, quote_choices
from promptlab.configs.overrides import open_slots, prepare_override
from promptlab.configs.settings import Job
from promptlab.errors import ConfigError, PromptlabError

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
        first = initial_job_idx * max(1, len(task.bases))
        jobs = [
            context.config_loader.compose_job(number, overrides)
            for number, overrides in enumerate(combine(task.bases, job_overrides), first)
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


def split_overrides(
    overrides: list[Override], max_batch_size: int | None, config: DictConfig | None
) -> list[list[list[str]]]:
    """Return the overrides of each job, in batches; globs reach into sub-groups.

    `config` is the multirun's, which bounds the number of jobs; None sets no bound.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    open_globs(overrides)
    quote_choices(overrides)
    if config is not None:
        check_num_jobs(overrides, config)
    return BasicSweeper.split_arguments(overrides, max_batch_size)


def read_params(params: Mapping[str, Any], loader: Any) -> list[str]:
    """Return `hydra.sweeper.params` as overrides, read as those of promptlab's command line are."""
    written = [prepare_override(f"{key}={value}") for key, value in params.items()]
    is_promptlab = isinstance(loader, ComposingLoader)
    return open_slots(written, loader) if is_promptlab else written


def split_jobs(config: DictConfig, loader: Any) -> list[list[str]]:
    """Return the overrides of each job of a multirun, as its sweeper would enumerate them."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith((".PromptlabSweeper", ".BasicSweeper")):
        raise ConfigError(
            f"The sweeper {sweeper.get('_target_')} chooses its jobs while it runs. Expected "
            "hydra/sweeper=promptlab, whose jobs are known before."
        )
    written = [*read_params(sweeper.get("params") or {}, loader), *config.hydra.overrides.task]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(written)
    (jobs,) = split_overrides(overrides, None, config)
    return jobs


def combine(
    bases: Sequence[Sequence[str]], job_overrides: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """Return each job's overrides after each base's: a sweep from picks draws all of them."""
    return [(*base, *own) for base in bases or ((),) for own in job_overrides]


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
