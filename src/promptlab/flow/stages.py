"""The stages that have options of their own, and what a sweep asks of each.

Takes the sweep's settings, returns each stage's checked options. A new group of options is its
line here, its key in `promptlab.configs.settings.KEYS`, and its block in conf/promptlab.yaml, or
its group in conf/ where there are kinds to choose from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from promptlab.configs.settings import Settings, build_options
from promptlab.report import ReportOptions
from promptlab.store import StoreOptions
from promptlab.tracking import TrackingOptions
from promptlab.workers import WorkerOptions

STAGES: Mapping[str, type[Any]] = {
    "store": StoreOptions,
    "tracking": TrackingOptions,
    "report": ReportOptions,
    "workers": WorkerOptions,
}

Kind = TypeVar("Kind")


class StageOptions:
    """Each stage's options by their type, checked before anything is drawn."""

    def __init__(self, settings: Settings) -> None:
        self._options = {
            kind: build_options(kind, key, _values(kind, settings.stages.get(key, {})))
            for key, kind in STAGES.items()
        }

    def __getitem__(self, kind: type[Kind]) -> Kind:
        options: Kind = self._options[kind]
        return options


def _values(kind: type[Any], values: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a stage's values; null turns a stage off that can be, else it means the defaults."""
    if values is not None:
        return values
    can_be_off = any(field.name == "enabled" for field in dataclasses.fields(kind))
    return {"enabled": False} if can_be_off else {}
