"""promptlab's plugins for Hydra: where configs are found, how jobs are enumerated and launched.

Hydra imports this module at every start of any Hydra application and requires that the classes
be defined here, so it is thin: the work is in `promptlab.configs.launcher`, imported inside
`launch`. Applications other than promptlab may use the launcher too; it then runs ordinary jobs
one by one as Hydra's basic launcher does.

Hydra runs the module without registering it in sys.modules, where dataclasses would look up
postponed annotations: hence no `from __future__ import annotations`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class PromptlabLauncherConf:
    """The config of hydra/launcher=promptlab."""

    _target_: str = "hydra_plugins.promptlab_launcher.PromptlabLauncher"


@dataclass
class PromptlabSweeperConf(BasicSweeperConf):
    """The config of hydra/sweeper=promptlab: that of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.promptlab_launcher.PromptlabSweeper"


_store = ConfigStore.instance()
_store.store(
    group="hydra/launcher", name="promptlab", node=PromptlabLauncherConf, provider="promptlab"
)
_store.store(
    group="hydra/sweeper", name="promptlab", node=PromptlabSweeperConf, provider="promptlab"
)


class PromptlabLauncher(BasicLauncher):
    """Hands all jobs of a multirun at once to a task that can take them (a JobTask)."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the arguments; a promptlab sweep also gets the fast config loader."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        from promptlab.configs.launcher import JobTask

        if isinstance(task_function, JobTask):
            from promptlab.configs.compose import ComposingLoader

            loader: Any = ComposingLoader(hydra_context.config_loader, config)
            hydra_context.config_loader = loader

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Draw all jobs as one plan, or run ordinary jobs one by one."""
        from promptlab.configs.launcher import JobTask, launch

        if not isinstance(self.task_function, JobTask):
            return super().launch(job_overrides, initial_job_idx)
        assert self.hydra_context is not None
        assert self.config is not None
        return launch(
            self.hydra_context, self.config, self.task_function, job_overrides, initial_job_idx
        )


class PromptlabSweeper(BasicSweeper):
    """Hydra's basic sweeper without its trial composition of every job.

    The launcher composes all jobs before the first is drawn, so a job that cannot be composed is
    found as early, at half the time.
    """

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Enumerate the jobs, unless they are too many; globs reach into sub-groups."""
        from promptlab.configs.launcher import split_overrides

        is_ours = isinstance(self.launcher, PromptlabLauncher)
        return split_overrides(overrides, max_batch_size, self.config if is_ours else None)

    def _parse_config(self) -> list[str]:
        """Return `hydra.sweeper.params`, read as overrides of the command line are."""
        from promptlab.configs.launcher import read_params

        assert self.hydra_context is not None
        return read_params(self.params, self.hydra_context.config_loader)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leave the composition to the launcher, unless another launcher was chosen."""
        if not isinstance(self.launcher, PromptlabLauncher):
            super().validate_batch_is_legal(batch)


