"""`promptlab sweep`: Hydra's command line on promptlab's configs, and a few flags of our own.

Takes arguments, returns an exit code. Everything that Hydra knows (-m, --cfg, --info, +sweeps=,
quoting, config groups) passes through; the flags below are taken out first.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from promptlab.configs.hydra_app import run_hydra, scratch_folder
from promptlab.errors import ConfigError, PromptlabError

if TYPE_CHECKING:
    from promptlab.configs.settings import Job
    from promptlab.flow.sweep import Invocation
    from promptlab.verdicts.lineage import Lineage


def run_arguments(arguments: Sequence[str]) -> int:
    """Run a sweep as its command line says, and the steps that its config has after it."""
    return draw_arguments(arguments)[0]


def draw_arguments(
    arguments: Sequence[str], invocation: Invocation | None = None
) -> tuple[int, str]:
    """Run a sweep as its command line says; return its exit code and its run folder.

    With steps after it, the exit code is that of all. `invocation` holds what no command line says.
    """
    from promptlab.commands import chain
    from promptlab.flow.earlier import lineage_of_picks, recorded_arguments, split_flags
    from promptlab.flow.varying import bases_of_images

    flags, overrides = split_flags(arguments)
    picks_folder, image_ids = flags.from_picks, flags.from_images
    folder = flags.resume or flags.retry_failed
    if folder is not None:
        recorded_flags, recorded = split_flags(recorded_arguments(folder, overrides))
        picks_folder, image_ids = recorded_flags.from_picks, recorded_flags.from_images
        overrides = [*recorded, *overrides]
    lineage = None
    bases: Sequence[Sequence[str]] = ()
    argv = overrides
    if picks_folder is not None:
        lineage = lineage_of_picks(picks_folder, overrides)
        argv = ["--from-picks", picks_folder, *overrides]
        overrides = ["--multirun", *overrides]  # one job a picked cell, however many
        bases = lineage.bases
    if image_ids is not None:
        argv = ["--from-images", image_ids, *overrides]
        bases, own = bases_of_images(image_ids, overrides)
        overrides = ["--multirun", *own]
    retry_failed = flags.retry_failed is not None
    task = SweepTask(argv, flags.plan, folder, retry_failed, lineage, bases, invocation)
    try:
        run_hydra(task, overrides, ["--plan"] if flags.plan else [])
    except ConfigError as error:
        raise ConfigError(f"{error}{_hint_on_folder(folder)}") from error
    if task.has_failed_images:
        return 1, task.drawn_folder
    if task.steps and task.drawn_folder:
        return chain.follow(task.steps, task.drawn_folder, task.runs_dir, argv), task.drawn_folder
    return 0, task.drawn_folder


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
        bases: Sequence[Sequence[str]] = (),
        invocation: Invocation | None = None,
    ) -> None:
        self.arguments = tuple(arguments)
        self.is_plan_only = is_plan_only
        self.run_folder = run_folder
        self.retry_failed = retry_failed
        self.lineage = lineage
        self.bases = bases  # overrides before each job's own, once each
        self.invocation = invocation
        self.steps: Sequence[Sequence[str]] = ()  # after the sweep
        self.drawn_folder = ""  # "": nothing was drawn
        self.runs_dir = "runs"
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
        from promptlab.commands.chain import read_steps
        from promptlab.configs.settings import settings_from_jobs
        from promptlab.flow.sweep import Invocation, run_sweep

        settings = settings_from_jobs(jobs)
        self.steps, self.runs_dir = read_steps(settings.then), settings.runs_dir
        given = self.invocation or Invocation()
        invocation = replace(
            given,
            argv=self.arguments,
            is_plan_only=self.is_plan_only,
            run_folder=self.run_folder or given.run_folder or _chosen_folder(hydra_folder),
            retry_failed=self.retry_failed,
            lineage=self.lineage,
        )
        outcome = run_sweep(jobs, invocation)
        self.drawn_folder = outcome.paths.root if outcome.paths else ""
        self.has_failed_images |= outcome.counts is not None and outcome.counts.failed > 0
        return outcome.errors


def _chosen_folder(hydra_folder: str) -> str | None:
    """Return Hydra's output folder if the user set it: then it is the run folder."""
    return None if hydra_folder == scratch_folder() else hydra_folder
