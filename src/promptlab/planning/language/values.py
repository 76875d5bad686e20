"""What a config key may hold as a prompt value: a text, a list, a number, or `@file[:column]`.

Takes a plain value and the folder that paths are relative to, returns the pattern it stands for.
A text file holds patterns, one a line, as one would type them; tables (CSV, TSV, Parquet, JSON)
hold data, whose values are taken as they are, braces and all.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.planning.language.errors import PatternError
from promptlab.planning.language.parse import parse_pattern
from promptlab.planning.language.syntax import Choice, Pattern
from promptlab.planning.language.wildcards import check_no_flags, read_lines, read_text

_FILE = re.compile(r"@(?P<path>.+?\.(?P<suffix>[A-Za-z0-9]+))(?::(?P<column>.+))?", re.DOTALL)


def read_value(key: str, value: Any, folder: Path | str = ".") -> Pattern | None:
    """Return the pattern that a key's value stands for, None for no value.

    A list is a choice of its items; "@file:column" is a choice of the file's values. Raises
    PatternError for a file that is missing, empty or of an unknown kind, and for a column that is
    missing; the message lists the columns there are.
    """
    if value is None or value == "???":
        return None
    if isinstance(value, str):
        check_no_flags(value, key)
        return _read_file(key, value, Path(folder)) or parse_pattern(value, key)
    if isinstance(value, bool | int | float):
        return Pattern.literal(str(value).lower() if isinstance(value, bool) else str(value))
    if isinstance(value, Sequence) and value:
        patterns = [read_value(f"{key}[{i}]", item, folder) for i, item in enumerate(value)]
        return _choice([pattern for pattern in patterns if pattern is not None])
    if isinstance(value, Mapping) and value:
        raise PatternError(None, *_explain_mapping(key, value))
    raise PatternError(
        None, f"{key}={value!r}: expected a text, a list of texts, or @file.", f"{key}='a fox'"
    )


def _choice(patterns: Sequence[Pattern]) -> Pattern:
    return patterns[0] if len(patterns) == 1 else Pattern((Choice(tuple(patterns)),))


def _explain_mapping(key: str, value: Mapping[Any, Any]) -> tuple[str, str]:
    """Return what happened to {name: a|b} on Hydra's command line and what to type instead."""
    content = ", ".join(
        str(name) if item is None else f"{name}: {item}" for name, item in value.items()
    )
    return (
        f"{key}={{{content}}}: expected a text, got keys and values: that is how Hydra and YAML "
        "read braces.",
        f"Quote it once more. In a shell: '{key}=\"{{{content}}}\"'; in YAML: "
        f'{key}: "{{{content}}}"',
    )


def _read_file(key: str, value: str, folder: Path) -> Pattern | None:
    if not value.startswith("@"):
        return None
    match = _FILE.fullmatch(value.strip())
    suffix = match["suffix"].lower() if match else ""
    if match is None or suffix not in _SUFFIXES:
        raise PatternError(
            None,
            f"{key}={value!r}: @ reads values from a file, and this is no kind of file known here.",
            f"Known: {', '.join(f'.{suffix}' for suffix in _SUFFIXES)}; tables take @file:column. "
            "For the character itself write \\@ first.",
        )
    file = folder / Path(match["path"]).expanduser()
    if not file.is_file():
        raise PatternError(
            None,
            f"{key}={value}: there is no file {file}.",
            _list_files_beside(file, match["suffix"]),
        )
    column = match["column"]
    patterns = _read_txt(file, column) if suffix == "txt" else _read_table(file, suffix, column)
    if not patterns:
        raise PatternError(
            None,
            f"{key}={value}: no values.",
            "Blank lines and cells are skipped, and so are the # comments of a text file.",
        )
    return _choice(patterns)


def _list_files_beside(file: Path, suffix: str) -> str:
    found = sorted(f.name for f in file.parent.glob(f"*.{suffix}"))[:8]
    if not file.parent.is_dir():
        return f"Nor is there a folder {file.parent}."
    return f"In {file.parent} there are: {', '.join(found)}." if found else "Check the path."


def read_carried(
    value: Any, names: Sequence[str], folder: Path | str = "."
) -> dict[str, dict[str, str]]:
    """Return further columns of a table by the text of its chosen column; {} for no table.

    A text that stands there several times has the columns of its first row. Raises PatternError
    for a column that is missing.
    """
    match = _FILE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match["suffix"].lower() not in _TABLES:
        return {}
    file = Path(folder) / Path(match["path"]).expanduser()
    table = _TABLES[match["suffix"].lower()](file)
    for name in names:
        _column(file, name, table.columns)
    carried: dict[str, dict[str, str]] = {}
    for text, *others in table.rows([_column(file, match["column"], table.columns), *names]):
        found = {name: _text_of(other) for name, other in zip(names, others, strict=True)}
        carried.setdefault(_text_of(text).strip(), found)
    return carried


