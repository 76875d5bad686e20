"""Lists of values by name: `__animal__` is wildcards/animal.txt or .yaml, nested and globbed.

Takes folders and the path between the underscores, returns the patterns of its values. The
project's lists shadow the package's of the same name. Expands nothing: a value may hold wildcards
of its own, and a circle among them is found by `bind`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from promptlab.planning.language.errors import PatternError
from promptlab.planning.language.parse import parse_line
from promptlab.planning.language.syntax import Pattern, Wildcard

PACKAGED_FOLDER = Path(__file__).resolve().parent / "lists"
_SUFFIXES = (".txt", ".yaml", ".yml")


@dataclass(frozen=True)
class Wildcards:
    """The lists of some folders and files, read when they are asked for."""

    folders: tuple[Path, ...] = ()  # an earlier folder shadows a later one
    files: Mapping[str, Path] = field(default_factory=dict)  # name → file, shadowed by folders
    _values: dict[str, tuple[Pattern, ...]] = field(default_factory=dict, repr=False)
    _trees: dict[Path, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of_project(
        cls,
        project: Path | str = ".",
        *extra: Path | str,
        files: Mapping[str, Path] | None = None,
    ) -> Wildcards:
        """Return the lists of a project's `wildcards/`, of extra folders, and of the package.

        `files` are further lists by name, such as the words that a model knows.
        Raises PatternError for an extra folder that does not exist.
        """
        for folder in extra:
            if not Path(folder).is_dir():
                raise PatternError(
                    None, f"wildcards={str(folder)!r}: expected a folder.", "It does not exist."
                )
        folders = (Path(project) / "wildcards", *map(Path, extra), PACKAGED_FOLDER)
        return cls(folders, files or {})

    def load(self, wildcard: Wildcard) -> tuple[Pattern, ...]:
        """Return the values of a wildcard, each once, in the order of the files.

        Raises PatternError if nothing has that name or if it has no values.
        """
        path = wildcard.path
        if path not in self._values:
            names = self._match(path)
            if not names:
                raise self._missing(wildcard)
            values = [value for name in names for value in self._read(name)]
            if not values:
                raise PatternError(
                    wildcard.place,
                    f"the wildcard __{path}__ has no values.",
                    f"Empty: {', '.join(str(self._files[self._file_of(n)]) for n in names)}. "
                    "Write one value a line; lines that begin with # are comments.",
                )
            self._values[path] = tuple(dict.fromkeys(values))
        return self._values[path]

    def list_names(self) -> list[str]:
        """Return the name of every list, sorted."""
        names: set[str] = set()
        for name, file in self._files.items():
            names.update(self._leaves(name) if file.suffix != ".txt" else [name])
        return sorted(names)

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = {name: file for name, file in self.files.items() if file.is_file()}
        for folder in reversed(self.folders):
            files = [f for f in folder.rglob("*") if f.suffix in _SUFFIXES and f.is_file()]
            # Of animal.txt and animal.yaml in one folder the text file is the one.
            for file in sorted(files, key=lambda f: (f.suffix == ".txt", str(f))):
                found[file.relative_to(folder).with_suffix("").as_posix()] = file
        return found

    def _match(self, path: str) -> list[str]:
        """Return the names that a path or a glob names."""
        if "*" in path:
            matches = _glob(path)
            return [
                name
                for name in self.list_names()
                if any(matches.fullmatch(beginning) for beginning in self._beginnings(name))
            ]
        file_name = self._file_of(path)
        if file_name == path:
            return self._leaves(path) if self._files[path].suffix != ".txt" else [path]
        if file_name and self._files[file_name].suffix != ".txt":
            return [n for n in self._leaves(file_name) if n == path or n.startswith(f"{path}/")]
        return []

    def _file_of(self, name: str) -> str:
        """Return the name of the file that holds a list: the longest beginning of its path."""
        parts = name.split("/")
        for length in range(len(parts), 0, -1):
            candidate = "/".join(parts[:length])
            if candidate in self._files:
                return candidate
        return ""

    def _beginnings(self, name: str) -> list[str]:
        """Return a list's name and those of the file and keys that hold it: each is a list too."""
        parts = name.split("/")
        level = self._file_of(name).count("/") + 1
        return ["/".join(parts[:length]) for length in range(level, len(parts) + 1)]

    def _read(self, name: str) -> list[Pattern]:
        file_name = self._file_of(name)
        file = self._files[file_name]
        if file.suffix == ".txt":
            return read_lines(file)
        node = self._tree(file_name)
        for key in name.split("/")[file_name.count("/") + 1 :]:
            node = node[key]
        source = f"{file}, {name}"
        return [parse_line(_scalar(value, source), source) for value in node or ()]

    def _leaves(self, file_name: str) -> list[str]:
        """Return the names of the lists of a YAML file: itself, or one for each key."""
        found: list[str] = []

        def visit(name: str, node: Any) -> None:
            if isinstance(node, Mapping):
                for key, value in node.items():
                    visit(f"{name}/{key}", value)
            else:
                found.append(name)

        visit(file_name, self._tree(file_name))
        return found

    def _tree(self, file_name: str) -> Any:
        file = self._files[file_name]
        if file not in self._trees:
            self._trees[file] = _read_yaml(file)
        return self._trees[file]

    def _missing(self, wildcard: Wildcard) -> PatternError:
        names = self.list_names()
        close = difflib.get_close_matches(wildcard.path, names, n=3)
        known = f"Did you mean {' or '.join(f'__{n}__' for n in close)}? " if close else ""
        if not known:
            known = f"There are: {_shorten(names)}. " if names else "There are none. "
        folder = self.folders[0] if self.folders else "wildcards"
        return PatternError(
            wildcard.place,
            f"no list is called {wildcard.path!r}.",
            f"{known}Write one value a line to {folder}/{wildcard.path.replace('*', 'name')}.txt, "
            f"or \\_\\_ for the underscores themselves.",
        )


