"""Cull, survey, rounds of nine and flipping, with real keys, mouse and touch."""

import time

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from tests.painters import PaintModel
from tests.report.runs import make_run

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PICTURE = """() => { const box = document.querySelector('.pane img').getBoundingClientRect();
    return [box.x, box.y, box.width, box.height]; }"""


@pytest.fixture(scope="module")
def sixty_four(tmp_path_factory):
    """A page of one prompt with 64 seeds."""
    root = make_run(
        tmp_path_factory.mktemp("seeds") / "run",
        subjects=["a fox"],
        styles=["noto"],
        num_seeds=64,
        model=PaintModel(size=32),
    )
    return write_contact_sheet(root, ReportOptions(png=False)).index_html


# -------------------------------------------------------------------- cull


def test_cull_walks_unjudged_images_in_reading_order_and_a_key_goes_on(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("3", "a")
    assert page.page.inner_text(".cull-counts") == "2 of 24 · 1 picked · 23 left"
    first = page.page.inner_text(".cull h2")
    assert first.startswith("a fox · noto"), "the second candidate of the first cell"
    page.keys("5")
    assert page.page.inner_text(".cull h2").startswith("a fox · openmoji")
    page.keys("x", "f", "1")
    assert page.page.inner_text(".cull-counts") == "6 of 24 · 3 picked · 19 left"
    page.keys("u")
    assert page.page.inner_text(".cull-counts") == "5 of 24 · 3 picked · 20 left"
    page.keys("Shift+Digit4")
    assert page.page.inner_text(".cull-verdict") == "4 of 5", "Shift stays"
    page.keys("ArrowLeft")
    assert page.page.inner_text(".cull-verdict") == "favourite"
    name = page.page.inner_text(".cull h2")
    page.keys("f")
    assert page.page.inner_text(".cull h2") == name, "a verdict taken back stays at its image"
    assert page.page.inner_text(".cull-counts") == "4 of 24 · 3 picked · 20 left"
    page.keys("u")
    assert page.page.inner_text(".cull h2") == name
    assert page.page.inner_text(".cull-verdict") == "favourite"


def test_cull_resumes_at_the_first_unjudged_image(browse, sheet):
    page = browse().open(sheet)
    page.keys("a", "5", "x", "Escape")
    page.page.reload()
    page.wait("document.documentElement.dataset.ready === '1'")
    page.keys("a")
    assert page.page.inner_text(".cull-counts").startswith("3 of 24 · 1 picked · 22 left")


def test_at_the_end_of_a_cull_the_picks_are_one_key_away(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], num_seeds=1)
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    page.keys("a", "5", "2", "x")
    counts = page.page.inner_text(".cull-counts")
    assert counts == "3 images judged · 1 picked · 1 rejected · 0 skipped"
    assert page.page.locator(".cull .pane").count() == 1, "the pick"
    page.keys("Enter")
    assert len(page.labels()) == 1
    assert "5 of 5" in page.labels()[0]
    assert page.texts(".wall-caption") == ["noto"]
    page.keys("a")
    assert page.page.locator("dialog[open]").count() == 0
    assert "judged already" in page.toast()


def test_a_cull_of_one_tab_leads_to_the_next(browse, tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=["a fox", "a yak"],
        styles=["noto", "openmoji"],
        axes={"temperature": [0.25, 0.5, 1, 2, 4]},
        num_seeds=1,
    )
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    page.keys("a", "5", "x", "x", "x")
    page.page.click('.cull button:has-text("Next temperature")')
    assert page.page.inner_text(".cull h2").endswith("temperature 2")
    assert page.page.inner_text(".cull-counts") == "1 of 4 · 0 picked · 4 left"


def test_on_a_phone_cull_has_a_bar_swipe_and_double_tap(browse, sheet):
    page = browse(**PHONE).open(sheet)
    page.page.tap('button:has-text("Cull")')
    assert page.page.inner_text(".cull-counts").startswith("1 of 24")
    for button in page.page.locator(".cull-bar button").all():
        box = button.bounding_box()
        assert box["y"] + box["height"] <= 844
        assert box["x"] + box["width"] <= 390
    page.page.tap('.cull-bar button[aria-label="Favourite (F)"]')
    assert page.page.inner_text(".cull-counts").startswith("2 of 24 · 1 picked")
    swipe(page.page, (300, 400), (60, 410))
    assert page.page.inner_text(".cull-counts").startswith("3 of 24 · 1 picked")
    double_tap(page.page, page.page.locator(".cull .stage").bounding_box())
    assert page.page.inner_text(".cull-counts").startswith("4 of 24 · 2 picked")


def swipe(page, start, end):
    """Draw a finger over the screen."""
    touch = page.context.new_cdp_session(page)
    point = lambda at: [{"x": at[0], "y": at[1]}]  # noqa: E731
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": point(start)})
    for step in (0.3, 0.6, 1.0):
        at = [a + (b - a) * step for a, b in zip(start, end, strict=True)]
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": point(at)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(100)


