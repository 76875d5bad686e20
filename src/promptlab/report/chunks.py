"""Chunks: the page's data, some rows and images at a time.

Takes SheetData or rows as they are drawn, returns SheetChunks. A file is one chunk; a live page
gets one for the plan, whose rows are pending, and then one for every few images. What has a number
keeps it: later chunks add values, rows and images, and write again the rows and images they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from promptlab.report.axes import axis_text
from promptlab.report.data import NUMBER_COLUMNS, STATUSES, TEXT_COLUMNS, SheetData
from promptlab.report.thumbnails import Thumbnail

PACK_SIZE = 64  # images whose thumbnails and commands travel together


@dataclass(frozen=True, slots=True)
class ThumbnailShape:
    """What the page knows of a thumbnail before it has its bytes."""

    tint: int
    width: int
    height: int
    is_native: bool

    @classmethod
    def of(cls, thumbnail: Thumbnail) -> ThumbnailShape:
        """Return the shape of one thumbnail."""
        return cls(thumbnail.tint, thumbnail.width, thumbnail.height, thumbnail.is_native)


NO_THUMBNAIL = ThumbnailShape(tint=-1, width=0, height=0, is_native=False)


@dataclass
class RowColumns:
    """Rows of the page, a list a column."""

    at: list[int] = field(default_factory=list)  # the number of each row
    image: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    run: list[int] = field(default_factory=list)
    cell: list[int] = field(default_factory=list)
    from_default: list[int] = field(default_factory=list)
    look: list[int] = field(default_factory=list)  # place among its cell's candidates, by look
    twin: list[int] = field(default_factory=list)  # the row it nearly equals, or itself
    codes: dict[str, list[int]] = field(default_factory=dict)  # by axis
    texts: dict[str, list[int]] = field(default_factory=dict)  # codes, by column
    numbers: dict[str, list[Any]] = field(default_factory=dict)  # by column
    parents: dict[str, list[str]] = field(default_factory=dict)  # row number -> image_ids


@dataclass
class ImageColumns:
    """Images of the page, a list a column."""

    at: list[int] = field(default_factory=list)  # the number of each image
    id: list[str] = field(default_factory=list)
    path: list[str | None] = field(default_factory=list)
    run: list[int] = field(default_factory=list)
    sha: list[str | None] = field(default_factory=list)
    tint: list[int] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    height: list[int] = field(default_factory=list)
    native: list[int] = field(default_factory=list)
    enlarged: list[int] = field(default_factory=list)  # the image in its place, enlarged; or -1

    def add_shape(self, shape: ThumbnailShape) -> None:
        """Add what is known of one image's thumbnail."""
        self.tint.append(shape.tint)
        self.width.append(shape.width)
        self.height.append(shape.height)
        self.native.append(int(shape.is_native))


