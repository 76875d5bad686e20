"""`promptlab sweep`: Hydra's command line on promptlab's configs, and a few flags of our own.

Takes arguments, returns an exit code. Everything that Hydra knows (-m, --cfg, --info, +sweeps=,
quoting, config groups) passes through; the flags below are taken out first.
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from promptlab.configs.overrides import prepare_arguments
from promptlab.configs.vocabulary import root_keys
from promptlab.errors import PromptlabError, StoreError

if TYPE_CHECKING:
    from promptlab.configs.settings import Job
    from promptlab.planning.plan import Plan
    from promptlab.verdicts.lineage import Lineage

VERSION_BASE = "1.3"


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
    run_hydra(task, prepare(overrides))
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
    from promptlab.verdicts.lineage import Lineage, find_parents
    from promptlab.verdicts.picks import picked_images

    picked = [(image.cell_id, image.image_id) for image in picked_images(run_folder)]
    plan, jobs = plan_of_run(run_folder)
    parents = find_parents(plan, jobs, picked, run_folder)
    changed = {override.lstrip("+~").partition("=")[0] for override in overrides}
    return Lineage(parents, frozenset(changed))


def plan_of_run(run_folder: str) -> tuple[Plan, list[Job]]:
    """Return the plan and the jobs that a run's recorded command stands for."""
    from promptlab.configs.settings import settings_from_jobs
    from promptlab.planning.expand import expand

    flags, recorded = split_flags(recorded_arguments(run_folder))
    collector = JobCollector()
    if flags.from_picks is not None:  # picks of picks
        collector.bases = lineage_of_picks(flags.from_picks, recorded).bases
        recorded = ["--multirun", *recorded]
    run_hydra(collector, prepare(recorded))
    settings = settings_from_jobs(collector.jobs)
    plan = expand(collector.jobs, dataclasses.replace(settings, limit=sys.maxsize))
    return plan, collector.jobs


def prepare(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as Hydra has to get them."""
    return open_slots(prepare_arguments(overrides_last(arguments)))


def overrides_last(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with all flags first: Hydra's parser takes overrides in one piece."""
    from hydra._internal.utils import get_args_parser

    overrides = get_args_parser().parse_known_intermixed_args(list(arguments))[0].overrides
    flags = list(arguments)
    for override in overrides:
        flags.remove(override)
    return [*flags, *overrides]


def open_slots(arguments: Sequence[str]) -> list[str]:
    """Let slots and parameters be set whichever template and model are chosen.

    Hydra composes once without the choices that vary (template=cctv,dashcam), and would not know
    the keys that these bring. `++` sets a key whether it is there or not; one that no template
    and no model of a job knows is refused by the plan.
    """
    known = root_keys()
    return [
        f"++{argument}" if argument.partition("=")[0] in known and "=" in argument else argument
        for argument in arguments
    ]


def recorded_arguments(run_folder: str) -> list[str]:
    """Return the arguments of the command that began a run."""
    from promptlab.store import read_run

    recorded = read_run(run_folder).record.argv
    if recorded is None:
        raise StoreError(f"{run_folder} does not say which command began it (sweep.yaml, argv).")
    return list(map(str, recorded))


class JobCollector:
    """A task that draws nothing: it keeps the jobs that a command line stands for."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.bases: tuple[tuple[str, ...], ...] = ()

    def __call__(self, config: Any) -> None:
        """Keep the single job of a run without --multirun."""
        from hydra.core.hydra_config import HydraConfig

        from promptlab.configs.compose import job_from_config

        self.jobs = [job_from_config(config, HydraConfig.get())]

    def run_jobs(self, jobs: Sequence[Job]) -> Mapping[int, str]:
        """Keep all jobs of a multirun."""
        self.jobs = list(jobs)
        return {}


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
        self.bases = lineage.bases if lineage else ()  # see promptlab.configs.launcher
        self.has_failed_images = False  # now, or left over from an earlier time

    def __call__(self, config: Any) -> None:
        """Draw the single job of a run without --multirun."""
        from hydra.core.hydra_config import HydraConfig

        from promptlab.configs.compose import job_from_config

        hydra_config = HydraConfig.get()
        try:
            errors = self._run([job_from_config(config, hydra_config)], hydra_config.run.dir)
            for error in errors.values():
                raise PromptlabError(error)
        except Exception:
            # Hydra would print a line of its own before ours; `_command_line` gives stderr back.
            sys.stderr = io.StringIO()
            raise

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


@cache
def scratch_folder() -> str:
    """Return a folder for the files that Hydra insists on writing before the plan is known.

    The run folder depends on the plan (an earlier run may go on), and sweep.yaml in it says all
    that Hydra's files do.
    """
    folder = tempfile.mkdtemp(prefix="promptlab-hydra-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def run_hydra(task: Any, arguments: Sequence[str]) -> None:
    """Run a task under Hydra with promptlab's configs, errors explained."""
    import hydra
    from omegaconf import OmegaConf

    from promptlab.configs.explain import explained_errors
    from promptlab.configs.locations import packaged_conf

    OmegaConf.register_new_resolver("promptlab_scratch", scratch_folder, replace=True)
    decorate = hydra.main(
        config_path=packaged_conf(), config_name="promptlab", version_base=VERSION_BASE
    )
    with explained_errors(), _command_line(arguments):
        decorate(task)()


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Give Hydra its arguments, and let its exceptions reach us instead of being printed."""
    argv, stderr, full_error = sys.argv, sys.stderr, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["promptlab", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv, sys.stderr = argv, stderr
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
