"""What the config folders offer: options of a group with their files, without Hydra.

Takes group names, returns option names and file contents. The working directory's conf/ and
sweeps/ shadow the packaged ones, as they do for Hydra.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from promptlab.configs.locations import packaged_conf, packaged_sweeps
from promptlab.configs.own_files import is_hidden, read_styles
from promptlab.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a config group."""

    name: str  # as chosen: "noto", "art/ukiyo_e"
    path: Path
    is_own: bool  # from the working directory rather than from the package
    row: Mapping[str, str] | None = None  # its content, if its file is a table of styles


def find_options(group: str) -> dict[str, Option]:
    """Return all options of a group and its sub-groups by name, sorted; hidden files are none."""
    found: dict[str, Option] = {}
    for is_own in (False, True):
        folder = _folder(group, is_own)
        is_own = is_own and folder != _folder(group, False)
        for path in folder.rglob("*.yaml") if folder.is_dir() else ():
            inside = path.relative_to(folder)
            if not any(map(is_hidden, inside.parts)):
                name = inside.with_suffix("").as_posix()
                found[name] = Option(name, path, is_own)
        if is_own and group == "style":
            found.update(_styles_of_tables(folder))
    return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0])))


def _styles_of_tables(folder: Path) -> Iterator[tuple[str, Option]]:
    for path in sorted(folder.glob("*.csv")):
        if is_hidden(path.name):
            continue
        try:
            styles = read_styles(path)
        except ConfigError as error:  # nobody asked for this table
            log.warning("This table is left out: %s", error)
            continue
        for row_name, row in styles.items():
            name = f"{path.stem}/{row_name}"
            yield name, Option(name, path, True, row)


def list_options(group: str) -> list[str]:
    """Return the names of all options of a group."""
    return list(find_options(group))


def read_option(option: Option) -> dict[str, Any]:
    """Return the content of an option, as written."""
    if option.row is not None:
        return dict(option.row)
    try:
        content = yaml.safe_load(option.path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option.path} is not readable YAML: {error}") from error
    return content if isinstance(content, dict) else {}


def opening_comment(option: Option) -> str:
    """Return the comment that opens an option's file."""
    lines = option.path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            comments.append(line.removeprefix("#").strip())
    return " ".join(comments) or "no description"


def _folder(group: str, is_own: bool) -> Path:
    if group == "sweeps":
        return Path("sweeps").resolve() if is_own else Path(packaged_sweeps())
    return Path("conf", group).resolve() if is_own else Path(packaged_conf(), group)
