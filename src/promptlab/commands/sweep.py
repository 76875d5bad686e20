"""`promptlab sweep`: Hydra's command line on promptlab's configs, and a few flags of our own.

Takes arguments, returns an exit code. Everything that Hydra knows (-m, --cfg, --info, +sweeps=,
quoting, config groups) passes through; the flags below are taken out first.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.configs.hydra_app import run_hydra, scratch_folder
from promptlab.errors import ConfigError, PromptlabError

if TYPE_CHECKING:
    from promptlab.configs.settings import Job
    from promptlab.verdicts.lineage import Lineage


def run_arguments(arguments: Sequence[str]) -> int:
    """Run a sweep as its command line says."""
    from promptlab.flow.earlier import lineage_of_picks, recorded_arguments, split_flags

    flags, overrides = split_flags(arguments)
    picks_folder = flags.from_picks
    folder = flags.resume or flags.retry_failed
    if folder is not None:
        recorded_flags, recorded = split_flags(recorded_arguments(folder, overrides))
        picks_folder = recorded_flags.from_picks
        overrides = [*recorded, *overrides]
    lineage = None
    argv = overrides
    if picks_folder is not None:
        lineage = lineage_of_picks(picks_folder, overrides)
        argv = ["--from-picks", picks_folder, *overrides]
        overrides = ["--multirun", *overrides]  # one job a picked cell, however many
    task = SweepTask(argv, flags.plan, folder, flags.retry_failed is not None, lineage)
    try:
        run_hydra(task, overrides)
    except ConfigError as error:
        raise ConfigError(f"{error}{_hint_on_folder(folder)}") from error
    return 1 if task.has_failed_images else 0


def _hint_on_folder(run_folder: str | None) -> str:
    """Return where a run was begun, if that is elsewhere: conf/ and lists are read here."""
    if run_folder is None or "://" in run_folder:
        return ""
    project = os.path.dirname(os.path.dirname(os.path.realpath(run_folder)))
    own = [name for name in ("conf", "sweeps", "wildcards") if os.path.isdir(f"{project}/{name}")]
    if not own or os.path.realpath(os.curdir) == project:
        return ""
    folders = " and ".join(f"{name}/" for name in own)
    return (
        f"\nThe run's own {folders} are not read in this folder. Run the same command in its "
        f"project: cd {shlex.quote(project)}"
    )


class SweepTask:
    """Hydra's task function; `run_jobs` takes all jobs of a multirun at once."""

    def __init__(
        self,
        arguments: Sequence[str],
        is_plan_only: bool,
        run_folder: str | None,
        retry_failed: bool,
        lineage: Lineage | None = None,
    ) -> None:
        self.arguments = tuple(arguments)
        self.is_plan_only = is_plan_only
        self.run_folder = run_folder
        self.retry_failed = retry_failed
        self.lineage = lineage
        self.bases: Sequence[Sequence[str]] = lineage.bases if lineage else ()
        self.has_failed_images = False  # now, or left over from an earlier time

    def __call__(self, config: Any) -> None:
        """Draw the single job of a run without --multirun."""
        from hydra.core.hydra_config import HydraConfig

        from promptlab.configs.compose import job_from_config

        hydra_config = HydraConfig.get()
        errors = self._run([job_from_config(config, hydra_config)], hydra_config.run.dir)
        for error in errors.values():
            raise PromptlabError(error)

    def run_jobs(self, jobs: Sequence[Job]) -> Mapping[int, str]:
        """Draw all jobs of a multirun as one plan; return what failed, by job number."""
        from hydra.core.hydra_config import HydraConfig

        return self._run(jobs, HydraConfig.get().sweep.dir)

    def _run(self, jobs: Sequence[Job], hydra_folder: str) -> Mapping[int, str]:
        from promptlab.flow.sweep import Invocation, errors_by_job, run_sweep

        invocation = Invocation(
            argv=self.arguments,
            is_plan_only=self.is_plan_only,
            run_folder=self.run_folder or _chosen_folder(hydra_folder),
            retry_failed=self.retry_failed,
            lineage=self.lineage,
        )
        outcome = run_sweep(jobs, invocation)
        self.has_failed_images |= outcome.counts is not None and outcome.counts.failed > 0
        return errors_by_job(outcome)


def _chosen_folder(hydra_folder: str) -> str | None:
    """Return Hydra's output folder if the user set it: then it is the run folder."""
    return None if hydra_folder == scratch_folder() else hydra_folder
