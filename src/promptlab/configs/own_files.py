"""A project's own config files: texts kept as written, hidden files left out, tables of styles.

Takes files of the working directory's conf/ and sweeps/, returns configs and names. A table
conf/style/NAME.csv with A1111's columns (name, prompt, negative_prompt) is the group of options
style=NAME/ROW. Knows no search path.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptlab.configs.settings import RESERVED_KEYS, TEXT_KEYS
from promptlab.configs.written import is_rewritten, written_scalars
from promptlab.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import Container

STYLE_COLUMNS = ("name", "prompt")


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is none of the user's: .git, macOS's ._ files, __MACOSX."""
    return name.startswith(".") or name in ("__MACOSX", "__pycache__")


def read_utf8(file: Path) -> str:
    """Return a config file's text, "" if there is none; raises ConfigError for other bytes."""
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: expected UTF-8, got another byte at position {error.start}."
        ) from error


def keep_texts(config: Container, text: str) -> None:
    """Restore the texts that YAML read as numbers: prompts, slots and all swept values.

    A model's parameter may be one of them: it reads a number from its text.
    """
    from omegaconf import OmegaConf

    if not OmegaConf.is_dict(config):
        return
    read = OmegaConf.to_container(config, resolve=False)  # a missing or referring value is a text
    for path, written in written_scalars(text):
        is_root = len(path) == 1 and (path[0] not in RESERVED_KEYS or path[0] in TEXT_KEYS)
        is_swept = path[:3] == ("hydra", "sweeper", "params")
        is_rule = path[0] in ("exclude", "only")  # which name values of axes
        if not (is_root or is_swept or is_rule):
            continue
        value: Any = read
        node: Any = config
        try:
            for key in path:
                value = value[key]
            if is_rewritten(written, value):
                for key in path[:-1]:
                    node = node[key]
                node[path[-1]] = written
        except (KeyError, IndexError, TypeError):  # keys that YAML merged or read as numbers
            continue


def read_styles(file: Path) -> dict[str, dict[str, str]]:
    """Return the styles of a table as A1111 keeps them, by name; rows without words are titles.

    Raises ConfigError for a file that is no such table.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(keepends=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read as a table of styles: {error}.") from error
    if rows and not all(column in rows[0] for column in STYLE_COLUMNS):
        raise ConfigError(
            f"{file}: expected the columns name, prompt and negative_prompt, got "
            f"{', '.join(map(str, rows[0]))}."
        )
    styles: dict[str, dict[str, str]] = {}
    for row in rows:
        name = re.sub(r"[^\w .()-]+", "_", row["name"] or "").strip()
        words, unwanted = (row["prompt"] or "").strip(), (row.get("negative_prompt") or "").strip()
        if name and (words or unwanted):
            pattern = words if "{prompt}" in words else f"{{prompt}}, {words}" if words else ""
            note = f"the negative prompt {unwanted!r} is not used" if unwanted else file.name
            styles.setdefault(name, {"pattern": pattern or "{prompt}", "description": note})
    return styles


def table_of(folder: Path, config_path: str) -> tuple[Path, str] | None:
    """Return the table and the row that a config path names, None if it names no table's."""
    group, _, inside = config_path.replace("\\", "/").partition("/")
    name, _, row = inside.partition("/")
    file = folder / group / f"{name}.csv"
    return (file, row) if group == "style" and name and file.is_file() else None


def style_of(folder: Path, config_path: str) -> Mapping[str, str] | None:
    """Return the style that a config path names in a table, None if there is none."""
    found = table_of(folder, config_path)
    return None if found is None or not found[1] else read_styles(found[0]).get(found[1])
