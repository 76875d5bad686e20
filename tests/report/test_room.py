"""Room on the page: for long texts, for numbers in line, and nothing lies over the pictures."""

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from tests.report.runs import make_run

pytestmark = pytest.mark.browser

LONG_VALUES = ["a_value_with_very_many_characters_in_it", "another_value_as_long_as_that_one"]
OVERFLOWING = """() => [...document.querySelectorAll('.drawer :is(button, select, input)')]
    .filter((node) => node.getClientRects().length)
    .filter((node) => node.getBoundingClientRect().right > innerWidth)
    .map((node) => node.getAttribute('aria-label'))"""


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """A page whose axes have long names and values, and whose prompts are long."""
    root = make_run(
        tmp_path_factory.mktemp("room") / "run",
        subjects=["a fox", "a robot " + "that stands in the rain and " * 60],
        styles=["noto", "twemoji"],
        num_seeds=2,
        axes={"supercondition_factor_of_the_model": LONG_VALUES},
    )
    return write_contact_sheet(root, ReportOptions(png=False)).index_html


def test_the_drawer_holds_long_names_and_values(browse, long_names):
    page = browse().open(long_names)
    page.keys("s")
    for summary in page.page.locator(".drawer .axis summary").all():
        summary.click()
    assert page.page.locator(".values li").count() >= 6
    assert page.page.evaluate(OVERFLOWING) == []
    drawer = page.page.locator(".drawer")
    assert drawer.evaluate("n => n.scrollWidth <= n.clientWidth")


def test_a_long_prompt_is_whole_and_scrolls(browse, long_names):
    page = browse().open(long_names).focus_grid()
    page.keys("ArrowDown", "Enter")
    prompt = page.page.locator(".details .prompt")
    assert prompt.text_content().count("in the rain") == 60
    assert prompt.evaluate("n => n.scrollHeight > n.clientHeight && n.clientHeight > 60")
    prompt.hover()
    page.page.mouse.wheel(0, 5000)
    page.wait("document.querySelector('.details .prompt').scrollTop > 50")
    title = page.page.locator(".lightbox-title span")
    for part in title.all()[1:]:
        box = part.bounding_box()
        assert box["width"] > 30, "what is new is not pushed out by a long subject"
    close = page.page.locator('dialog button[aria-label="Close (Esc)"]').bounding_box()
    assert close["x"] + close["width"] <= 1280


def test_what_was_said_of_one_image_does_not_stay_over_the_next(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter", "5")
    assert page.page.locator(".toast.is-shown").count() == 1
    page.keys("ArrowRight")
    assert page.page.locator(".toast.is-shown").count() == 0
    page.keys("3", "Escape")
    page.page.wait_for_selector("dialog", state="detached")
    assert page.page.locator(".toast.is-shown").count() == 0


def test_the_bars_of_a_margin_begin_and_end_in_line(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("5", "ArrowDown", "x", "ArrowDown", "1", "m")
    page.slot("a tiger · noto").hover()
    page.keys("f")
    for side in (".row-head", ".col-head"):
        boxes = page.page.eval_on_selector_all(
            f"{side} .bar",
            """nodes => nodes.map((n) => { const [a, b] = [n, n.closest('.bars')].map(
                (each) => each.getBoundingClientRect()); return [a.x - b.x, a.width]; })""",
        )
        assert len(boxes) >= 6
        assert len({round(x) for x, _ in boxes}) == 1
        assert len({round(width) for _, width in boxes}) == 1


def test_heat_is_a_frame_and_a_figure_beside_the_visible_picture(browse, sheet):
    page = browse().open(sheet, "#heat=score%3Aagreement").settle()
    slot = page.page.locator(".slot").nth(4)
    heat = page.page.locator(".heat").nth(4)
    assert heat.inner_text() != ""
    picture, figure = slot.bounding_box(), heat.bounding_box()
    assert figure["width"] * figure["height"] < 0.15 * picture["width"] * picture["height"]
    x, y = picture["x"] + picture["width"] / 2, picture["y"] + picture["height"] / 2
    tag = page.page.evaluate(f"document.elementFromPoint({x}, {y}).tagName")
    assert tag == "IMG", "nothing lies over the middle of the picture"
    styles = "n => [getComputedStyle(n).opacity, getComputedStyle(n).filter]"
    assert slot.locator("img").evaluate(styles) == ["1", "none"]
    veil = "n => getComputedStyle(n, '::before').backgroundColor"
    assert page.page.locator(".cell").nth(4).evaluate(veil) == "rgba(0, 0, 0, 0)"


def test_a_click_on_a_picture_lets_it_pass_the_round(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("t")
    page.page.locator(".rounds .pane").nth(1).click()
    assert page.page.locator(".rounds .pane.is-passing").count() == 1
    page.page.click('button:has-text("Pass 1")')
    assert "now a favourite" in page.page.inner_text(".rounds .cull-counts")


def test_focus_is_the_grids_again_after_every_dialog(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("5")
    for opening in ("?", "Enter", "v", "t", "a"):
        page.keys(opening)
        assert page.page.locator("dialog[open]").count() == 1, opening
        page.keys("Escape")
        page.page.wait_for_selector("dialog", state="detached")
        assert page.page.evaluate("document.activeElement.id") == "plane", opening
    page.page.click("text=Save 1")
    page.keys("Escape")
    page.page.wait_for_selector("dialog", state="detached")
    assert page.page.evaluate("document.activeElement.id") == "plane"
    assert page.ring() is not None


@pytest.mark.parametrize("scale", [1, 2])
def test_the_large_view_shows_the_file_itself(browse, tmp_path, scale):
    from tests.painters import PaintModel

    root = make_run(
        tmp_path / "run",
        subjects=["a fox"],
        styles=["noto"],
        num_seeds=1,
        model=PaintModel(size=512),
    )
    index = write_contact_sheet(root, ReportOptions(png=False)).index_html
    page = browse(device_scale_factor=scale).open(index).focus_grid()
    page.keys("Enter")
    page.wait("document.querySelector('.pane img').naturalWidth === 512")


def test_z_goes_close_and_back(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter", "z")
    assert "scale(4)" in page.page.eval_on_selector(".pane img", "n => n.style.transform")
    page.keys("z")
    assert "scale(1)" in page.page.eval_on_selector(".pane img", "n => n.style.transform")


def test_cull_says_what_the_last_key_did(browse, sheet):
    page = browse().open(sheet)
    page.keys("a")
    assert page.page.inner_text(".cull-verdict") == ""
    page.keys("4")
    assert page.page.inner_text(".cull-verdict").endswith("4 of 5 · U takes it back")
    page.keys("u")
    assert page.page.inner_text(".cull-verdict") == ""