@dataclass
class SheetChunk:
    """Values, rows and images that a page does not have yet, or has otherwise."""

    values: dict[str, list[str]] = field(default_factory=dict)  # new ones, by axis
    texts: dict[str, list[str]] = field(default_factory=dict)  # new ones, by column
    row: RowColumns = field(default_factory=RowColumns)
    image: ImageColumns = field(default_factory=ImageColumns)
    scores: dict[str, list[float | None]] = field(default_factory=dict)  # by name: [image]
    # first image (or all of them), count, URL; "": inside the page, or of the page's server
    packs: list[tuple[int | list[int], int, str]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the chunk as the page reads it."""
        return {
            "values": self.values,
            "texts": self.texts,
            "row": {f.name: getattr(self.row, f.name) for f in fields(RowColumns)},
            "image": {f.name: getattr(self.image, f.name) for f in fields(ImageColumns)},
            "scores": self.scores,
            "packs": self.packs,
        }

    def extend(self, other: SheetChunk) -> None:
        """Take in a later chunk: a page that reads this one then shows what both say."""
        for mine, others in ((self.values, other.values), (self.texts, other.texts)):
            for name, new in others.items():
                mine.setdefault(name, []).extend(new)
        for name in self.scores.keys() | other.scores.keys():
            scores = self.scores.setdefault(name, [None] * len(self.image.at))
            scores += other.scores.get(name) or [None] * len(other.image.at)
        _extend_columns(self.row, other.row)
        _extend_columns(self.image, other.image)
        self.packs += other.packs


def _extend_columns(mine: RowColumns | ImageColumns, others: RowColumns | ImageColumns) -> None:
    for column in fields(mine):
        new = getattr(others, column.name)
        if not isinstance(new, dict):
            getattr(mine, column.name).extend(new)
            continue
        for name, values in new.items():
            if column.name == "parents":
                mine.parents[name] = values  # type: ignore[union-attr]
            else:
                getattr(mine, column.name).setdefault(name, []).extend(values)


def whole_chunk(
    data: SheetData, shapes: Mapping[int, ThumbnailShape], pack_names: Sequence[str]
) -> SheetChunk:
    """Return everything as one chunk; `pack_names` are URLs, none when the page holds the packs."""
    row = RowColumns(
        at=list(range(data.num_rows)),
        image=data.image_of_row.tolist(),
        status=data.status.tolist(),
        run=data.run_of_row.tolist(),
        cell=data.cell_of_row.tolist(),
        from_default=data.num_from_default.tolist(),
        look=data.look.tolist(),
        twin=data.twin.tolist(),
        codes={axis.name: axis.codes.tolist() for axis in data.axes},
        texts={name: column.codes.tolist() for name, column in data.texts.items()},
        numbers=dict(data.numbers),
        parents={str(row): list(ids) for row, ids in data.parents.items()},
    )
    image = ImageColumns(
        at=list(range(data.num_images)),
        id=list(data.image_ids),
        path=list(data.image_paths),
        run=data.image_run.tolist(),
        sha=[_short_sha(sha) for sha in data.image_sha256],
        enlarged=data.enlarged.tolist(),
    )
    for number in range(data.num_images):
        image.add_shape(shapes.get(number, NO_THUMBNAIL))
    starts = range(0, data.num_images, PACK_SIZE)
    return SheetChunk(
        values={axis.name: list(axis.values) for axis in data.axes},
        texts={name: list(column.values) for name, column in data.texts.items()},
        row=row,
        image=image,
        scores={score.name: list(score.values) for score in data.scores},
        packs=[
            (start, min(PACK_SIZE, data.num_images - start), name)
            for start, name in zip(starts, pack_names or [""] * len(starts), strict=True)
        ],
    )


def _short_sha(sha256: str | None) -> str | None:
    return None if sha256 is None else sha256[:16]


class SheetFeed:
    """The numbers of one run's page that grows while images are drawn.

    Rows are mappings with the columns of images.parquet, and axes by name. A row is known by its
    cell and seed: the plan's rows come first with status "pending", and the drawn ones take their
    numbers.
    """

    def __init__(self, axes: Sequence[str]) -> None:
        self._codes: dict[str, dict[str, int]] = {name: {} for name in axes}
        self._text_codes: dict[str, dict[str, int]] = {name: {} for name in TEXT_COLUMNS}
        self._row_numbers: dict[tuple[str, int], int] = {}
        self._image_numbers: dict[str, int] = {}
        self._cell_numbers: dict[str, int] = {}

    @classmethod
    def after(cls, data: SheetData) -> SheetFeed:
        """Return the feed of a page that has the data of one run already."""
        feed = cls([axis.name for axis in data.axes])
        for axis in data.axes:
            feed._codes[axis.name] = {text: code for code, text in enumerate(axis.values)}
        for name, column in data.texts.items():
            feed._text_codes[name] = {text: code for code, text in enumerate(column.values)}
        feed._row_numbers = {request: row for row, request in enumerate(data.requests)}
        for number, image_id in enumerate(data.image_ids):
            feed._image_numbers.setdefault(image_id, number)
        for (cell_id, _), cell in zip(data.requests, data.cell_of_row.tolist(), strict=True):
            feed._cell_numbers[cell_id] = cell
        return feed

    def add(
        self, rows: Iterable[Mapping[str, Any]], shapes: Mapping[str, ThumbnailShape] | None = None
    ) -> SheetChunk:
        """Return the chunk of some rows; `shapes` are by image_id, and have a pack together."""
        chunk = SheetChunk()
        for name in self._codes:
            chunk.row.codes[name] = []
        for name in TEXT_COLUMNS:
            chunk.row.texts[name] = []
        for name in NUMBER_COLUMNS:
            chunk.row.numbers[name] = []
        shapes = shapes or {}
        for row in rows:
            self._add_row(chunk, row, shapes.get(row["image_id"], NO_THUMBNAIL))
        images = list(dict.fromkeys(self._image_numbers[image_id] for image_id in shapes))
        for start in range(0, len(images), PACK_SIZE):
            pack = images[start : start + PACK_SIZE]
            chunk.packs.append((pack, len(pack), ""))
        return chunk

    def _add_row(self, chunk: SheetChunk, row: Mapping[str, Any], shape: ThumbnailShape) -> None:
        number = _number(self._row_numbers, (row["cell_id"], row["seed"]))
        image = _number(self._image_numbers, row["image_id"])
        columns = chunk.row
        columns.at.append(number)
        columns.image.append(image)
        columns.status.append(STATUSES.index(row["status"]))
        columns.run.append(0)
        columns.cell.append(_number(self._cell_numbers, row["cell_id"]))
        columns.from_default.append(0)
        columns.look.append(number)
        columns.twin.append(number)
        for name, codes in self._codes.items():
            columns.codes[name].append(_code(codes, chunk.values, name, axis_text(row.get(name))))
        for name, codes in self._text_codes.items():
            columns.texts[name].append(_code(codes, chunk.texts, name, row.get(name) or ""))
        for name in NUMBER_COLUMNS:
            columns.numbers[name].append(row.get(name))
        if row.get("parent_ids"):
            columns.parents[str(number)] = list(row["parent_ids"])
        chunk.image.at.append(image)
        chunk.image.id.append(row["image_id"])
        chunk.image.path.append(row.get("path"))
        chunk.image.run.append(0)
        chunk.image.sha.append(_short_sha(row.get("sha256")))
        chunk.image.enlarged.append(-1)
        chunk.image.add_shape(shape)


def _number(numbers: dict[Any, int], key: Any) -> int:
    return numbers.setdefault(key, len(numbers))


def _code(codes: dict[str, int], new: dict[str, list[str]], name: str, text: str) -> int:
    """Return a value's code; one that is seen for the first time gets the next code."""
    if text not in codes:
        codes[text] = len(codes)
        new.setdefault(name, []).append(text)
    return codes[text]