def read_lines(file: Path) -> list[Pattern]:
    """Return the patterns of a text file, one a line; blank lines and # comments are skipped."""
    patterns = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            patterns.append(parse_line(stripped, f"{file}, line {number}"))
    return patterns


def read_text(file: Path) -> str:
    """Return a file's text; raises PatternError if it cannot be read or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PatternError(
            None, f"{file}: expected UTF-8, got another byte at position {error.start}.", ""
        ) from None
    except OSError as error:
        raise PatternError(None, f"{file}: cannot be read: {error.strerror}.", "") from None


def _read_yaml(file: Path) -> Any:
    import yaml

    try:
        tree = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise PatternError(None, f"{file}: not valid YAML: {detail}.") from None
    _check_tree(tree, file)
    return _with_text_keys(tree)


def _check_tree(node: Any, file: Path) -> None:
    if isinstance(node, Mapping):
        for value in node.values():
            _check_tree(value, file)
    elif node is not None and not isinstance(node, list):
        raise PatternError(
            None,
            f"{file}: expected lists of values, or keys that hold them, got {node!r}.",
            "Write `- value`, one a line.",
        )


def _with_text_keys(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key): _with_text_keys(value) for key, value in node.items()}
    return node


def _scalar(value: Any, source: str) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PatternError(
            None, f"{source}: expected a text, got {value!r}.", "Quote it: - 'a, b: c'"
        )
    return str(value)


def _glob(path: str) -> re.Pattern[str]:
    """Return the names that a glob means: * stays within one level, ** crosses levels."""
    pieces = re.split(r"(\*\*/?|\*)", path)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(piece, re.escape(piece)) for piece in pieces))


def _shorten(names: Sequence[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (
        f", … {len(names) - limit} more" if len(names) > limit else ""
    )
