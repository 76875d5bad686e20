"""A package's public names, each loaded when it is first used.

Takes the package's name and the module of each name; returns the package's `__getattr__`. So a
verb that only reads does not wait for the imports that writing needs. Knows no room.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def load_lazily(package: str, module_from_name: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the module-level `__getattr__` (PEP 562) of a package that gives these names."""

    def load(name: str) -> Any:
        if name not in module_from_name:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module_from_name[name]}"), name)

    return load
