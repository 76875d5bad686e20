"""Config files, each parsed once in a process however many compositions ask for it.

Takes Hydra's config loader and gives it a repository of files that answers as its own does. Every
answer is a copy, because Hydra merges into what it is given. A file that has changed is read again
by the next command. Does not know what the configs mean.
"""

from __future__ import annotations

import copy
import os
import pickle
from importlib import resources
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

_parsed: dict[tuple[str, ...], tuple[object, bytes]] = {}  # with what the file was then


def read_files_once(loader: ConfigLoader) -> None:
    """Let a config loader read each file once; a loader of another Hydra is left as it is."""
    if isinstance(loader, ConfigLoaderImpl):
        loader.repository = FilesReadOnce(loader.config_search_path)


class FilesReadOnce(ConfigRepository):
    """Hydra's repository; a pickle is unpacked in a fiftieth of the time that YAML takes.

    To one repository a file is what it was when first asked for: the jobs of a sweep agree.
    """

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look for configs in the folders of a search path from now on."""
        super().initialize_sources(config_search_path)
        self._packed: dict[str, bytes] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a copy of a config, None where there is none."""
        packed = self._packed.get(config_path)
        if packed is None:
            source = self._find_object_source(config_path, ObjectType.CONFIG)
            if source is None or source.scheme() == "structured":
                return super().load_config(config_path)
            key = (source.scheme(), source.provider, source.path, config_path)
            state = _state(source, config_path)
            known = _parsed.get(key)
            if known is None or state is None or known[0] != state:
                known = state, pickle.dumps(super().load_config(config_path))
                if state is not None:
                    _parsed[key] = known
            packed = self._packed[config_path] = known[1]
        found: ConfigResult = pickle.loads(packed)
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> FilesReadOnce:
        copied = copy.copy(self)
        copied.sources = list(self.sources)  # which keep nothing themselves
        return copied


def _state(source: ConfigSource, config_path: str) -> object:
    """Return what changes whenever a config's file does, None where it comes from no file."""
    # By scheme: Hydra loads its plugins apart from the modules that can be imported here.
    file: str | Path | None = None
    name = source._normalize_file_name(config_path)
    if hasattr(source, "file_of"):  # a source of promptlab's
        file = source.file_of(config_path)
    elif source.scheme() == "file":
        file = os.path.join(source.path, name)
    elif source.scheme() == "pkg":
        found_in_package = resources.files(source.path).joinpath(name)
        file = found_in_package if isinstance(found_in_package, Path) else None
    if file is None:
        return None
    try:
        found = os.stat(file)
    except OSError:  # gone in this moment: reading it says so
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
