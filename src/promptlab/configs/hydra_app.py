"""Starts Hydra on promptlab's configs: for a task of the command line, or for the jobs alone.

Takes a command's arguments, returns nothing or its jobs. Does what `hydra.main` does, but leaves
the process as it was: it changes neither sys.argv (except for completion) nor the environment,
never exits on an error, and restores Hydra's global state. Knows neither promptlab's own flags nor
what jobs are for.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from promptlab.configs.explain import explained_errors
from promptlab.configs.locations import packaged_conf
from promptlab.configs.misread import check_flags, check_words
from promptlab.configs.overrides import open_slots, overrides_last, prepare_arguments
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

    from promptlab.configs.launcher import JobTask
    from promptlab.configs.settings import Job

VERSION_BASE = "1.3"
CONFIG_NAME = "promptlab"


def run_hydra(task: JobTask, arguments: Sequence[str], own_flags: Sequence[str] = ()) -> None:
    """Run a task as a command line asks, or print what it wants to see: --help, --cfg, --info.

    `own_flags` were taken out of it before; they are part of the commands that errors advise.
    """
    with _hydra_for(arguments, own_flags) as (hydra, args, parser):
        name = args.config_name or CONFIG_NAME
        if args.help:
            hydra.app_help(config_name=name, args_parser=parser, args=args)
        elif args.hydra_help:
            hydra.hydra_help(config_name=name, args_parser=parser, args=args)
        elif args.cfg:
            hydra.show_cfg(name, args.overrides, args.cfg, args.package, args.resolve)
        elif args.shell_completion:
            _complete(hydra, name, args.overrides)
        elif args.info is not None:
            hydra.show_info(args.info, config_name=name, overrides=args.overrides)
        elif args.experimental_rerun is not None:
            from hydra.main import _get_rerun_conf

            task(_get_rerun_conf(args.experimental_rerun, args.overrides))
        elif (config := _compose_single(hydra, name, args)) is None:
            hydra.multirun(name, task, args.overrides)
        else:
            _run_single(hydra, name, task, config)


def compose_jobs(arguments: Sequence[str], bases: Sequence[Sequence[str]] = ()) -> list[Job]:
    """Return the jobs that a command line stands for; nothing is run, written or logged.

    `bases` are overrides put before each job's own, once each. Raises ConfigError, also for a
    sweeper that decides on its jobs as it goes.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from promptlab.configs.compose import ComposingLoader, job_from_config
    from promptlab.configs.launcher import combine, split_jobs

    flags = ["--multirun"] if bases else []
    with _hydra_for([*flags, *arguments]) as (hydra, args, _):
        name = args.config_name or CONFIG_NAME
        single = _compose_single(hydra, name, args)
        if single is not None:
            HydraConfig.instance().set_config(single)
            return [job_from_config(single, single.hydra)]
        config = hydra.compose_config(
            name, args.overrides, RunMode.MULTIRUN, with_log_configuration=False
        )
        HydraConfig.instance().set_config(config)
        loader = ComposingLoader(hydra.config_loader, config)
        own = split_jobs(config, loader)
        return [loader.compose_job(n, job) for n, job in enumerate(combine(bases, own))]


