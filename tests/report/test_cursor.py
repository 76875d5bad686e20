"""One visible ring: the image that has it is what a key judges. With real mouse and keys."""

import base64
import functools
import http.server
import re
import threading

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.report.thumbnails import ThumbnailCache
from promptlab.store import read_run
from tests.painters import PaintModel
from tests.report.browsing import Page
from tests.report.runs import make_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def long_sheet(tmp_path_factory):
    """A page of 40 rows, several windows high."""
    root = make_run(
        tmp_path_factory.mktemp("long") / "run",
        subjects=[f"subject {i:02}" for i in range(40)],
        num_seeds=3,
        model=PaintModel(size=16),
        embed_images=False,
    )
    return write_contact_sheet(root, ReportOptions(png=False)).index_html


def rated(page):
    """The labels of all images with stars."""
    return [label for label in page.labels() if "of 5" in label]


def test_the_first_key_on_a_fresh_page_shows_the_ring_and_judges_nothing(browse, long_sheet):
    page = browse().open(long_sheet)
    page.keys("5")
    assert rated(page) == []
    assert page.ring().startswith("subject 00 · noto")
    page.keys("5")
    assert [label.split(",")[0] for label in rated(page)] == ["subject 00 · noto · seed 0"]


def test_the_ring_follows_the_pointer_and_the_wheel(browse, long_sheet):
    page = browse().open(long_sheet)
    page.slot("subject 01 · noto").hover()
    assert page.ring().startswith("subject 01 · noto")
    height = page.slot("subject 01 · noto").bounding_box()["height"]
    page.page.mouse.wheel(0, height + 6)
    page.page.wait_for_timeout(300)
    assert page.ring().startswith("subject 02 · noto"), "before any key"
    page.keys("2")
    (label,) = rated(page)
    assert label.startswith("subject 02 · noto"), "what is under the pointer now"
    assert page.ring() == label


def test_a_key_while_the_ring_is_off_screen_brings_it_back_and_judges_nothing(browse, long_sheet):
    page = browse().open(long_sheet).focus_grid()
    page.page.evaluate("document.getElementById('scroller').scrollTop = 3000")
    page.page.wait_for_timeout(200)
    page.keys("1")
    assert page.page.evaluate("document.getElementById('scroller').scrollTop") == 0
    assert rated(page) == []
    page.keys("1")
    assert [label.split(" · ")[0] for label in rated(page)] == ["subject 00"]


def test_the_ring_stays_with_its_image_through_stacks_views_and_sorting(browse, long_sheet):
    page = browse().open(long_sheet).focus_grid()
    page.keys("ArrowDown", "o", "ArrowDown")
    assert page.ring().startswith("subject 01 · noto · seed 2")
    page.keys("4", "p", "p")
    assert page.ring().startswith("subject 01 · noto · seed 2")
    page.keys("s")
    page.page.select_option('select[aria-label="Sort rows"]', "rating")
    assert page.ring().startswith("subject 01 · noto · seed 2")
    assert page.rows()[0] == "subject 01"


def test_the_ring_is_on_the_image_that_was_large_when_the_large_view_closes(browse, long_sheet):
    page = browse().open(long_sheet).focus_grid()
    page.keys("o", "Enter", ".", ".", "ArrowDown", "Escape")
    assert page.ring().startswith("subject 01 · noto · seed 2")
    page.keys("3")
    assert [label.split(",")[0] for label in rated(page)] == ["subject 01 · noto · seed 2"]


@pytest.mark.parametrize("control", ["stacks", "select", "slider", "chip", "drawer"])
def test_after_a_control_keys_judge_the_image_under_the_pointer(browse, long_sheet, control):
    page = browse().open(long_sheet)
    if control == "stacks":
        page.page.click("text=Open stacks")
    elif control == "select":
        page.page.focus('select[aria-label="Columns"]')
        page.page.select_option('select[aria-label="Columns"]', "style")
    elif control == "slider":
        page.page.locator('.toolbar input[type="range"]').click()
    elif control == "drawer":
        page.keys("s")
        page.page.click('#drawer input[type="checkbox"] >> nth=0', click_count=2)
    else:
        page.page.click('.chip[data-view="unjudged"]')
    assert page.page.evaluate("document.activeElement.id") == "plane", "before the mouse moves"
    page.slot("subject 01 · openmoji").first.hover()
    page.keys("f")
    assert page.ring().startswith("subject 01 · openmoji · seed 0")
    assert "favourite" in page.ring()
    assert page.page.locator('.chip[aria-pressed="true"]').get_attribute("data-view") in (
        "all",
        "unjudged",
    )


def test_the_mouse_on_an_image_takes_the_keys_from_a_control(browse, long_sheet):
    page = browse().open(long_sheet)
    page.page.focus('select[aria-label="Columns"]')
    page.slot("subject 01 · noto").hover()
    page.keys("f")
    assert "favourite" in page.ring()
    assert page.page.input_value('select[aria-label="Columns"]') == "style"


def test_letters_go_into_the_search_and_not_to_the_images(browse, long_sheet):
    page = browse().open(long_sheet).focus_grid()
    page.keys("/")
    page.page.keyboard.type("x5 f")
    assert page.page.input_value(".find") == "x5 f"
    page.page.fill(".find", "")
    page.keys("Escape", "f", "f")  # the first shows the ring: its image was filtered away
    assert "favourite" in page.ring()


