"""The columns of images.parquet: names, types, and what each part says about itself.

Takes rows and PNG bytes, returns Arrow tables; reads the same metadata back. Knows no files, no
threads, no plan. One row is one request, failures included; further axes are one typed column
each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from promptlab.identity import canonical_json
from promptlab.records import (
    CELL_COLUMNS,
    FACT_COLUMNS,
    ROW_COLUMNS,
    ImageFacts,
    ImageRow,
    Scalar,
)

SCHEMA_VERSION = 1  # a new column does not raise it: parts without it read as null there
VERSION_KEY = b"promptlab.schema_version"
AXES_KEY = b"promptlab.axes"  # JSON: [{"name", "column", "kind"}] of further axes
REPLACES_KEY = b"promptlab.replaces"  # JSON: names of the parts whose rows this part took over

_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
}
_FIXED_TYPES = {name: _ARROW_TYPES[kind] for name, kind in ROW_COLUMNS.items()}
_LAST_BEFORE_AXES = "arm_id"
_LAST_BEFORE_IMAGE = "height"
_RESERVED = {name.lower() for name in (*_FIXED_TYPES, "image", "path")}  # DuckDB ignores case

_KIND_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
}
_MAX_INT64 = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AxisColumn:
    """One further axis: its config key, its column, and the kind of its values."""

    name: str
    column: str
    kind: str  # "bool", "int", "float" or "str"


def axis_columns(
    values_from_name: Mapping[str, Iterable[Scalar]], existing: Sequence[AxisColumn] = ()
) -> tuple[AxisColumn, ...]:
    """Return one typed column per axis; a name that is already taken becomes axis_<name>.

    `existing` are the columns of a run that is resumed: they keep their names and are widened
    where the new values need it.
    """
    columns = {column.name: column for column in existing}
    taken = _RESERVED | {column.column.lower() for column in existing}
    for name, values in values_from_name.items():
        kind = _kind_of(values)
        if name in columns:
            old = columns[name]
            columns[name] = AxisColumn(name, old.column, widen(old.kind, kind or old.kind))
            continue
        column = name
        while column.lower() in taken:
            column = f"axis_{column}"
        taken.add(column.lower())
        columns[name] = AxisColumn(name, column, kind or "str")
    return tuple(columns.values())


def _kind_of(values: Iterable[Scalar]) -> str | None:
    kind: str | None = None
    for value in values:
        if value is None:
            continue
        own = type(value).__name__
        if isinstance(value, int) and abs(value) > _MAX_INT64:
            own = "str"
        kind = own if kind is None else widen(kind, own)
    return kind


def widen(one: str, other: str) -> str:
    """Return the kind that holds the values of both."""
    if one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "str"


def make_schema(axes: Sequence[AxisColumn], replaces: Sequence[str] = ()) -> pa.Schema:
    """Return the Arrow schema of a part, its metadata included."""
    fields: list[pa.Field] = []
    for name, kind in _FIXED_TYPES.items():
        fields.append(pa.field(name, kind))
        if name == _LAST_BEFORE_AXES:
            fields.extend(pa.field(axis.column, _KIND_TYPES[axis.kind]) for axis in axes)
        if name == _LAST_BEFORE_IMAGE:
            fields.append(pa.field("image", _IMAGE_TYPE))
    metadata = {
        VERSION_KEY: str(SCHEMA_VERSION).encode(),
        AXES_KEY: json.dumps(
            [{"name": axis.name, "column": axis.column, "kind": axis.kind} for axis in axes]
        ).encode(),
        b"huggingface": json.dumps({"info": {"features": _huggingface(fields)}}).encode(),
    }
    if replaces:
        metadata[REPLACES_KEY] = json.dumps(list(replaces)).encode()
    return pa.schema(fields, metadata=metadata)


def _huggingface(fields: Sequence[pa.Field]) -> dict[str, Any]:
    """Describe every column for `datasets`, which shows images only with this."""
    return {field.name: _feature(field.type) for field in fields}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE_TYPE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    dtype = {"double": "float64"}.get(str(kind), str(kind))
    return {"dtype": dtype, "_type": "Value"}


def read_axes(metadata: Mapping[bytes, bytes] | None) -> tuple[AxisColumn, ...]:
    """Return the further axes that a part's metadata names."""
    return tuple(AxisColumn(**axis) for axis in json.loads((metadata or {}).get(AXES_KEY, b"[]")))


def read_replaces(metadata: Mapping[bytes, bytes] | None) -> tuple[str, ...]:
    """Return the names of the parts that a part took over."""
    return tuple(json.loads((metadata or {}).get(REPLACES_KEY, b"[]")))


def rows_to_table(
    rows: Sequence[ImageRow], pngs: Sequence[bytes | None], axes: Sequence[AxisColumn]
) -> pa.Table:
    """Return the rows as an Arrow table; `pngs` holds None where no bytes are to be embedded."""
    schema = make_schema(axes)
    columns: dict[str, list[Any]] = {"image_id": [row.image_id for row in rows]}
    for name in CELL_COLUMNS:
        columns[name] = [getattr(row.cell, name) for row in rows]
    for name in FACT_COLUMNS:
        columns[name] = [getattr(row.facts, name) for row in rows]
    columns["image"] = [
        None if row.path is None else {"bytes": png, "path": row.path}
        for row, png in zip(rows, pngs, strict=True)
    ]
    for axis in axes:
        columns[axis.column] = [_convert(row.cell.axes.get(axis.name), axis.kind) for row in rows]
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def facts_from_columns(columns: Mapping[str, Any]) -> ImageFacts:
    """Return the facts in a row's columns; null stands for a fact that has a default."""
    given = {name: columns[name] for name in FACT_COLUMNS}
    return ImageFacts(**{name: value for name, value in given.items() if value is not None})


def _convert(value: Scalar, kind: str) -> Scalar:
    if value is None:
        return None
    if kind == "str":
        return value if isinstance(value, str) else canonical_json(value)
    return float(value) if kind == "float" else value


def conform(table: pa.Table, axes: Sequence[AxisColumn], columns: Sequence[str]) -> pa.Table:
    """Return some columns of a part in the run's schema.

    A column that the part was written without is null; a narrower kind is widened.
    """
    schema = make_schema(axes)
    fields = [schema.field(name) for name in columns]
    stored = set(table.column_names)
    arrays = [
        _cast(table.column(field.name), field.type)
        if field.name in stored
        else pa.nulls(table.num_rows, field.type)
        for field in fields
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=schema.metadata))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if pa.types.is_string(kind):  # as rows_to_table writes them, not as Arrow prints them
        values = [_convert(value, "str") for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, type=kind)])
    return column.cast(kind)