@cache
def scratch_folder() -> str:
    """Return a folder for the files that Hydra insists on writing before the plan is known.

    The run folder depends on the plan (an earlier run may be resumed), and sweep.yaml in it says
    all that Hydra's files do.
    """
    folder = tempfile.mkdtemp(prefix="promptlab-hydra-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def _hydra_for(
    arguments: Sequence[str], own_flags: Sequence[str] = ()
) -> Iterator[tuple[Hydra, argparse.Namespace, argparse.ArgumentParser]]:
    """Open Hydra for a command line, its overrides prepared; its errors are explained."""
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path, get_args_parser
    from omegaconf import OmegaConf

    from promptlab.configs.read_once import read_files_once

    with _hydra_restored(), explained_errors():
        version.setbase(VERSION_BASE)
        parser = get_args_parser()
        parser.prog = "promptlab sweep"
        typed, whole = overrides_last(arguments), [*own_flags, *arguments]
        args, unknown = parser.parse_known_args(typed)
        check_flags(whole, unknown)
        _check_together(args)
        if not args.shell_completion:  # its arguments are a shell's, no overrides
            check_words(whole, args.overrides)
        prepared = prepare_arguments([*own_flags, *typed])[len(own_flags) :]
        args = parser.parse_args(prepared)
        OmegaConf.register_new_resolver("promptlab_scratch", scratch_folder, replace=True)
        search_path = create_config_search_path(args.config_path or packaged_conf())
        if args.config_dir is not None:
            if not os.path.isdir(args.config_dir):
                raise ConfigError(f"--config-dir {args.config_dir}: expected a folder of configs.")
            folder = f"file://{os.path.abspath(args.config_dir)}"
            search_path.prepend("command-line", folder, anchor="schema")
        hydra = Hydra.create_main_hydra2("sweep", search_path)
        read_files_once(hydra.config_loader)
        if not args.shell_completion:
            args.overrides = open_slots(args.overrides, hydra.config_loader)
        yield hydra, args, parser


def _check_together(args: argparse.Namespace) -> None:
    flags = {
        "--run": args.run,
        "--multirun": args.multirun,
        "--cfg": args.cfg,
        "--info": args.info is not None,
        "--shell-completion": args.shell_completion,
    }
    given = [flag for flag, is_given in flags.items() if is_given]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: expected one of {', '.join(flags)}.")
    if args.resolve and not (args.cfg or args.help):
        raise ConfigError("--resolve: expected together with --cfg or --help.")


@contextmanager
def _hydra_restored() -> Iterator[None]:
    """Restore Hydra's global state: its configs, resolvers and version."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import JobRuntime
    from hydra.version import VersionBase
    from omegaconf.basecontainer import BaseContainer

    app, config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    version_base, runtime = VersionBase.instance().version_base, JobRuntime.instance().conf
    resolvers = dict(BaseContainer._resolvers)
    GlobalHydra.instance().clear()
    JobRuntime.instance().conf = runtime.copy()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = app
        HydraConfig.instance().cfg = config
        VersionBase.instance().version_base = version_base
        JobRuntime.instance().conf = runtime
        BaseContainer._resolvers.clear()
        BaseContainer._resolvers.update(resolvers)


def _compose_single(hydra: Hydra, name: str, args: argparse.Namespace) -> DictConfig | None:
    """Return the config of the only job, or None for a sweep, and tell Hydra which of them it is.

    It is a sweep by the flag, or by `hydra.mode` of a named sweep.
    """
    from hydra.types import RunMode

    if args.multirun:
        args.overrides.append("hydra.mode=MULTIRUN")
        return None
    try:
        config: DictConfig = hydra.compose_config(
            name, args.overrides, RunMode.RUN, with_log_configuration=False
        )
    except Exception:  # a sweep's `key=a,b` is none of a single job's values
        if hydra.get_mode(config_name=name, overrides=args.overrides) == RunMode.MULTIRUN:
            return None
        raise
    if config.hydra.mode == RunMode.MULTIRUN:
        return None
    config.hydra.mode = RunMode.RUN
    return config


def _complete(hydra: Hydra, name: str, arguments: list[str]) -> None:
    """Answer a shell; Hydra takes the name of the completed program from sys.argv."""
    argv, sys.argv = sys.argv, ["promptlab"]
    try:
        hydra.shell_completion(config_name=name, overrides=arguments)
    except ValueError as error:
        raise ConfigError(f"-sc {' '.join(arguments)}: {error}.") from error
    finally:
        sys.argv = argv


def _run_single(hydra: Hydra, name: str, task: JobTask, config: DictConfig) -> None:
    """Do what `Hydra.run` does, but raise what the task raised without logging it first."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.utils import JobStatus, configure_log, run_job
    from hydra.types import HydraContext

    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name=name)
    done = run_job(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
        task_function=task,
        config=config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    callbacks.on_run_end(config=config, config_name=name, job_return=done)
    if done.status is JobStatus.FAILED:
        raise done._return_value
