"""What a page shows of different sweeps: walls, tabs, chips, labels, sharp pictures, headers."""

import itertools
from pathlib import Path

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.store import read_run
from promptlab.verdicts import picks
from tests.painters import PaintModel
from tests.report.runs import make_run

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def sheet_of(folder, **options):
    root = make_run(folder / "run", **options)
    return write_contact_sheet(root, ReportOptions(png=False)).index_html


def chips(page):
    return dict(zip(page.texts(".chip > :first-child"), page.texts(".chip-count"), strict=True))


# -------------------------------------------------------------------- what fits the sweep


@pytest.mark.parametrize("options", [{}, PHONE])
def test_a_sweep_over_subjects_alone_fills_the_width(browse, tmp_path, options):
    subjects = [f"subject {i}" for i in range(20)]
    index = sheet_of(tmp_path, subjects=subjects, styles=["noto"], num_seeds=1)
    page = browse(**options).open(index).settle()
    width = page.page.viewport_size["width"]
    boxes = [slot.bounding_box() for slot in page.page.locator(".slot:not([hidden])").all()]
    assert max(box["x"] + box["width"] for box in boxes) > 0.8 * width
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.texts(".wall-caption")[:2] == ["subject 0", "subject 1"]
    page.focus_grid()
    page.keys("ArrowRight", "ArrowRight")
    assert page.ring().startswith("subject 2")


def test_one_image_is_shown_large(browse, tmp_path):
    index = sheet_of(tmp_path, subjects=["a fox"], styles=["noto"], num_seeds=1)
    page = browse().open(index).settle()
    assert page.page.locator(".slot").bounding_box()["width"] == 4 * 48
    assert page.page.locator(".toolbar-axes").is_hidden()


def test_a_third_axis_is_inside_of_the_cells_or_a_row_of_tabs(browse, tmp_path):
    few = sheet_of(tmp_path / "few", axes={"temperature": [0.5, 1.0, 2.0]}, num_seeds=1)
    page = browse().open(few)
    assert page.texts(".inner-heads span")[:2] == ["temperature 0.5", "temperature 1"]
    page = browse().open(few, "#size=64")
    assert page.texts(".inner-heads span")[:3] == ["0.5", "1", "2"], "no room for the name"
    many = sheet_of(tmp_path / "many", axes={"temperature": [0.5, 1, 2, 3, 4]}, num_seeds=1)
    page = browse().open(many)
    assert page.texts(".tab") == ["0.5", "1", "2", "3", "4"]
    assert len(page.labels()) == 12
    page.page.click('.tab:has-text("4")')
    assert all("temperature 4" in label for label in page.labels())
    assert "tab.temperature=" in page.hash()


def test_images_are_as_large_as_the_window_lets_them(browse, tmp_path):
    index = sheet_of(tmp_path, subjects=["a fox", "a robot"], model=PaintModel(size=512))
    page = browse(viewport={"width": 1600, "height": 1000}).open(index)
    page.keys("o")
    assert page.page.locator(".slot").first.bounding_box()["width"] > 400


def test_three_columns_of_small_images_fill_a_wide_window(browse, tmp_path):
    index = sheet_of(tmp_path, num_seeds=1, model=PaintModel(size=160))
    page = browse(viewport={"width": 1600, "height": 1000}).open(index)
    boxes = [slot.bounding_box() for slot in page.page.locator(".slot").all()]
    assert max(box["x"] + box["width"] for box in boxes) > 1300
    assert sum(box["y"] + box["height"] <= 1000 for box in boxes) >= 6, "two whole rows"


def test_three_rows_are_seen_at_once(browse, tmp_path):
    index = sheet_of(tmp_path, subjects=["a fox", "a robot", "a yak"], num_seeds=1)
    page = browse().open(index)
    bottom = max(
        slot.bounding_box()["y"] + slot.bounding_box()["height"]
        for slot in page.page.locator(".slot").all()
    )
    assert 800 < bottom <= 900


def test_on_a_hidpi_screen_large_cells_show_the_file_and_small_ones_the_thumbnail(browse, tmp_path):
    index = sheet_of(tmp_path, model=PaintModel(size=512), num_seeds=1)
    sharp = browse(device_scale_factor=2).open(index, "#size=150").settle()
    widths = sharp.page.eval_on_selector_all(".slot img", "n => n.map(i => i.naturalWidth)")
    assert set(widths) == {512}
    plain = browse().open(index, "#size=150").settle()
    widths = plain.page.eval_on_selector_all(".slot img", "n => n.map(i => i.naturalWidth)")
    assert set(widths) == {160}


