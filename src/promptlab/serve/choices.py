"""What a client may choose from: styles, templates and models, as conf/ has them.

Returns plain data for JSON. Reads config files alone, so nothing heavy is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from promptlab.configs.locations import packaged_conf
from promptlab.configs.vocabulary import Option, find_options, opening_comment, read_option
from promptlab.errors import ConfigError

_NO_SLOTS = frozenset({"pattern", "description", "template", "style"})


def list_choices() -> dict[str, Any]:
    """Return styles, templates and models, and what is drawn with unless one is chosen."""
    return {
        "styles": [_pattern("style", option) for option in find_options("style").values()],
        "templates": [_pattern("template", option) for option in find_options("template").values()],
        "models": [_model(option) for option in find_options("model").values()],
        "default": _defaults(),
    }


def model_names() -> list[str]:
    """Return the models that draw from a prompt alone."""
    return [
        option.name for option in find_options("model").values() if not _model(option)["enlarges"]
    ]


def _pattern(group: str, option: Option) -> dict[str, Any]:
    try:
        content = read_option(option)
    except ConfigError as error:
        return {"name": option.name, "pattern": "", "about": str(error), "slots": {}}
    node = content.get(group, content)
    return {
        "name": option.name,
        "pattern": str(node.get("pattern", "")),
        "about": str(node.get("description") or ""),
        "slots": {key: value for key, value in content.items() if key not in _NO_SLOTS},
        "is_own": option.is_own,
    }


def _model(option: Option) -> dict[str, Any]:
    try:
        content = read_option(option)
    except ConfigError:
        content = {}
    node = content.get("model", content)
    target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
    return {
        "name": option.name,
        "about": opening_comment(option),
        "enlarges": ".upscalers." in target,
        "is_own": option.is_own,
        "params": {key: value for key, value in content.items() if key != "model"},
    }


def _defaults() -> dict[str, str]:
    """Return the option that conf/promptlab.yaml names for each group."""
    own = Path("conf/promptlab.yaml")
    path = own if own.is_file() else Path(packaged_conf(), "promptlab.yaml")
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"]
    except (yaml.YAMLError, OSError, KeyError, TypeError):
        return {}
    chosen = {key: value for one in listed if isinstance(one, dict) for key, value in one.items()}
    return {key: str(chosen[key]) for key in ("model", "template", "style") if key in chosen}
