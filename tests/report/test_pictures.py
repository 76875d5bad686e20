import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from promptlab.errors import ReportError
from promptlab.report import ReportOptions, publish, write_contact_sheet
from promptlab.report.arrangement import Arrangement
from promptlab.report.best import BestTable, best_of_cells
from promptlab.report.building import _relative_url
from promptlab.report.canvas import load_font, printable, wrap
from promptlab.report.data import collect
from promptlab.report.pdf import _pdf_measures, _pdf_pages, _prompts
from promptlab.report.tables import PictureSource, table_part
from promptlab.store import read_run
from promptlab.verdicts import picks
from tests.painters import PaintModel
from tests.report.runs import make_run

COLORS = [
    (230, 30, 30),
    (30, 200, 60),
    (40, 70, 230),
    (240, 210, 40),
    (220, 60, 220),
    (60, 220, 220),
]


def paint_over(root, colors):
    """Make every image of a run one plain color, by (subject, style, seed); return the colors."""
    rows = sorted(read_run(root).rows(), key=lambda row: (row["job_id"], row["seed"]))
    for row, color in zip(rows, colors, strict=True):
        Image.new("RGB", (160, 160), color).save(Path(root, row["path"]))
    return {
        (row["subject"], row["style"], row["seed"]): color
        for row, color in zip(rows, colors, strict=True)
    }