# The words of columns' labels that stand on more than one line.
TORN_WORDS = """() => [...document.querySelectorAll('.col-head .label')].flatMap((label) => {
  const walker = document.createTreeWalker(label, NodeFilter.SHOW_TEXT);
  const torn = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (const word of node.data.matchAll(/\\p{L}+/gu)) {
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) torn.push(word[0]);
    }
  }
  return torn;
})"""


def test_labels_break_between_words_and_drop_what_all_begin_with(browse, tmp_path):
    styles = [f"art/{name}" for name in ("abstract_expressionism", "art_deco", "high_contrast")]
    index = sheet_of(tmp_path, styles=styles, num_seeds=1)
    page = browse().open(index, "#size=72")
    assert page.columns() == ["abstract expressionism", "art deco", "high contrast"]
    for node in page.page.locator(".col-head .label").all():
        assert node.evaluate("n => n.scrollWidth <= n.clientWidth + 1 || n.offsetWidth > 0")
    lines = (
        page.page.locator(".col-head .label")
        .nth(2)
        .evaluate(
            "n => { const r = document.createRange(); r.selectNodeContents(n);"
            " return new Set([...r.getClientRects()].map((b) => b.top)).size; }"
        )
    )
    assert lines == 2, "high / contrast"
    assert browse().open(index, "#size=104").page.evaluate(TORN_WORDS) == []