def _read_txt(file: Path, column: str | None) -> list[Pattern]:
    if column is not None:
        raise PatternError(
            None, f"{file}: a text file has no column {column!r}.", "Write @file.txt alone."
        )
    return read_lines(file)


@dataclass(frozen=True)
class _Table:
    """A file of rows: its columns, and the values of some of them, row by row."""

    columns: Sequence[str]
    rows: Callable[[Sequence[str]], Iterable[Sequence[Any]]]


def _read_table(file: Path, suffix: str, column: str | None) -> list[Pattern]:
    table = _TABLES[suffix](file)
    if not table.columns and column is None:  # JSON without objects: its items
        return _literals(value for (value,) in table.rows([]))
    return _literals(value for (value,) in table.rows([_column(file, column, table.columns)]))


def _csv(file: Path) -> _Table:
    text = read_text(file)
    return _cells(file, text, _separator(text))


def _tsv(file: Path) -> _Table:
    return _cells(file, read_text(file), "\t", has_quotes=False)


def _separator(text: str) -> str:
    """Return what separates the cells of a CSV file: its header says it, a comma in doubt."""
    header = text.split("\n", 1)[0]
    return next((mark for mark in ",;\t" if mark in header), ",")


def _cells(file: Path, text: str, separator: str, *, has_quotes: bool = True) -> _Table:
    """Return a table of text; in one without quotes a quotation mark is a character of a text."""
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
        strict=has_quotes,
    )

    def read() -> Iterator[list[str]]:
        try:
            yield from lines
        except csv.Error as error:
            raise PatternError(None, f"{file}, line {lines.line_num}: {error}.") from None

    header = next(read(), [])

    def rows(names: Sequence[str]) -> Iterator[Sequence[str]]:
        places = [header.index(name) for name in names]
        for cells in read():
            if len(cells) > len(header):
                raise PatternError(
                    None,
                    f"{file}, line {lines.line_num}: {len(cells)} cells, expected at most the "
                    f"{len(header)} of the header ({separator!r} separates cells).",
                    'Put a text that holds the separator into quotes: "a fox, red". For one prompt '
                    "a line write a .txt file.",
                )
            yield [cells[place] if place < len(cells) else "" for place in places]

    return _Table(header, rows)


def _parquet(file: Path) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows(names: Sequence[str]) -> Iterable[Sequence[Any]]:
        try:
            table = pq.read_table(file, columns=list(dict.fromkeys(names)))
        except (pa.ArrowException, OSError) as error:
            raise PatternError(None, f"{file}: cannot be read as Parquet: {error}.") from None
        return zip(*(table[name].to_pylist() for name in names), strict=True)

    try:
        return _Table(pq.read_schema(file).names, rows)
    except (pa.ArrowException, OSError) as error:
        raise PatternError(None, f"{file}: cannot be read as Parquet: {error}.") from None


def _json_lines(file: Path) -> _Table:
    return _records(
        [
            _load_json(line, f"{file}, line {number}")
            for number, line in enumerate(read_text(file).split("\n"), start=1)
            if line.strip()
        ]
    )


def _json(file: Path) -> _Table:
    rows = _load_json(read_text(file), str(file))
    if not isinstance(rows, list):
        raise PatternError(None, f"{file}: expected a list of texts or of objects.")
    return _records(rows)


def _load_json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise PatternError(None, f"{where}: not valid JSON: {error}.") from None


def _records(items: Sequence[Any]) -> _Table:
    objects = [item for item in items if isinstance(item, dict)]
    columns = list(dict.fromkeys(name for item in objects for name in item))

    def rows(names: Sequence[str]) -> Iterable[Sequence[Any]]:
        if not columns:
            return ([item] for item in items)
        return ([item.get(name) for name in names] for item in objects)

    return _Table(columns, rows)


def _column(file: Path, column: str | None, columns: Sequence[str]) -> str:
    if column is not None and column in columns:
        return column
    if column is None and len(columns) == 1:
        return columns[0]
    there_are = ", ".join(columns) or "none"
    wanted = "which column?" if column is None else f"there is no column {column!r}."
    raise PatternError(
        None,
        f"{file}: {wanted}",
        f"Columns: {there_are}. Write @{file}:{columns[0] if columns else 'column'}",
    )


def _literals(values: Iterable[Any]) -> list[Pattern]:
    """Return data as patterns that mean exactly it; empty cells are skipped."""
    texts = (value if isinstance(value, str) else _text_of(value) for value in values)
    return [Pattern.literal(text) for text in (text.strip() for text in texts) if text]


def _text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise PatternError(None, f"Expected texts in the column, got {value!r}.", "Choose another.")


_TABLES: Mapping[str, Callable[[Path], _Table]] = {
    "csv": _csv,
    "tsv": _tsv,
    "parquet": _parquet,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "json": _json,
}
_SUFFIXES = ("txt", *_TABLES)
