"""`promptlab sweep`: Hydra's command line on promptlab's configs, and a few flags of our own.

Takes arguments, returns an exit code. Everything that Hydra knows (-m, --cfg, --info, +sweeps=,
quoting, config groups) passes through; the flags below are taken out first.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from promptlab.configs.hydra_app import compose_jobs, run_hydra, scratch_folder
from promptlab.errors import PromptlabError, StoreError

if TYPE_CHECKING:
    from promptlab.configs.settings import Job
    from promptlab.planning.plan import Plan
    from promptlab.verdicts.lineage import Lineage


def run_arguments(arguments: Sequence[str]) -> int:
    """Run a sweep as its command line says."""
    flags, overrides = split_flags(arguments)
    picks_folder = flags.from_picks
    folder = flags.resume or flags.retry_failed
    if folder is not None:
        recorded_flags, recorded = split_flags(recorded_arguments(folder))
        picks_folder = recorded_flags.from_picks
        overrides = [*recorded, *overrides]
    lineage = None
    argv = overrides
    if picks_folder is not None:
        lineage = lineage_of_picks(picks_folder, overrides)
        argv = ["--from-picks", picks_folder, *overrides]
        overrides = ["--multirun", *overrides]  # one job a picked cell, however many
    task = SweepTask(argv, flags.plan, folder, flags.retry_failed is not None, lineage)
    run_hydra(task, overrides)
    return 1 if task.has_failed_images else 0


def split_flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Take promptlab's own flags out; return them and what is left for Hydra."""
    parser = argparse.ArgumentParser(prog="promptlab sweep", add_help=False, allow_abbrev=False)
    parser.add_argument("--plan", action="store_true")
    folders = parser.add_mutually_exclusive_group()
    folders.add_argument("--resume", metavar="RUN")
    folders.add_argument("--retry-failed", metavar="RUN")
    folders.add_argument("--from-picks", metavar="RUN")
    return parser.parse_known_args(list(arguments))


def lineage_of_picks(run_folder: str, overrides: Sequence[str]) -> Lineage:
    """Return what a sweep from a run's picks descends from."""
    from promptlab.store import read_run
    from promptlab.verdicts.lineage import Lineage, find_parents
    from promptlab.verdicts.picks import picked_images

    picked = [(image.cell_id, image.image_id) for image in picked_images(run_folder)]
    plan, jobs = plan_of_run(run_folder)
    seeds: dict[str, list[int]] = {}
    for row in read_run(run_folder).rows(["cell_id", "seed"]):
        seeds.setdefault(row["cell_id"], []).append(row["seed"])
    parents = find_parents(plan, jobs, picked, seeds, run_folder)
    changed = {override.lstrip("+~").partition("=")[0] for override in overrides}
    return Lineage(parents, frozenset(changed))


def plan_of_run(run_folder: str) -> tuple[Plan, list[Job]]:
    """Return the plan and the jobs that a run's recorded command stands for."""
    from promptlab.configs.settings import settings_from_jobs
    from promptlab.planning.expand import expand

    flags, recorded = split_flags(recorded_arguments(run_folder))
    bases: Sequence[Sequence[str]] = ()
    if flags.from_picks is not None:  # picks of picks
        bases = lineage_of_picks(flags.from_picks, recorded).bases
    jobs = compose_jobs(recorded, bases)
    settings = settings_from_jobs(jobs)
    return expand(jobs, dataclasses.replace(settings, limit=sys.maxsize)), jobs


def recorded_arguments(run_folder: str) -> list[str]:
    """Return the arguments of the command that began a run."""
    from promptlab.store import read_run

    recorded = read_run(run_folder).record.argv
    if recorded is None:
        raise StoreError(f"{run_folder} does not say which command began it (sweep.yaml, argv).")
    return list(map(str, recorded))


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