def tiles_of(path, colors):
    """Return the middle of each color's tile in a picture, by color: (x, y)."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"), np.int16)
    found = {}
    for color in colors:
        ys, xs = np.nonzero((np.abs(pixels - np.array(color)) < 16).all(axis=2))
        if len(xs):
            found[color] = (int(np.median(xs)), int(np.median(ys)))
            assert len(xs) > 0.9 * (np.ptp(xs) + 1) * (np.ptp(ys) + 1), "one whole tile"
    return found


def test_the_png_shows_every_cell_at_its_place(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox", "a robot"], num_seeds=1)
    color_of = paint_over(root, COLORS)
    place = tiles_of(write_contact_sheet(root).contact_sheet_png, COLORS)
    assert len(place) == 6
    for subject in ("a fox", "a robot"):
        row = [place[color_of[subject, style, 0]] for style in ("noto", "openmoji", "twemoji")]
        assert len({y for _, y in row}) == 1, "one subject, one line"
        assert [x for x, _ in row] == sorted({x for x, _ in row}), "styles from left to right"
    for style in ("noto", "openmoji", "twemoji"):
        (x, y), (x2, y2) = (place[color_of[subject, style, 0]] for subject in ("a fox", "a robot"))
        assert x == x2
        assert y < y2


def test_a_picture_of_one_prompt_is_a_wall_of_its_candidates(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=6)
    color_of = paint_over(root, COLORS)
    place = tiles_of(write_contact_sheet(root).contact_sheet_png, COLORS)
    order = sorted(place, key=lambda color: place[color][::-1])
    assert order == [color_of["a fox", "noto", seed] for seed in range(6)], "in reading order"
    assert len({y for _, y in place.values()}) == 2, "two lines"


def test_a_picture_of_one_image_shows_it_large(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=1)
    with Image.open(write_contact_sheet(root).contact_sheet_png) as sheet:
        assert max(sheet.size) > 300


def test_a_picture_with_a_third_axis_shows_it_inside_of_the_columns(tmp_path):
    axes = {"temperature": [0.5, 1.0, 2.0]}
    root = make_run(
        tmp_path / "run", subjects=["a fox"], styles=["noto", "openmoji"], axes=axes, num_seeds=1
    )
    paint_over(root, COLORS)
    place = tiles_of(write_contact_sheet(root).contact_sheet_png, COLORS)
    assert len(place) == 6


def test_a_run_whose_images_all_failed_has_a_page_and_no_picture(tmp_path):
    root = make_run(tmp_path / "run", fails_on="a")
    files = write_contact_sheet(root)
    assert files.num_images == 0
    assert files.contact_sheet_png is None
    assert Path(files.index_html).is_file()


@pytest.mark.slow
def test_a_huge_sheet_shrinks_until_every_viewer_opens_it(tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=[f"s{i}" for i in range(150)],
        styles=[f"t{i}" for i in range(10)],
        num_seeds=1,
        model=PaintModel(size=8),
    )
    with Image.open(write_contact_sheet(root).contact_sheet_png) as sheet:
        assert sheet.width * sheet.height <= 16_000_000


def test_the_pdf_has_pages_with_headers_of_their_own(tmp_path):
    root = make_run(tmp_path / "run", subjects=[f"subject {i}" for i in range(12)], num_seeds=1)
    files = write_contact_sheet(root, ReportOptions(pdf=True))
    (path,) = files.others
    content = Path(path).read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b(?!s)", content)) == 6, "two rows a page"


def test_best_copies_the_chosen_image_of_each_cell_byte_for_byte(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], num_seeds=3)
    chosen = next(r for r in read_run(root).rows() if r["seed"] == 2 and r["style"] == "noto")
    picks.record_picks(root, [picks.Pick(chosen["image_id"], rating=5)])
    files = write_contact_sheet(root, ReportOptions(best=True))
    assert len(files.others) == 3
    copy = next(path for path in files.others if chosen["image_id"] in path)
    assert Path(copy).read_bytes() == Path(root, chosen["path"]).read_bytes()
    assert Path(copy).stem.split("_") == ["noto", chosen["image_id"]], "styles are what varies"


def test_the_animation_has_a_frame_for_each_value_of_its_axis(tmp_path):
    root = make_run(tmp_path / "run", axes={"temperature": [0.5, 1.0, 2.0]}, num_seeds=1)
    files = write_contact_sheet(root, ReportOptions(animate="temperature"))
    for path in files.others:
        with Image.open(path) as animation:
            assert animation.n_frames == 3, path


def test_one_prompt_is_animated_along_its_seeds(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=2)
    for path in write_contact_sheet(root, ReportOptions(animate="seed")).others:
        with Image.open(path) as animation:
            assert animation.n_frames == 2, path


def test_an_animation_along_an_axis_of_one_value_is_refused(tmp_path):
    root = make_run(tmp_path / "run")
    with pytest.raises(ReportError, match="needs 2 to"):
        write_contact_sheet(root, ReportOptions(animate="template"))


def test_a_published_sheet_is_one_file_with_its_picture(tmp_path):
    root = make_run(tmp_path / "run", model=PaintModel(size=200))
    files = publish(root, "demo", reports_dir=str(tmp_path / "reports"))
    assert sorted(p.name for p in (tmp_path / "reports" / "demo").iterdir()) == [
        "contact_sheet.png",
        "index.html",
    ]
    assert '"f":["' in Path(files.index_html).read_text(), "whole images are inside"


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_published_sheet_stays_in_its_folder(tmp_path, name):
    with pytest.raises(ReportError, match="plain folder name"):
        publish(str(tmp_path), name)


def test_labels_are_cut_to_their_lines_and_hold_no_controls():
    font = load_font(15)
    lines = wrap("a very long label " * 40 + "\u202e", font, 100, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert all(font.getlength(line) <= 110 for line in lines)
    assert wrap("x" * 500, font, 100, 1)[0].endswith("…")
    assert printable("a\x00b\u202ec\ud800d\ne") == "a bc?d e"
    assert wrap("", font, 100, 2) == []


def test_a_long_name_breaks_after_its_parts_and_not_within_a_word():
    font = load_font(15)
    width = font.getlength("supercondition_fac")
    assert wrap("supercondition_factor 8", font, width, 3) == ["supercondition_", "factor 8"]
    assert wrap("x" * 30, font, font.getlength("x" * 20), 3) == ["x" * 20, "x" * 10]


def test_the_labels_of_columns_have_the_lines_that_they_need(tmp_path):
    axes = {"temperature": [0.25, 0.5], "a_parameter_with_a_long_name": [1, 2]}
    heights = []
    for names in (["temperature"], [*axes]):
        own = {name: axes[name] for name in names}
        root = make_run(tmp_path / str(len(names)), styles=["noto"], num_seeds=1, axes=own)
        with Image.open(write_contact_sheet(root).contact_sheet_png) as picture:
            heights.append(picture.height)
    assert heights[0] < heights[1]


def test_a_wall_just_ends(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=5)
    paint_over(root, COLORS[:5])
    path = write_contact_sheet(root).contact_sheet_png
    place = tiles_of(path, COLORS[:5])
    with Image.open(path) as picture:
        beyond = (max(x for x, _ in place.values()), max(y for _, y in place.values()))
        assert picture.getpixel(beyond) == picture.getpixel((0, 0))


def test_a_picture_with_tabs_shows_the_models_default_value(tmp_path):
    axes = {"temperature": [0.25, 0.5, 1.0, 2.0, 4.0]}
    root = make_run(
        tmp_path / "run",
        subjects=["a fox", "a robot"],
        styles=["noto", "openmoji"],
        axes=axes,
        num_seeds=1,
    )
    for row in read_run(root).rows():
        color = COLORS[0 if row["temperature"] == 1.0 else 1]
        Image.new("RGB", (160, 160), color).save(Path(root, row["path"]))
    with Image.open(write_contact_sheet(root).contact_sheet_png) as sheet:
        pixels = np.asarray(sheet.convert("RGB"), np.int16)
    has = [(np.abs(pixels - np.array(color)) < 16).all(axis=2).any() for color in COLORS[:2]]
    assert has == [True, False]


@given(st.integers(1, 40), st.integers(1, 20))
def test_every_cell_is_on_one_page_of_the_pdf(num_rows, num_columns):
    best = np.arange(num_rows * num_columns).reshape(num_rows, num_columns)
    table = BestTable(("a",) * num_rows, ("b",) * num_columns, best)
    pages = list(_pdf_pages(table, _pdf_measures(table)))
    seen = [cell for rows, columns in pages for cell in best[rows, columns].flat]
    assert sorted(seen) == list(range(best.size))


def test_a_part_of_a_table_has_the_labels_captions_and_pictures_of_its_cells(foxes):
    data = collect([read_run(foxes)])
    shown = []

    class Source(PictureSource):
        def picture(self, row, px):
            shown.append(row)

    source = Source(data, {}, [])
    table = best_of_cells(data, data.arrangement())
    part = table_part(source, table, slice(1, 3), slice(1, 3), "")
    part.picture(1, 0, 64)
    assert shown == [table.best[2, 1]]
    assert (part.row_labels, part.column_labels) == (
        ("a robot", "a lighthouse"),
        ("openmoji", "twemoji"),
    )
    assert part.caption is None
    prompts = data.texts["prompt"]
    prompt = _prompts(source, table, slice(1, 3), slice(1, 3))(1, 0)
    assert prompt == prompts.values[prompts.codes[table.best[2, 1]]]
    wall = best_of_cells(data, Arrangement("subject", None))
    part = table_part(source, wall, slice(1, 2), slice(None), "")
    width = len(wall.column_labels)
    assert [part.caption(0, i) for i in range(width)] == list(wall.captions[width : 2 * width])


def test_a_page_beside_its_run_and_one_elsewhere_find_the_images(tmp_path):
    root = tmp_path / "a run #1"
    assert _relative_url(root, str(root)) == ""
    assert _relative_url(tmp_path / "out" / "x", str(root)) == "../../a%20run%20%231/"
    assert _relative_url(tmp_path, "s3://bucket/run") is None
