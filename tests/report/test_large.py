"""Large view, survey and rounds: a verdict and a note are of the image that is shown."""

from __future__ import annotations

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from tests.painters import PaintModel
from tests.report.runs import make_run
from tests.report.test_late_packs import HOLD_PACKS

pytestmark = pytest.mark.browser


def leave(page):
    """Close the view that is open, and wait until the grid has the keys."""
    page.keys("Escape")
    page.page.wait_for_selector("dialog", state="detached")


def having(page, words):
    """The images whose label has these words, by subject, style and seed."""
    return [label.split(",")[0] for label in page.labels() if words in label]


def test_in_the_large_view_notes_verdicts_and_choices_are_of_the_image_shown(browse, sheet):
    page = browse().open(sheet, "#open=1").focus_grid()
    page.keys("Enter")
    first = " · ".join(page.title())
    page.keys("n")
    page.page.keyboard.type("x5f gold")  # letters that are keys elsewhere
    page.keys("Escape", " ", " ", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowRight")
    second = " · ".join(page.title())
    assert page.page.input_value(".note") == ""
    page.keys(" ")  # the other style, in place
    flipped = " · ".join(page.title())
    page.keys("4", "c")
    page.page.locator(".candidate").nth(1).click()
    sibling = " · ".join(page.title())
    page.keys("Control+3", "Alt+2", "f")  # a click on a button takes no key from the image
    leave(page)
    assert len({first, second, flipped, sibling}) == 4
    assert having(page, "has a note") == [first]
    assert having(page, "4 of 5") == [flipped]
    assert having(page, "favourite") == [sibling]
    assert page.page.locator(".slot.is-chosen").get_attribute("aria-label").startswith(flipped)
    assert page.ring().startswith(sibling)
    assert not having(page, "rejected") + having(page, "3 of 5") + having(page, "2 of 5")
    page.keys("Enter", " ")
    leave(page)
    assert page.ring().startswith(sibling), "a flip is left behind"


def test_who_is_kept_in_a_survey_and_what_comes_back_are_the_images_pointed_at(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.page.locator(".row-head").first.click(modifiers=["Shift"])
    names = page.texts(".pane figcaption")
    assert len(names) == 6
    page.keys("ArrowRight", "x", "End", "ArrowRight", "x", "u", "u")
    assert page.texts(".pane figcaption") == names, "each is back in its place"
    page.keys("x", "3", "u", "2", "ArrowLeft", "ArrowLeft", "f", "Enter")
    leave(page)
    page.keys("o")
    assert [name.split(" · ", 1)[1] for name in having(page, "2 of 5")] == [names[1]]
    assert [name.split(" · ", 1)[1] for name in having(page, "3 of 5")] == [names[2]]
    favourites = [name.split(" · ", 1)[1] for name in having(page, "favourite")]
    assert favourites == [names[0]], "one already, and kept as one"


def test_who_passes_the_rounds_are_the_images_that_were_marked(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=11)
    index = write_contact_sheet(root, ReportOptions(png=False)).index_html
    page = browse().open(index, "#rows=").focus_grid()
    page.keys("t")

    def seeds():
        return [name.split("seed ")[1] for name in page.texts(".rounds figcaption")]

    shown = seeds()
    assert len(shown) == 6, "even screens"
    page.keys("4", "2", "5", "5", "Enter")
    others = seeds()
    assert len(others) == 5
    page.keys("1", "u")
    assert seeds() == shown, "back"
    page.keys("5", "4", "5", "2", "Enter")
    assert seeds() == others
    page.keys("1", "Enter")
    assert seeds() == [shown[1], shown[3], others[0]], "in their order, whoever was marked first"
    page.keys("3", "Enter")
    assert seeds()[0] == others[0], "the best of all comes first"
    assert set(seeds()[1:3]) == {shown[1], shown[3]}, "and those who got as far"
    page.keys("Enter")
    page.page.wait_for_selector("dialog", state="detached")
    assert [name.rpartition("seed ")[2] for name in having(page, "favourite")] == [others[0]]


def test_undo_in_a_cull_returns_to_the_image_it_takes_back_and_the_ring_is_on_the_last(
    browse, sheet
):
    page = browse().open(sheet, "#open=1").focus_grid()
    page.keys("a", "5", "ArrowRight", "x", "ArrowRight")
    judged = page.labels()
    page.keys("u")
    title = page.page.inner_text(".cull h2")
    page.keys("Control+4")
    leave(page)
    assert page.ring().startswith(title)
    assert having(page, "rejected") == having(page, "4 of 5") == []
    assert having(page, "5 of 5") == [judged[0].split(",")[0]]
    page.keys("u")
    assert having(page, "5 of 5") == []


def test_a_note_that_is_undone_stays_undone(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("n")
    page.page.keyboard.type("good ears")
    page.keys("Escape")
    page.wait("document.querySelector('.note').value === 'good ears'")
    page.keys("u")
    page.wait("document.querySelector('.note').value === ''")
    page.keys("ArrowRight", "ArrowLeft")
    assert page.page.input_value(".note") == ""


def test_a_double_click_or_a_held_key_does_nothing_to_what_it_brought_up(browse, sheet):
    page = browse(viewport={"width": 390, "height": 844}).open(sheet).focus_grid()
    page.keys("c", "ArrowDown", "c", "v")
    page.page.locator("text=Keep this one").dblclick()
    assert page.page.locator("text=Reject the other").is_visible(), "which nobody answered"
    page.keys("Escape", "v")
    page.page.keyboard.down("Enter")
    page.page.keyboard.down("Enter")  # held
    assert page.page.locator(".survey").count() == 1
    page.page.keyboard.up("Enter")
    assert "✕" not in "".join(page.texts(".chip"))


def test_no_picture_is_shown_for_another_image_while_its_own_is_on_its_way(browse, tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=[f"subject {i:03}" for i in range(150)],
        styles=["noto"],
        num_seeds=1,
        model=PaintModel(size=16),
    )
    index = write_contact_sheet(root, ReportOptions(single_file_mb=0, png=False)).index_html
    page = browse()
    page.page.add_init_script(HOLD_PACKS)
    page.open(index)
    page.wait("window.numHeld() > 0")
    page.page.evaluate("window.deliver()")
    page.focus_grid().keys("Enter")
    picture = (
        "[...document.querySelectorAll('.pane img')].map((i) => [i.style.visibility, i.src])[0]"
    )
    before = ""
    for _ in range(149):
        page.keys("ArrowDown")
        visibility, source = page.page.evaluate(picture)
        if visibility == "hidden":
            break
        assert source != before
        before = source
    assert visibility == "hidden"
    page.wait(f"(window.deliver(), ({picture})[0] === '')")
    assert page.page.evaluate(picture)[1] != before


def test_after_a_cull_the_ring_is_on_a_pick_that_is_looked_at(browse, sheet):
    page = browse().open(sheet, "#wall=1").focus_grid()
    page.keys("a", *["f"] * 23, "x")
    page.page.wait_for_selector("text=Look at the 23 picks")
    page.keys("Enter")
    page.wait("!document.querySelector('dialog')")
    assert page.ring() in page.labels()


def test_a_button_that_is_made_anew_may_be_clicked_quickly(browse, sheet):
    page = browse().open(sheet, "#open=1").focus_grid()
    page.keys(*["c", "ArrowRight"] * 3, "v")
    page.page.locator("text=Take out").dblclick()
    assert page.page.locator(".survey .pane").count() == 1