def test_any_sheet_is_a_wall_of_all_its_images_and_back(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("ArrowDown", "w")
    assert len(page.labels()) == 24
    assert page.texts(".wall-caption")[0] == "a foxnotoseed 0"
    assert page.ring().startswith("a robot · noto"), "the ring stays with its image"
    again = browse().open(sheet, page.hash())
    assert len(again.labels()) == 24
    page.keys("w")
    assert page.rows() == ["a fox", "a robot", "a lighthouse", "a tiger"]


def test_a_view_of_few_images_is_a_wall_until_the_person_wants_rows_and_columns(browse, sheet):
    page = browse().open(sheet).focus_grid()
    for name in ("a fox · noto", "a robot · twemoji", "a tiger · openmoji"):
        page.slot(name).hover()
        page.keys("f")
    page.page.click('.chip[data-view="favourites"]')
    tops = {slot.bounding_box()["y"] for slot in page.page.locator(".slot:visible").all()}
    assert len(tops) == 1, "side by side, no empty cell between them"
    assert page.texts(".wall-caption")[0].startswith("a foxnoto")
    page.keys("w")
    assert page.rows() == ["a fox", "a robot", "a tiger"], "lines without an image are folded away"
    page.keys("w")
    page.page.click('.chip[data-view="all"]')
    page.keys("w")
    assert len(page.rows()) == 4


# -------------------------------------------------------------------- chips


def test_chips_count_and_filter_and_a_pick_means_one_thing(browse, tmp_path):
    index = sheet_of(tmp_path, fails_on="a fox, noto", unseen="foxes", num_seeds=1)
    page = browse().open(index)
    assert chips(page) == {"All": "12", "Unjudged": "11", "Failed": "1", "Unknown words": "11"}
    page.slot("a robot · noto").hover()
    page.keys("3", "ArrowRight", "2", "ArrowRight", "f", "ArrowDown", "x")
    shown = chips(page)
    assert {name: shown[name] for name in ("Picks", "★≥3", "♥", "✕", "Unjudged")} == {
        "Picks": "2",
        "★≥3": "1",
        "♥": "1",
        "✕": "1",
        "Unjudged": "7",
    }
    page.page.click('.chip[data-view="picks"]')
    assert [label.split(",")[0] for label in page.labels()] == [
        "a robot · noto",
        "a robot · twemoji",
    ]
    page.page.click('.chip[data-view="failures"]')
    assert [label.split(",")[0] for label in page.labels()] == ["a fox · noto"]


def test_unknown_words_are_marked_on_pictures_only_where_some_have_none(browse, tmp_path):
    every = make_run(tmp_path / "every", unseen="foxes", num_seeds=1)
    page = browse().open(write_contact_sheet(every, ReportOptions(png=False)).index_html)
    assert set(page.texts(".slot .mark")) == {""}
    assert "unknown words in every prompt" in page.page.inner_text(".summary")
    other = make_run(tmp_path / "other", params={"temperature": 0.5}, num_seeds=1)
    both = write_contact_sheet([every, other], ReportOptions(output=str(tmp_path / "both")))
    page = browse().open(both.index_html)
    assert "?" in page.texts(".slot .mark")
    assert "unknown" not in page.page.inner_text(".summary")


def test_the_threshold_of_a_pick_is_set_once(browse, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTLAB_PICK_RATING", "5")
    page = browse().open(sheet_of(tmp_path, num_seeds=1)).focus_grid()
    page.keys("4", "ArrowRight", "5")
    assert chips(page)["Picks"] == "1"


def test_a_failure_inside_of_a_stack_is_counted(browse, tmp_path):
    page = browse().open(sheet_of(tmp_path, fails_on="fox", num_seeds=3))
    assert "9 failed" in page.page.inner_text(".summary")
    assert page.texts(".mark")[:3] == ["3✕"] * 3


# -------------------------------------------------------------------- headers


def test_a_header_has_a_menu_that_filters_and_sorts(browse, sheet):
    page = browse().open(sheet)
    page.page.locator(".col-head").nth(1).click()
    page.page.click('.menu-item:has-text("Hide openmoji")')
    assert page.columns() == ["noto", "twemoji"]
    page.page.locator(".row-head").nth(3).click()
    page.page.click('.menu-item:has-text("Only a tiger")')
    assert page.rows() == ["a tiger"]
    page.page.locator(".row-head").first.click()
    page.page.click('.menu-item:has-text("Show all of subject")')
    page.page.locator(".row-head").first.click()
    page.page.click('.menu-item:has-text("Sort rows by mean agreement")')
    assert page.rows()[0] == "a tiger"


def test_a_header_is_dragged_to_another_place(browse, sheet):
    page = browse().open(sheet)
    page.page.locator(".col-head").nth(2).drag_to(page.page.locator(".col-head").nth(0))
    assert page.columns() == ["twemoji", "noto", "openmoji"]
    assert page.page.locator(".menu").count() == 0
    again = browse().open(sheet, page.hash())
    assert again.columns() == ["twemoji", "noto", "openmoji"]


def test_a_reload_with_a_menu_open_or_esc_changes_nothing(browse, sheet):
    page = browse().open(sheet)
    page.page.locator(".col-head").first.click()
    page.keys("ArrowDown", "Escape")
    assert page.page.locator(".menu").count() == 0
    assert page.columns() == ["noto", "openmoji", "twemoji"]


# -------------------------------------------------------------------- alike


def test_candidates_are_ordered_by_look_and_near_duplicates_fold(browse, tmp_path):
    from PIL import Image

    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=6)
    colors = [(250, 0, 0), (0, 0, 250), (248, 2, 0), (0, 250, 0), (3, 0, 250), (252, 0, 2)]
    for row in read_run(root).rows():
        Image.new("RGB", (48, 48), colors[row["seed"]]).save(Path(root, row["path"]))
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    page.keys("s")
    page.page.select_option('select[aria-label="Sort rows"]', "look")
    seeds = [int(label.split("seed ")[1].split(",")[0]) for label in page.labels()]
    groups = [{0, 2, 5}, {1, 4}, {3}]
    runs = [next(i for i, group in enumerate(groups) if seed in group) for seed in seeds]
    changes = sum(a != b for a, b in itertools.pairwise(runs))
    assert changes == 2, "similar ones stand side by side"
    page.page.check('input[aria-label="Near duplicates as one"]')
    assert len(page.labels()) == 3
    assert sorted(page.texts(".slot:not([hidden]) .mark")) == ["", "≈1", "≈2"]


def test_the_same_pixels_in_another_cell_are_marked(browse, tmp_path):
    root = make_run(
        tmp_path / "run", subjects=["a fox"], num_seeds=1, unpainted=["noto", "twemoji"]
    )
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    assert page.texts(".mark") == ["", "", "="]
    assert page.page.locator(".mark").nth(2).get_attribute("title") == ("the same pixels as noto")


# -------------------------------------------------------------------- people and parents


def test_what_two_people_said_is_told_and_a_third_starts_afresh(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=1)
    (row,) = read_run(root).rows()
    picks.record_picks(
        root,
        [
            picks.Pick(row["image_id"], rating=5, who="ann", note="gold"),
            picks.Pick(row["image_id"], is_reject=True, who="bob"),
        ],
    )
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    assert "5 of 5" in page.labels()[0]
    page.keys("Enter", "Enter")
    details = page.page.inner_text(".details")
    assert "ann, 5 of 5" in details
    assert "bob, rejected" in details


def test_a_parent_in_another_run_is_a_picture_that_opens_that_runs_page(browse, tmp_path):
    parent = make_run(tmp_path / "first", subjects=["a fox"], styles=["noto"], num_seeds=1)
    write_contact_sheet(parent, ReportOptions(png=False))
    parent_id = read_run(parent).rows(["image_id"])[0]["image_id"]
    child = make_run(tmp_path / "second", params={"top_k": 8}, parent_ids=[parent_id])
    page = browse().open(write_contact_sheet(child, ReportOptions(png=False)).index_html)
    page.focus_grid()
    page.keys("Enter")
    page.wait("document.querySelector('.relative img').naturalWidth > 0")
    with page.page.context.expect_page() as opened:
        page.page.click(".relative")
    opened.value.wait_for_selector("dialog .details")
    assert parent_id in opened.value.inner_text("dialog .details")
