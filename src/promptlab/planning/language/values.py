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
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    reader = match and _READERS.get(match["suffix"].lower())
    if not match or not reader:
        raise PatternError(
            None,
            f"{key}={value!r}: @ reads values from a file, and this is no kind of file known here.",
            f"Known: {', '.join(f'.{suffix}' for suffix in _READERS)}; tables take @file:column. "
            "For the character itself write \\@ first.",
        )
    file = folder / Path(match["path"]).expanduser()
    if not file.is_file():
        raise PatternError(
            None,
            f"{key}={value}: there is no file {file}.",
            _list_files_beside(file, match["suffix"]),
        )
    patterns = reader(file, match["column"])
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


def _read_txt(file: Path, column: str | None) -> list[Pattern]:
    if column is not None:
        raise PatternError(
            None, f"{file}: a text file has no column {column!r}.", "Write @file.txt alone."
        )
    return read_lines(file)


def _read_csv(file: Path, column: str | None) -> list[Pattern]:
    text = read_text(file)
    return _read_rows(file, column, text, _separator(text))


def _read_tsv(file: Path, column: str | None) -> list[Pattern]:
    return _read_rows(file, column, read_text(file), "\t", has_quotes=False)


def _separator(text: str) -> str:
    """Return what separates the cells of a CSV file: its header says it, a comma in doubt."""
    header = text.split("\n", 1)[0]
    return next((mark for mark in ",;\t" if mark in header), ",")


def _read_rows(
    file: Path, column: str | None, text: str, separator: str, *, has_quotes: bool = True
) -> list[Pattern]:
    """Return a column; tab-separated files have no quoting: a quotation mark there is a text's."""
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
        strict=has_quotes,
    )
    values = []
    try:
        header = next(rows, [])
        index = header.index(_column(file, column, header))
        for row in rows:
            if len(row) > len(header):
                raise PatternError(
                    None,
                    f"{file}, line {rows.line_num}: {len(row)} cells, expected at most the "
                    f"{len(header)} of the header ({separator!r} separates cells).",
                    'Put a text that holds the separator into quotes: "a fox, red". For one prompt '
                    "a line write a .txt file.",
                )
            values += row[index : index + 1]
    except csv.Error as error:
        raise PatternError(None, f"{file}, line {rows.line_num}: {error}.") from None
    return _literals(values)


def _read_parquet(file: Path, column: str | None) -> list[Pattern]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        chosen = _column(file, column, pq.read_schema(file).names)
        return _literals(pq.read_table(file, columns=[chosen])[chosen].to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise PatternError(None, f"{file}: cannot be read as Parquet: {error}.") from None


def _read_jsonl(file: Path, column: str | None) -> list[Pattern]:
    rows = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            rows.append(_load_json(line, f"{file}, line {number}"))
    return _from_records(file, column, rows)


def _read_json(file: Path, column: str | None) -> list[Pattern]:
    rows = _load_json(read_text(file), str(file))
    if not isinstance(rows, list):
        raise PatternError(None, f"{file}: expected a list of texts or of objects.")
    return _from_records(file, column, rows)


def _load_json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise PatternError(None, f"{where}: not valid JSON: {error}.") from None


def _from_records(file: Path, column: str | None, rows: Sequence[Any]) -> list[Pattern]:
    objects = [row for row in rows if isinstance(row, dict)]
    if not objects and column is None:
        return _literals(rows)
    columns = list(dict.fromkeys(name for row in objects for name in row))
    chosen = _column(file, column, columns)
    return _literals(row.get(chosen) for row in objects)


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


_READERS: Mapping[str, Callable[[Path, str | None], list[Pattern]]] = {
    "txt": _read_txt,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "jsonl": _read_jsonl,
    "ndjson": _read_jsonl,
    "json": _read_json,
}
