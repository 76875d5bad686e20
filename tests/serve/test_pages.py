"""Served sheets in a real browser: images arrive, verdicts are simply there."""

import time

import pytest

from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, current_picks, record_picks
from tests.serve.drawing import Drawing

pytestmark = pytest.mark.browser

RUN = "20261128_1200_foxes"
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}
SHOWN = """() => [...document.querySelectorAll('.slot:not([hidden]) img')].filter(
    (img) => !img.hidden && img.naturalWidth).length"""


@pytest.fixture
def url(site):
    return f"{site.address}/runs/{RUN}/"


def wait_for_images(page, count):
    page.wait(f"({SHOWN})() === {count}")


def saved(page):
    page.wait("document.querySelector('.toolbar-end').textContent.includes('Saved')")


def forgive_the_dead_connection(page):
    """Leave out what a browser itself logs of requests without a connection."""
    dead = ("ERR_INTERNET_DISCONNECTED", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED")
    page.problems[:] = [p for p in page.problems if not any(word in p for word in dead)]


def test_images_arrive_in_their_cells_and_nothing_that_is_looked_at_moves(browse, drawing, url):
    page = browse(viewport={"width": 500, "height": 420}).open(url, "#size=160&open=1")
    wait_for_images(page, 0)
    assert page.rows() == ["a fox", "a robot", "a lighthouse", "a tiger"], "the plan is there"
    drawing.draw(1)
    wait_for_images(page, 1)
    page.page.evaluate("document.getElementById('scroller').scrollTop = 180")
    page.page.wait_for_timeout(200)
    node = page.page.query_selector(".row-head")
    drawing.draw(23)
    page.wait("document.querySelectorAll('.is-pending').length === 0")
    assert page.page.evaluate("document.getElementById('scroller').scrollTop") == 180
    assert node.is_visible(), "what was there was not made anew"
    assert "24" in page.texts(".chip")[0]


def test_an_open_image_stays_while_others_arrive(browse, drawing, url):
    drawing.draw(2)
    page = browse().open(url)
    wait_for_images(page, 1)
    page.page.locator(".slot").first.click()
    title = page.title()
    page.page.fill(".note", "half a thou")
    drawing.draw(22)
    page.wait("document.querySelectorAll('.slot.is-pending').length === 0")
    assert page.title() == title
    assert page.page.input_value(".note") == "half a thou"


def test_a_run_without_a_plan_grows_below_what_is_looked_at(browse, site, url):
    drawing = Drawing(site.runs_dir / RUN)
    drawing.draw(12)
    page = browse(viewport={"width": 500, "height": 300}).open(url, "#size=160&open=1")
    page.page.evaluate("document.getElementById('scroller').scrollTop = 100")
    assert page.rows() == ["a fox", "a robot"]
    drawing.draw(12)
    page.wait("document.getElementById('plane').getAttribute('aria-rowcount') === '5'")
    assert page.page.evaluate("document.getElementById('scroller').scrollTop") == 100
    page.page.evaluate("document.getElementById('scroller').scrollTop = 9999")
    page.page.wait_for_selector("text=a tiger")
    drawing.close()


def test_the_bar_says_how_far_the_run_is(browse, drawing, url):
    page = browse(**PHONE).open(url)
    drawing.draw(6)
    page.wait("document.querySelector('.live-text').textContent.startsWith('6 of 24')")
    assert page.page.title().startswith("(6/24)")
    assert page.page.locator(".live progress").get_attribute("value") == "6"


def test_a_verdict_is_on_disk_and_survives_a_reload_and_is_on_a_second_device(browse, drawing, url):
    drawing.draw(24)
    phone = browse(**PHONE).open(url).settle()
    laptop = browse().open(url).settle()
    phone.page.locator(".slot").first.tap()
    phone.page.locator(".verdict-bar .favour").tap()
    saved(phone)
    image_id = phone.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('at')")
    assert current_picks(drawing.root)[image_id].is_favourite
    laptop.wait("document.querySelectorAll('.slot.is-favourite').length === 1")
    phone.page.reload()
    phone.wait("document.documentElement.dataset.ready === '1'")
    phone.wait("document.querySelectorAll('.slot.is-favourite').length === 1")
    laptop.focus_grid().keys("x")
    saved(laptop)
    phone.wait("document.querySelectorAll('.slot.is-reject').length === 1")
    laptop.keys("u")
    saved(laptop)
    phone.wait("document.querySelectorAll('.slot.is-favourite').length === 1")
    assert current_picks(drawing.root)[image_id].is_favourite, "undone is on disk as well"


def test_verdicts_without_a_connection_are_kept_and_sent_later(browse, drawing, url):
    drawing.draw(24)
    page = browse().open(url).settle()
    page.focus_grid()
    page.page.context.set_offline(True)
    page.keys("5", "ArrowRight", "4", "ArrowRight", "f")
    page.wait("document.querySelector('.toolbar-end').textContent.includes('3 waiting')")
    assert current_picks(drawing.root) == {}
    page.page.context.set_offline(False)
    saved(page)
    assert len(current_picks(drawing.root)) == 3
    forgive_the_dead_connection(page)


def test_verdicts_outlive_a_tab_that_is_closed_without_a_connection(browse, drawing, url):
    drawing.draw(24)
    page = browse().open(url).settle()
    page.focus_grid()
    context = page.page.context
    context.set_offline(True)
    page.keys("3")
    page.wait("document.querySelector('.toolbar-end').textContent.includes('1 waiting')")
    page.page.close()
    context.set_offline(False)
    again = context.new_page()
    again.goto(url)
    again.wait_for_selector(".toolbar-end button:has-text('Saved')")
    assert [pick.rating for pick in current_picks(drawing.root).values()] == [3]
    forgive_the_dead_connection(page)


def test_a_note_is_sent_when_the_page_is_left_at_once(browse, drawing, url):
    drawing.draw(24)
    page = browse().open(url).settle()
    page.focus_grid().keys("n")
    page.page.keyboard.type("good ears")
    page.page.goto(f"{url}newest")
    give_up_at = time.monotonic() + 8
    while not (said := current_picks(drawing.root)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    assert [pick.note for pick in said.values()] == ["good ears"]


def test_a_server_that_begins_anew_is_found_again(browse, drawing, site, url):
    drawing.draw(3)
    page = browse(viewport={"width": 500, "height": 420}).open(url, "#size=160")
    wait_for_images(page, 2)
    page.page.evaluate("document.getElementById('scroller').scrollTop = 90")
    site.stop()
    page.wait("document.querySelector('.live-text').textContent.includes('No connection')")
    drawing.draw(21)
    site.start()
    page.wait("document.querySelector('.slot') && !document.querySelector('.is-pending')")
    assert page.page.evaluate("document.getElementById('scroller').scrollTop") == 90
    forgive_the_dead_connection(page)


def test_a_friend_rates_blind_and_the_owner_sees_how_far_they_agree(browse, site, drawing, url):
    drawing.draw(24)
    ids = [row["image_id"] for row in read_run(drawing.root).rows()]
    record_picks(drawing.root, [Pick(image_id, rating=5, who="owner") for image_id in ids])
    token = site.tokens.add("rate", "friends")
    friend = browse(**PHONE)
    cookie = {"name": f"promptlab_{site.port}", "value": token, "url": site.address}
    friend.page.context.add_cookies([cookie])
    friend.open(url).settle()
    assert friend.columns() == ["?", "?", "?"]
    assert not any("of 5" in label for label in friend.labels()), "the owner's stars are hidden"
    friend.page.locator(".slot").first.tap()
    friend.page.locator(".verdict-bar .star").nth(4).tap()
    saved(friend)
    owner = browse().open(url, "#margins=1").settle()
    assert owner.texts(".agreement") == ["people agree: 100 % of 1"]


def test_a_link_that_may_only_view_gives_no_verdicts(browse, site, drawing, url):
    drawing.draw(24)
    page = browse()
    token = site.tokens.add("view", "visitor")
    cookie = {"name": f"promptlab_{site.port}", "value": token, "url": site.address}
    page.page.context.add_cookies([cookie])
    page.open(url).settle().focus_grid().keys("5")
    assert "may look" in page.toast()
    assert current_picks(drawing.root) == {}


def test_an_image_gives_rise_to_entries_of_the_queue(browse, site, drawing, url):
    drawing.draw(24)
    page = browse(**PHONE).open(url).settle()
    page.page.locator(".slot").first.tap()
    for words in ("variations", "Enlarge"):
        page.page.get_by_text("Draw …").tap()
        page.page.locator(".menu-item", has_text=words).tap()
        page.wait("document.querySelector('.toast').textContent === 'In the queue: 4 images'")
        page.page.evaluate("document.querySelector('.toast').textContent = ''")
    image_id = page.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('at')")
    vary, enlarge = (entry for entry in site.queue.entries() if entry.source == "sheet")
    assert vary.argv[0] == f"--from-images={image_id}"
    assert f"parent={image_id}" in enlarge.argv
    assert {vary.of, enlarge.of} == {image_id}


def test_other_parameters_are_asked_for_with_those_that_it_has(browse, site, drawing, url):
    drawing.draw(24)
    page = browse().open(url).settle()
    page.page.locator(".slot").first.click()
    page.page.get_by_text("Draw …").click()
    page.page.locator(".menu-item", has_text="other parameters").click()
    page.page.fill("[aria-label=temperature]", "0.5, 2")
    page.page.click(".parameters .primary")
    page.wait("document.querySelector('.toast').textContent.startsWith('In the queue')")
    (entry,) = (entry for entry in site.queue.entries() if entry.source == "sheet")
    assert "temperature=0.5,2" in entry.argv


def test_a_header_draws_more_of_its_line_and_varies_its_picks(browse, site, drawing, url):
    drawing.draw(24)
    page = browse().open(url).settle()
    page.focus_grid().keys("f")
    saved(page)
    page.page.click(".row-head >> nth=0")
    texts = page.texts(".menu-item")
    assert "Draw 8 more seeds of 3 cells" in texts
    page.page.locator(".menu-item", has_text="variations of 1 pick").click()
    page.wait("document.querySelector('.toast').textContent.startsWith('In the queue')")
    (entry,) = (entry for entry in site.queue.entries() if entry.source == "sheet")
    assert entry.argv[0].startswith("--from-images=")


def test_the_ring_stays_on_its_image_and_its_line_when_lines_come_before_them(browse, site, url):
    drawing = Drawing(site.runs_dir / RUN)
    drawing.pending.sort(key=lambda request: "fox" in request.prompt)
    drawing.draw(18)
    by_keys = browse().open(url, "#sortRows=name").settle().focus_grid()
    by_mouse = browse().open(url, "#sortRows=name").settle()
    for pixel in (20, 22):
        head = by_mouse.page.locator(".row-head").first.bounding_box()
        by_mouse.page.mouse.move(head["x"] + pixel, head["y"] + pixel)
    assert by_mouse.texts(".row-head.is-cursor .label:not(.minor)") == ["a lighthouse"]
    drawing.draw(6)
    for page in (by_keys, by_mouse):
        page.wait("document.getElementById('plane').getAttribute('aria-rowcount') === '5'")
        assert page.rows()[0] == "a fox"
    assert by_keys.ring().startswith("a lighthouse · noto · seed 0")
    assert by_mouse.texts(".row-head.is-cursor .label:not(.minor)") == ["a lighthouse"]
    drawing.close()


def test_what_was_judged_stays_in_its_view_while_images_arrive(browse, drawing, url):
    drawing.draw(12)
    page = browse().open(url, "#view=unjudged&open=1&wall=1").settle().focus_grid()
    first, second = page.labels()[:2]
    page.keys("5")
    saved(page)
    drawing.draw(1)
    page.wait("document.querySelectorAll('.slot:not([hidden]) img:not([hidden])').length === 13")
    page.keys("ArrowRight")
    assert page.labels()[0] == first.replace("not judged", "5 of 5")
    assert page.ring() == second


def test_others_change_no_picture_under_the_ring(browse, drawing, url):
    drawing.draw(24)
    page = browse().open(url).settle().focus_grid()
    seen = page.ring()
    other = {
        row["seed"]: row["image_id"]
        for row in read_run(drawing.root).rows()
        if (row["subject"], row["style"]) == ("a fox", "noto")
    }[1]
    record_picks(drawing.root, [Pick(other, rating=5, who="friend")])
    page.wait("document.querySelector('.chips').textContent.includes('Picks')")
    assert page.ring() == seen
    page.keys("x")
    saved(page)
    assert [pick.is_reject for pick in current_picks(drawing.root).values()].count(True) == 1
    assert not current_picks(drawing.root)[other].is_reject


def test_a_note_of_another_device_is_kept_by_who_only_looked(browse, drawing, url):
    drawing.draw(24)
    looking = browse().open(url).settle().focus_grid()
    looking.keys("Enter")
    writing = browse().open(url).settle().focus_grid()
    writing.keys("n")
    writing.page.keyboard.type("good ears")
    writing.keys("Escape")
    saved(writing)
    looking.wait("document.querySelector('.note').value === 'good ears'")
    looking.keys("ArrowRight", "5")
    saved(looking)
    assert sorted(pick.note for pick in current_picks(drawing.root).values()) == ["", "good ears"]