def test_the_bar_on_the_image_under_the_mouse_judges_it_and_opens_nothing(browse, long_sheet):
    page = browse().open(long_sheet)
    slot = page.slot("subject 01 · noto").first
    slot.hover()
    slot.locator(".hover-bar button").nth(1).click()
    assert "favourite" in page.ring()
    assert page.page.locator("dialog[open]").count() == 0


def test_a_key_on_a_header_judges_the_whole_line_with_one_undo(browse, sheet):
    page = browse().open(sheet)
    page.page.hover(".row-head >> nth=1")
    page.keys("x")
    assert page.page.locator(".slot.is-reject").count() == 3
    assert "6 images" in page.toast()
    page.keys("u")
    assert page.page.locator(".slot.is-reject").count() == 0


def test_a_rectangle_and_ctrl_click_choose_images_that_keys_judge_together(browse, sheet):
    page = browse().open(sheet)
    first = page.slot("a fox · noto").bounding_box()
    last = page.slot("a robot · openmoji").bounding_box()
    page.page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.page.mouse.down()
    page.page.mouse.move(last["x"] + 40, last["y"] + 40, steps=5)
    page.page.mouse.up()
    assert page.page.locator(".slot.is-chosen").count() == 4
    assert page.page.locator("dialog[open]").count() == 0
    page.slot("a tiger · twemoji").click(modifiers=["Control"])
    page.keys("4")
    assert len(rated(page)) == 5
    page.keys("Escape")
    assert page.page.locator(".slot.is-chosen").count() == 0
    page.slot("a fox · noto").hover()
    page.keys("1")
    assert len([label for label in page.labels() if "1 of 5" in label]) == 1


def test_an_image_beside_the_chosen_ones_is_judged_alone(browse, sheet):
    page = browse().open(sheet)
    for name in ("a fox · noto", "a robot · noto"):
        page.slot(name).click(modifiers=["Control"])
    page.slot("a tiger · twemoji").hover()
    page.keys("4")
    (label,) = rated(page)
    assert label.startswith("a tiger · twemoji")


def test_a_note_being_typed_survives_a_reload(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("n")
    page.page.keyboard.type("half a sent")
    other = Page(page.page.context.new_page()).open(sheet)  # as after a crash: nothing was left
    assert any("has a note" in label for label in other.labels())
    other.page.close()
    page.page.reload()
    page.wait("document.documentElement.dataset.ready === '1'")
    assert any("has a note" in label for label in page.labels())


def test_all_keys_are_told_and_the_first_visit_has_a_hint(browse, sheet):
    page = browse().open(sheet)
    assert "favourite" in page.page.inner_text(".hint-line")
    page.keys("?")
    assert "cull" in page.page.inner_text("dialog")
    page.keys("Escape", "5", "5")
    assert page.page.locator(".hint-line").count() == 0, "it goes with the first verdict"
    page.page.reload()
    page.wait("document.documentElement.dataset.ready === '1'")
    assert page.page.locator(".hint-line").count() == 0


class HoldingHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; the first pack of thumbnails waits for `go_on`."""

    go_on = threading.Event()

    def do_GET(self):
        if "pack-00000" in self.path:
            self.go_on.wait(60)
        super().do_GET()

    def log_message(self, *args):
        pass


def test_a_slot_used_again_while_its_pack_loads_shows_its_new_image(browse, tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=[f"subject {i:03}" for i in range(150)],
        styles=["noto", "openmoji"],
        num_seeds=1,
        model=PaintModel(size=16),
    )
    write_contact_sheet(root, ReportOptions(png=False, single_file_mb=0))
    kept = ThumbnailCache(root, 160).read()
    webp = {image_id: thumbnail.webp for (image_id, _), thumbnail in kept.items()}
    row_of = {(r["subject"], r["style"]): r["image_id"] for r in read_run(root).rows()}
    handler = functools.partial(HoldingHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browse().open(f"http://127.0.0.1:{server.server_port}/run/index.html")
        for top in range(0, 24_000, 600):
            page.page.evaluate(f"document.getElementById('scroller').scrollTop = {top}")
            page.page.wait_for_timeout(15)
        page.settle()
        with page.page.expect_event("requestfinished", lambda r: "pack-00000" in r.url):
            HoldingHandler.go_on.set()
        page.page.wait_for_timeout(300)
        shown = page.page.eval_on_selector_all(
            ".slot:not([hidden])", "n => n.map(i => [i.title, i.querySelector('img').src])"
        )
        server.shutdown()
    assert len(shown) > 8
    for title, src in shown:
        subject, style = re.split(" · ", title)[:2]
        assert base64.b64decode(src.partition(",")[2]) == webp[row_of[subject, style]], title


@pytest.mark.parametrize("key", ["Enter", "n", "a", "v", "t", "?"])
def test_escape_leaves_at_once_before_the_next_key_is_read(browse, sheet, key):
    page = browse().open(sheet).focus_grid()
    page.keys("c", "ArrowRight", "c", "ArrowDown", key)
    page.page.evaluate(
        """() => {
            const dialog = document.querySelector("dialog[open]");
            dialog.addEventListener("cancel", () => queueMicrotask(() => {
                window.isLeft = !document.querySelector("dialog"); })); }"""
    )
    page.keys(*["Escape"] * (1 + (key == "n")))
    assert page.page.evaluate("window.isLeft")