class ProjectConfigSource(FileConfigSource):
    """A project's conf/: texts as written, hidden files left out, tables of styles as groups."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of its search path entries."""
        return "promptlab-conf"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file, or a row of a table of styles."""
        from promptlab.configs.own_files import keep_texts, read_utf8, style_of

        style = style_of(Path(self.path), config_path)
        if style is not None:
            return ConfigResult(
                self.provider, self.full_path(), OmegaConf.create(dict(style)), {"package": None}
            )
        text = read_utf8(Path(self.path, self._normalize_file_name(config_path)))
        result = super().load_config(config_path)
        keep_texts(result.config, text)
        return result

    def file_of(self, config_path: str) -> str | None:
        """Return the file that holds nothing but this config, if there is one."""
        from promptlab.configs.own_files import style_of

        file = os.path.join(self.path, self._normalize_file_name(config_path))
        is_alone = os.path.isfile(file) and style_of(Path(self.path), config_path) is None
        return file if is_alone else None

    def is_group(self, config_path: str) -> bool:
        """Tell whether the path is a folder, or a table of styles."""
        from promptlab.configs.own_files import table_of

        table = table_of(Path(self.path), config_path)
        return super().is_group(config_path) or (table is not None and not table[1])

    def is_config(self, config_path: str) -> bool:
        """Tell whether the path is a file, or a row of a table of styles."""
        from promptlab.configs.own_files import style_of

        return super().is_config(config_path) or style_of(Path(self.path), config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List a folder or a table of styles."""
        from promptlab.configs.own_files import is_hidden, read_styles, table_of

        table = table_of(Path(self.path), config_path)
        if table is not None and not table[1]:
            return [] if results_filter == ObjectType.GROUP else sorted(read_styles(table[0]))
        found: list[str] = []
        for name in os.listdir(os.path.join(self.path, config_path)):
            stem, suffix = os.path.splitext(name)
            if suffix == ".csv" and self.is_group(os.path.join(config_path, stem)):
                name = stem
            if not is_hidden(name):
                self._list_add_result(found, os.path.join(config_path, name), name, results_filter)
        return sorted(set(found))

    def full_path(self) -> str:
        """Return where its configs come from, for people."""
        return f"{self.scheme()}://{self.path}"


class SweepsConfigSource(ProjectConfigSource):
    """Shows a folder of named sweeps as the config group `sweeps`, and nothing else."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of its search path entries."""
        return "promptlab-sweeps"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load sweeps/NAME."""
        return super().load_config(_inside_sweeps(config_path) or "")

    def file_of(self, config_path: str) -> str | None:
        """Return the file of sweeps/NAME."""
        return super().file_of(_inside_sweeps(config_path) or "")

    def is_group(self, config_path: str) -> bool:
        """Tell whether the path is `sweeps` or a folder below it."""
        inside = _inside_sweeps(config_path)
        return config_path == "" or (inside is not None and super().is_group(inside))

    def is_config(self, config_path: str) -> bool:
        """Tell whether the path is a sweep."""
        inside = _inside_sweeps(config_path)
        return inside is not None and super().is_config(inside)

    def available(self) -> bool:
        """Tell whether the folder exists."""
        return os.path.isdir(self.path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the sweeps, or the group itself at the top."""
        from promptlab.configs.own_files import is_hidden

        if config_path == "":
            return [] if results_filter == ObjectType.CONFIG else ["sweeps"]
        found: list[str] = []
        for name in os.listdir(os.path.join(self.path, _inside_sweeps(config_path) or "")):
            if not is_hidden(name):
                self._list_add_result(found, f"{config_path}/{name}", name, results_filter)
        return sorted(set(found))


def _inside_sweeps(config_path: str) -> str | None:
    group, _, inside = config_path.replace(os.sep, "/").partition("/")
    return inside if group == "sweeps" else None


class PromptlabSearchPath(SearchPathPlugin):
    """Puts conf/ and sweeps/ of the working directory before the packaged ones.

    Acts only when promptlab's own conf/ is the application's main config folder.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders that exist."""
        entries = search_path.get_path()
        main = next((entry.path for entry in entries if entry.provider == "main"), None)
        if main is None or not os.path.isabs(main):
            return
        from promptlab.configs.locations import packaged_conf, packaged_sweeps

        if os.path.realpath(main) != os.path.realpath(packaged_conf()):
            return
        for folder, source in (("conf", ProjectConfigSource), ("sweeps", SweepsConfigSource)):
            path = os.path.abspath(folder)
            packaged = packaged_conf() if folder == "conf" else packaged_sweeps()
            if os.path.isdir(path) and os.path.realpath(path) != os.path.realpath(packaged):
                search_path.prepend("project", f"{source.scheme()}://{path}", anchor="main")
        search_path.append("promptlab", f"{SweepsConfigSource.scheme()}://{packaged_sweeps()}")
