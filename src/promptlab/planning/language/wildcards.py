"""Lists of values by name: `__animal__` is wildcards/animal.txt or .yaml, nested and globbed.

Takes folders and the path between the underscores, returns the patterns of its values. The
project's lists shadow the package's of the same name. Expands nothing: a value may hold wildcards
of its own, and a circle among them is found by `bind`.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from promptlab.configs.written import load_texts
from promptlab.planning.language.errors import PatternError
from promptlab.planning.language.parse import parse_line
from promptlab.planning.language.syntax import Pattern, Wildcard

PACKAGED_FOLDER = Path(__file__).resolve().parent / "lists"
_SUFFIXES = (".txt", ".yaml", ".yml")
_FLAG = re.compile(r"\s*--[A-Za-z]")
_PROMPT_FLAG = re.compile(r"""--prompt[ =](?:"([^"]*)"|'([^']*)'|((?:(?!--).)+))""")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wildcards:
    """The lists of some folders and files, read when they are asked for."""

    folders: tuple[Path, ...] = ()  # an earlier folder shadows a later one
    files: Mapping[str, Path] = field(default_factory=dict)  # name → file, shadowed by folders
    _values: dict[str, tuple[Pattern, ...]] = field(default_factory=dict, repr=False)
    _trees: dict[Path, Mapping[str, Sequence[Any]]] = field(default_factory=dict, repr=False)
    _warned: set[str] = field(default_factory=set, repr=False)

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
        for name in self._files:
            try:
                names.update(self._lists(name))
            except PatternError as error:  # nobody asked for this file
                self._warn(error)
        return sorted(names)

    def _warn(self, error: PatternError) -> None:
        if str(error) not in self._warned:
            self._warned.add(str(error))
            log.warning("This list is left out: %s", error)

    @cached_property
    def _files(self) -> dict[str, Path]:
        found = {name: file for name, file in self.files.items() if file.is_file()}
        for folder in reversed(self.folders):
            files = [f for f in visible_files(folder) if f.suffix in _SUFFIXES]
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
            return list(self._lists(path))
        if file_name:
            lists = self._lists(file_name)
            return [name for name in lists if name == path or name.startswith(f"{path}/")]
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
        source = f"{file}, {name}"
        return [parse_line(_item(value, source), source) for value in self._lists(file_name)[name]]

    def _lists(self, file_name: str) -> Mapping[str, Sequence[Any]]:
        """Return the lists of a file by name: itself, or one for each key; a text file's unread."""
        file = self._files[file_name]
        if file.suffix == ".txt":
            return {file_name: ()}
        if file not in self._trees:
            self._trees[file] = dict(_flatten(file_name, _read_yaml(file), file))
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
            source = f"{file}, line {number}"
            check_no_flags(stripped, source)
            patterns.append(parse_line(stripped, source))
    return patterns


def check_no_flags(text: str, source: str) -> None:
    """Refuse a line of A1111's "prompts from file": its flags would be drawn as words."""
    if not _FLAG.match(text):
        return
    prompt = _PROMPT_FLAG.search(text)
    alone = next(filter(None, prompt.groups()), "a fox") if prompt else "a fox"
    raise PatternError(
        None,
        f"{source}: expected a prompt, got flags as in A1111's prompts from file: {text[:60]!r}.",
        f"Write the prompt alone, one a line: {alone.strip()}. Parameters are keys of the sweep, "
        "such as temperature=0.5 or seeds=4. A table's column (@file.csv:column) takes any text as "
        "it is.",
    )


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


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, but for hidden ones and what macOS puts beside them."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
        if not is_hidden and path.is_file():
            yield path


def _read_yaml(file: Path) -> Any:
    import yaml

    try:
        return load_texts(read_text(file))
    except yaml.YAMLError as error:
        detail = " ".join(str(error).split())
        raise PatternError(None, f"{file}: not valid YAML: {detail}.") from None


def _flatten(name: str, node: Any, file: Path) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield each list of a tree with its name: the keys that lead to it, whatever they hold."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flatten(f"{name}/{key}", value, file)
    elif node is None or isinstance(node, list):
        yield name, node or ()
    else:
        raise PatternError(
            None,
            f"{file}: expected lists of values, or keys that hold them, got {node!r}.",
            "Write `- value`, one a line.",
        )


def _item(value: Any, source: str) -> str:
    if isinstance(value, str):
        return value.strip()
    raise PatternError(None, f"{source}: expected a text, got {value!r}.", "Quote it: - 'a, b: c'")


def _glob(path: str) -> re.Pattern[str]:
    """Return the names that a glob means: * stays within one level, ** crosses levels."""
    pieces = re.split(r"(\*\*/?|\*)", path)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(piece, re.escape(piece)) for piece in pieces))


def _shorten(names: Sequence[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (
        f", … {len(names) - limit} more" if len(names) > limit else ""
    )
