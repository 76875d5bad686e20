"""Drawing tables of images with headers: fonts, wrapped labels, cells.

Takes labels and a function that gives a cell's picture, returns a Pillow image. Knows no runs.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

MIN_WIDTH_PX = 360
FONT_FILES = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "Arial.ttf")


@dataclass(frozen=True, slots=True)
class Theme:
    """Colors of a picture."""

    ground: str
    text: str
    quiet: str
    empty: str


DARK = Theme("#101113", "#ececee", "#a3a6ad", "#1b1c1f")
LIGHT = Theme("#ffffff", "#1b1c1e", "#5c5f66", "#f1f1ef")


@dataclass(frozen=True)
class Table:
    """A table to draw: labels, and the picture of each cell at a given size."""

    title: str
    row_labels: Sequence[str]
    column_labels: Sequence[str]
    picture: Callable[[int, int, int], Image.Image | None]  # (row, column, px) -> picture
    caption: Callable[[int, int], str] | None = None  # a line or two below each picture
    footer: str = ""


@dataclass(frozen=True, slots=True)
class Measures:
    """Sizes in px."""

    cell: int
    gap: int = 6
    margin: int = 20
    font: int = 15
    title_font: int = 20
    row_head: int = 150
    num_head_lines: int = 2  # of the columns' labels; 0: columns have none
    caption_lines: int = 0
    theme: Theme = DARK

    @property
    def line(self) -> int:
        """Height of a line of text."""
        return round(self.font * 1.3)

    @property
    def head(self) -> int:
        """Height of the title and the column headers together."""
        return round(self.title_font * 1.8) + self.num_head_lines * self.line + self.gap

    @property
    def step_y(self) -> int:
        """Height of a row with its captions."""
        return self.cell + self.gap + self.caption_lines * round(self.line * 0.8)

    def size(self, num_rows: int, num_columns: int) -> tuple[int, int]:
        """Return the picture's width and height."""
        width = 2 * self.margin + self.row_head + num_columns * (self.cell + self.gap)
        width = max(width, MIN_WIDTH_PX)  # room for the title and the footer
        height = 2 * self.margin + self.head + num_rows * self.step_y + self.line
        return width, height


@functools.cache
def load_font(size: int) -> Font:
    """Return a font with as many scripts as this machine offers."""
    from PIL import ImageFont

    for name in FONT_FILES:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def printable(text: str) -> str:
    """Return a text on one line without the characters that cannot be drawn or that reorder."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    visible = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text[:2000])
    return "".join(c for c in visible if unicodedata.category(c) not in ("Cf", "Cs", "Co"))


def wrap(text: str, font: Font, max_width: int, max_lines: int) -> list[str]:
    """Return a text in lines that fit, the last one ending in … when there is more."""
    lines: list[str] = []
    words = printable(text).split()
    while words and len(lines) < max_lines:
        line, words = _take_line(words, font, max_width)
        lines.append(line)
    if words:
        while lines[-1] and font.getlength(lines[-1] + "…") > max_width:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return lines


def _take_line(words: list[str], font: Font, max_width: int) -> tuple[str, list[str]]:
    count = 1
    while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= max_width:
        count += 1
    line = " ".join(words[:count])
    if count > 1 or font.getlength(line) <= max_width:
        return line, words[count:]
    length = len(line)  # one word wider than the line: cut after one of its parts, or inside it
    while length > 1 and font.getlength(line[:length]) > max_width:
        length -= 1
    length = max(line.rfind(mark, 0, length) + 1 for mark in "_/-") or length
    return line[:length], [line[length:], *words[1:]]


def draw_table(table: Table, measures: Measures) -> Image.Image:
    """Return the table as a picture."""
    from PIL import Image, ImageDraw

    m = measures
    size = m.size(len(table.row_labels), len(table.column_labels))
    picture = Image.new("RGB", size, m.theme.ground)
    draw = ImageDraw.Draw(picture)
    font = load_font(m.font)
    title_font = load_font(m.title_font)
    title = wrap(table.title, title_font, size[0] - 2 * m.margin, 1)
    _draw_lines(draw, title, title_font, (m.margin, m.margin), m.theme.text, m.line)
    left, top = m.margin + m.row_head, m.margin + m.head
    for column, label in enumerate(table.column_labels):
        x = left + column * (m.cell + m.gap)
        lines = wrap(label, font, m.cell, m.num_head_lines)
        y = top - m.gap - m.line * len(lines)
        _draw_lines(draw, lines, font, (x, y), m.theme.text, m.line, centered_in=m.cell)
    for row, label in enumerate(table.row_labels):
        y = top + row * m.step_y
        lines = wrap(label, font, m.row_head - 2 * m.gap, max(1, m.cell // m.line))
        text_top = y + (m.cell - m.line * len(lines)) // 2
        _draw_lines(draw, lines, font, (m.margin, text_top), m.theme.text, m.line)
        for column in range(len(table.column_labels)):
            _draw_cell(picture, draw, table, m, row, column, (left + column * (m.cell + m.gap), y))
    footer = wrap(table.footer, font, size[0] - 2 * m.margin, 1)
    place = (m.margin, size[1] - m.margin - m.line + m.gap)
    _draw_lines(draw, footer, font, place, m.theme.quiet, m.line)
    return picture


def _draw_cell(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    table: Table,
    m: Measures,
    row: int,
    column: int,
    place: tuple[int, int],
) -> None:
    x, y = place
    image = table.picture(row, column, m.cell)
    if image is None:
        if table.row_labels[row] or table.column_labels[column]:  # a wall just ends
            draw.rectangle((x, y, x + m.cell - 1, y + m.cell - 1), fill=m.theme.empty)
        return
    picture.paste(image, (x + (m.cell - image.width) // 2, y + (m.cell - image.height) // 2))
    if table.caption is not None and m.caption_lines:
        small = load_font(max(8, round(m.font * 0.75)))
        lines = wrap(table.caption(row, column), small, m.cell, m.caption_lines)
        line = round(m.line * 0.8)
        _draw_lines(draw, lines, small, (x, y + m.cell + 2), m.theme.quiet, line)


def _draw_lines(
    draw: ImageDraw.ImageDraw,
    lines: Sequence[str],
    font: Font,
    place: tuple[int, int],
    color: str,
    line_height: int,
    centered_in: int = 0,
) -> None:
    x, y = place
    for number, line in enumerate(lines):
        indent = (centered_in - font.getlength(line)) / 2 if centered_in else 0
        draw.text((x + max(0, indent), y + number * line_height), line, fill=color, font=font)