def double_tap(page, box):
    """Tap twice within a sixth of a second, by the events' own times: the machine may be busy."""
    touch = page.context.new_cdp_session(page)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    began_at = time.time()
    for number, kind in enumerate(["touchStart", "touchEnd"] * 2):
        event = {"type": kind, "touchPoints": [point] if kind == "touchStart" else []}
        touch.send("Input.dispatchTouchEvent", {**event, "timestamp": began_at + 0.05 * number})
    page.wait_for_timeout(100)


def test_undo_in_the_large_view_returns_to_the_image_it_was_on(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter", "4", "ArrowRight", "ArrowDown", "u")
    assert page.title()[:2] == ["a fox", "noto"]
    assert page.page.locator(".star.is-on").count() == 0


# -------------------------------------------------------------------- survey


def test_in_a_survey_keys_judge_and_what_is_taken_out_leaves_more_room(browse, sheet):
    page = browse().open(sheet).focus_grid()
    for _ in range(3):
        page.keys("c", "ArrowRight", "c", "ArrowDown", "ArrowLeft")
    page.keys("v")
    assert page.page.locator(".pane").count() == 6
    captions = page.texts(".pane figcaption")
    assert captions[:2] == ["a fox · noto", "a fox · openmoji"], "no seed: all have the same"
    before = page.page.locator(".pane").first.bounding_box()
    page.keys("ArrowRight", "4")
    assert page.texts(".pane figcaption")[1].endswith("4 of 5")
    page.keys("x", "x", "x")
    assert page.page.locator(".pane").count() == 3
    after = page.page.locator(".pane").first.bounding_box()
    assert after["width"] * after["height"] > 1.5 * before["width"] * before["height"]
    page.keys("u")
    assert page.page.locator(".pane").count() == 4


def test_enter_keeps_the_current_image_and_offers_to_reject_the_others(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("c", "ArrowRight", "c", "ArrowRight", "c", "v")
    page.keys("ArrowRight", "ArrowRight", "x")  # taken out: one of the others all the same
    page.page.locator(".pane").nth(1).click()
    page.keys("Enter")
    assert "Reject the other 2" in page.page.inner_text(".survey footer")
    page.keys("Enter")
    page.keys("o")
    fox = [label for label in page.labels() if label.startswith("a fox")]
    assert ["rejected" in label for label in fox] == [False, True, False, False, False, True]
    assert [i for i, label in enumerate(fox) if "favourite" in label] == [2]
    page.keys("u")
    assert not any("rejected" in label for label in page.labels()), "one undo"


def test_on_a_phone_the_tray_of_chosen_images_leads_to_the_survey(browse, sheet):
    page = browse(**PHONE).open(sheet).focus_grid()
    page.keys("c", "ArrowDown", "c")
    page.page.tap('button:has-text("Survey")')
    assert page.page.locator(".survey .pane").count() == 2
    page.page.locator(".survey .pane").nth(1).tap()
    page.page.tap('.survey button[aria-label="Favourite (F)"]')
    page.page.tap('.survey button[aria-label="Close (Esc)"]')
    assert sum("favourite" in label for label in page.labels()) == 1


def test_shift_click_on_a_header_surveys_its_line(browse, sheet):
    page = browse().open(sheet)
    page.page.locator(".col-head").first.click(modifiers=["Shift"])
    assert page.page.locator(".survey .pane").count() == 8


def test_a_survey_of_a_long_line_has_the_cover_of_every_cell(browse, tmp_path):
    styles = [f"style {i}" for i in range(6)]
    root = make_run(tmp_path / "run", subjects=["a fox", "a yak"], styles=styles, num_seeds=4)
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    page.page.locator(".row-head").first.click(modifiers=["Shift"])
    assert page.texts(".pane figcaption") == styles, "24 images do not fit, 6 covers do"


def test_rejected_images_are_not_asked_about_in_rounds(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox", "a yak"], num_seeds=4)
    index = write_contact_sheet(root, ReportOptions(png=False)).index_html
    page = browse().open(index, "#open=0").focus_grid()
    page.keys("x", "t")
    assert page.page.locator(".rounds .pane").count() == 3


# -------------------------------------------------------------------- rounds of nine


def test_the_best_of_64_is_found_in_about_nine_screens_and_survives_a_reload(browse, sixty_four):
    page = browse().open(sixty_four)
    page.page.click('.chip[data-view="all"]')
    page.keys("s")
    page.page.select_option('select[aria-label="Place of seed"]', "")
    page.keys("Escape", "t", "t")
    screens = 0
    while "now" not in page.page.inner_text(".rounds .cull-counts"):
        screens += 1
        assert screens < 12
        page.keys("2", "Enter")
        if screens == 5:
            page.keys("Escape")
            page.page.reload()
            page.wait("document.documentElement.dataset.ready === '1'")
            page.keys("t", "t")
            assert "5 passed" in page.page.inner_text(".rounds .cull-counts")
    assert screens == 9
    assert "The best of 64: now a favourite" in page.page.inner_text(".rounds")
    assert page.page.locator(".pane").count() == 9, "the ranking"
    page.keys("Enter")
    assert sum("favourite" in label for label in page.labels()) == 1


def test_by_touch_several_may_pass_none_too_and_there_is_a_way_back(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], num_seeds=5)
    page = browse(**PHONE).open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    page.page.locator(".slot").first.tap()
    page.page.tap('button:has-text("Best of 5")')
    panes = page.page.locator(".rounds .pane")
    assert panes.count() == 5
    panes.nth(1).tap()
    panes.nth(3).tap()
    page.page.tap('button:has-text("Pass 2")')
    assert panes.count() == 2
    page.page.tap('button:has-text("Back")')
    assert panes.count() == 5
    page.page.tap('button:has-text("None")')
    assert "None passed" in page.page.inner_text(".rounds .cull-counts")


def test_a_favourite_that_wins_again_stays_one(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], num_seeds=5)
    page = browse(**PHONE).open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    for _ in range(2):
        page.page.locator(".slot").first.tap()
        page.page.tap('button:has-text("Best of 5")')
        page.page.locator(".rounds .pane").first.tap()
        page.page.tap('button:has-text("Pass 1")')
        assert "now a favourite" in page.page.inner_text(".rounds .cull-counts")
        page.page.tap('.rounds button:has-text("Done")')
        page.keys("Escape")
        assert sum("favourite" in label for label in page.labels()) == 1


# -------------------------------------------------------------------- flipping


@pytest.mark.parametrize("options", [{}, PHONE])
def test_flipping_moves_nothing_by_a_pixel(browse, sheet, options):
    page = browse(**options).open(sheet).focus_grid()
    page.keys("Enter")
    page.settle()
    before = page.page.evaluate(PICTURE)
    page.keys(" ")
    assert page.page.locator(".lightbox-title .is-flipped").count() == 1
    assert page.page.evaluate(PICTURE) == before
    page.keys(" ")
    assert page.page.evaluate(PICTURE) == before


SHORT_PRESS_OF_A_BUSY_PAGE = """() => {
    const at = document.activeElement;
    const [down, up] = ["keydown", "keyup"].map(
        (type) => new KeyboardEvent(type, {key: " ", code: "Space", bubbles: true}));
    at.dispatchEvent(down);
    const end = performance.now() + 500;
    while (performance.now() < end);
    at.dispatchEvent(up);
}"""


def test_a_short_press_stays_one_however_busy_the_page_is(browse, sheet, tmp_path):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter")
    page.page.evaluate(SHORT_PRESS_OF_A_BUSY_PAGE)
    assert page.title()[1] == "openmoji"
    root = make_run(tmp_path / "run", axes={"temperature": [0.25, 1]}, num_seeds=1)
    page = (
        browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html).focus_grid()
    )
    page.page.evaluate(SHORT_PRESS_OF_A_BUSY_PAGE)
    assert page.page.locator(".flip-pill").is_visible()


