"""Composes thousands of Hydra jobs quickly, equal to stock composition.

Takes Hydra's own config loader and the multirun's master config; returns plain dicts, one a job.
Does not know what the configs mean.

The defaults list of a job depends on its config group choices only. So the config is composed
once per distinct choice by Hydra itself, and the job's plain value overrides are applied on top:
directly where that is a plain replacement, by Hydra's own function otherwise. A config that looks
at the `hydra` node goes all the way through Hydra, job by job.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from promptlab.configs.read_once import FilesReadOnce
from promptlab.configs.settings import Job, with_node_inputs

NO_CHOICE = "none"  # an option of this name is never part of a glob


@dataclass(frozen=True)
class _Base:
    """What one combination of config group choices composes to."""

    config: DictConfig  # without the hydra node, struct mode as Hydra left it
    values: Mapping[str, Any]  # the same, unresolved
    choices: Mapping[str, str | None]
    has_interpolations: bool
    looks_at_hydra: bool


class ComposingLoader:
    """Hydra's config loader, with a short cut for jobs and globs that see every search path."""

    def __init__(self, stock: ConfigLoader, master: DictConfig) -> None:
        self._stock = stock
        self._master = master
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._groups: dict[str, bool] = {}
        self._bases: dict[tuple[str, ...], _Base] = {}
        self._files: CachingConfigRepository | None = None

    def compose_job(self, number: int, overrides: Sequence[str]) -> Job:
        """Return one job's config; raises what Hydra would raise."""
        parsed = [self._parse(override) for override in overrides]
        choices = [override for override in parsed if self._is_choice(override)]
        values = [override for override in parsed if not self._is_choice(override)]
        base = self._base(tuple(str(override.input_line) for override in choices))
        config: Mapping[str, Any] | None = _replace_values(base, values)
        if config is None:
            config = self._apply_values(base, values, number, overrides)
        return Job(
            number=number,
            overrides=tuple(overrides),
            values={
                override.key_or_group: base.choices[override.key_or_group]
                if override.key_or_group in base.choices
                else _select(config, override.key_or_group)
                for override in parsed
            },
            config=with_node_inputs(config),
            choices=base.choices,
        )

    def _parse(self, override: str) -> Override:
        parsed = self._parsed.get(override)
        if parsed is None:
            parsed = self._parsed[override] = self._parser.parse_override(override)
            ConfigLoaderImpl.validate_sweep_overrides_legal(
                [parsed], run_mode=RunMode.RUN, from_shell=True
            )
        return parsed

    def _is_choice(self, override: Override) -> bool:
        """Tell whether Hydra reads the override as a config group choice (or as its own config)."""
        key = override.key_or_group
        if key not in self._groups:
            self._groups[key] = bool(self._options(key, None))
        is_group = self._groups[key] and not isinstance(override.value(), dict)
        return is_group or override.is_hydra_override() or override.package is not None

    def _base(self, choices: tuple[str, ...]) -> _Base:
        base = self._bases.get(choices)
        if base is None:
            try:
                config, chosen = self._compose_without_hydra(choices)
            except (AttributeError, TypeError):  # another Hydra than those tested
                config, chosen = _split(self._stock.load_sweep_config(self._master, list(choices)))
            values = OmegaConf.to_container(config, resolve=False)
            assert isinstance(values, dict)
            text = repr(values)
            plain = {str(key): value for key, value in values.items()}
            base = _Base(config, plain, chosen, "${" in text, "hydra" in text and "${" in text)
            self._bases[choices] = base
        return base

    def _compose_without_hydra(
        self, choices: tuple[str, ...]
    ) -> tuple[DictConfig, dict[str, str | None]]:
        """Compose as Hydra does, but for its own node.

        Hydra's node is three quarters of a composition's time, and none of a cell's meaning.
        """
        stock, files = self._stock, self._all_files()
        copies: Any = files.delegate  # Hydra merges into what it composes from
        assert isinstance(stock, ConfigLoaderImpl)
        hydra_overrides = list(self._master.hydra.overrides.hydra)
        parsed = [self._parse(override) for override in (*hydra_overrides, *choices)]
        found = create_defaults_list(
            repo=files,
            config_name=self._master.hydra.job.config_name,
            overrides_list=parsed,
            prepend_hydra=True,
            skip_missing=False,
        )
        own = [d for d in found.defaults if not (d.config_path or "").startswith("hydra/")]
        config = stock._compose_config_from_defaults_list(own, copies)
        with open_dict(config):
            config.pop("hydra", None)
        OmegaConf.set_struct(config, True)
        return config, dict(found.overrides.known_choices)

    def _all_files(self) -> CachingConfigRepository:
        """Return the files of all search paths, those of `hydra.searchpath` included."""
        if self._files is None:
            stock = self._stock
            assert isinstance(stock, ConfigLoaderImpl)
            files = CachingConfigRepository(FilesReadOnce(stock.config_search_path))
            of_hydra = [self._parse(override) for override in self._master.hydra.overrides.hydra]
            stock._process_config_searchpath(self._master.hydra.job.config_name, of_hydra, files)
            self._files = files
        return self._files

    def _apply_values(
        self, base: _Base, values: Sequence[Override], number: int, overrides: Sequence[str]
    ) -> Mapping[str, Any]:
        """Apply value overrides with Hydra's own function, or compose the whole job with Hydra."""
        if base.looks_at_hydra or any("${" in str(o.input_line) for o in values):
            return self._compose_with_hydra(number, overrides)
        config = copy.deepcopy(base.config)
        OmegaConf.copy_cache(self._master, config)
        try:
            ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
        except OmegaConfBaseException as error:
            raise ConfigCompositionException(str(error)) from error
        return _resolved(config)

    def _compose_with_hydra(self, number: int, overrides: Sequence[str]) -> Mapping[str, Any]:
        config = self._stock.load_sweep_config(self._master, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        from hydra.core.hydra_config import HydraConfig

        previous = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)
        try:
            resolved = _resolved(config, without="hydra")
        finally:
            HydraConfig.instance().cfg = previous
        return resolved

    def _options(self, group: str, results_filter: ObjectType | None) -> list[str]:
        try:
            return self._all_files().get_group_options(group, results_filter)
        except (AttributeError, TypeError):  # another Hydra than those tested
            name, overrides = self._master.hydra.job.config_name, self._master.hydra.overrides.hydra
            return self._stock.get_group_options(group, results_filter, name, list(overrides))

    def __getattr__(self, name: str) -> Any:
        """Return what Hydra's own loader has: all of its interface but for the glob."""
        return getattr(self._stock, name)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """List a group's options as a glob sees them.

        Hydra 1.3 asks without config name and overrides and so misses `hydra.searchpath`.
        """
        options = self._options(group_name, results_filter)
        return [option for option in options if option != NO_CHOICE]


def job_from_config(config: DictConfig, hydra_config: Any) -> Job:
    """Return the one job of a run without --multirun, as Hydra composed it."""
    written = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    assert isinstance(written, list)
    overrides = tuple(str(override) for override in written)
    choices = {str(group): choice for group, choice in hydra_config.runtime.choices.items()}
    plain = with_node_inputs(_resolved(config, without="hydra"))
    return Job(0, overrides, {}, plain, choices)


def _split(composed: DictConfig) -> tuple[DictConfig, dict[str, str | None]]:
    choices = OmegaConf.to_container(composed.hydra.runtime.choices)
    assert isinstance(choices, dict)
    with read_write(composed), open_dict(composed):
        del composed["hydra"]
    return composed, {str(group): choice for group, choice in choices.items()}


def _replace_values(base: _Base, overrides: Sequence[Override]) -> dict[str, Any] | None:
    """Return the config with plain replacements done, or None if anything is more than that."""
    if base.has_interpolations:
        return None
    config = dict(base.values)
    for override in overrides:
        key, value = override.key_or_group, override.value()
        is_new = key not in config and override.type is not OverrideType.FORCE_ADD
        if (
            override.type not in (OverrideType.CHANGE, OverrideType.FORCE_ADD)
            or is_new
            or "." in key
            or "[" in key
            or isinstance(config.get(key), dict)
            or not isinstance(value, str | int | float | bool | None)
            or (isinstance(value, str) and ("${" in value or value == "???"))
        ):
            return None
        config[key] = value
    return config


def _resolved(config: DictConfig, without: str | None = None) -> dict[str, Any]:
    """Return the config as plain values; what `without` names is looked at but left out."""
    resolved = {}
    for key in config:
        if key != without:
            # Key by key: interpolations into the part left out still find it.
            value = None if OmegaConf.is_missing(config, key) else config[key]
            is_node = OmegaConf.is_config(value)
            resolved[str(key)] = OmegaConf.to_container(value, resolve=True) if is_node else value
    return resolved


def _select(config: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, None where there is none."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