def test_holding_space_shows_the_other_and_releasing_shows_this_one(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter")
    page.page.keyboard.down(" ")
    assert page.title()[1] == "openmoji"
    page.page.wait_for_timeout(400)
    page.page.keyboard.up(" ")
    assert page.title()[1] == "noto"
    page.keys("Shift+ ", "Shift+ ")
    assert page.title()[1] == "twemoji", "the next value"
    page.keys(" ", "d")
    assert page.page.get_attribute(".stage", "data-over") == "wipe"
    page.keys("d")
    assert page.page.get_attribute(".stage", "data-over") == "difference"


def test_holding_space_in_the_grid_flips_the_whole_page_in_place(browse, tmp_path):
    root = make_run(tmp_path / "run", axes={"temperature": [0.25, 1, 2, 3, 4]}, num_seeds=1)
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html).settle()
    assert page.page.locator('.tab[aria-selected="true"]').inner_text() == "1"
    boxes = "() => [...document.querySelectorAll('.slot')].map((n) => n.getBoundingClientRect().x)"
    before, labels = page.page.evaluate(boxes), page.labels()
    assert all("temperature 1," in label for label in labels)
    page.focus_grid()
    page.page.keyboard.down(" ")
    page.page.wait_for_timeout(400)
    assert "temperature 0.25" in page.page.inner_text(".flip-pill")
    pill, head = (page.page.locator(each).first.bounding_box() for each in (".flip-pill", ".row"))
    assert pill["y"] > head["y"] + head["height"], "no header lies under the pill"
    assert all("temperature 0.25" in label for label in page.labels())
    assert page.page.evaluate(boxes) == before
    page.keys("5")
    assert "temperature 0.25" in page.ring(), "what is seen is judged"
    assert "5 of 5" in page.ring()
    page.page.keyboard.up(" ")
    assert [label.split(",")[0] for label in page.labels()] == [
        label.split(",")[0] for label in labels
    ]
    page.keys("]")
    assert page.page.locator('.tab[aria-selected="true"]').inner_text() == "2"
